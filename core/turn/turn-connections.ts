/**
 * Connections with peers over a TCP allocation (RFC 6062): asked for, or accepted when a peer has come to the relayed
 * address. Each is a connection of its own with the server, which carries the peer's octets once it is bound.
 */
import { P2pdError } from "../errors.ts";
import { type Endpoint, familyOf, formatEndpoint } from "../ip.ts";
import { resumeStream } from "../net/resume-stream.ts";
import type { ByteStream, World } from "../net/world.ts";
import { attribute, type Attribute } from "../wire/stun-attributes.ts";
import { decodeStun, encodeStun, readAttribute, type StunMessage, verifyIntegrity } from "../wire/stun.ts";
import { CONNECT, CONNECTION_BIND, CONNECTION_ID, XOR_PEER_ADDRESS } from "../wire/turn.ts";
import type { TurnAllocation } from "./turn-allocation.ts";
import { turnError } from "./turn-error.ts";
import { connectToServer, type LinkOptions } from "./turn-link.ts";
import type { Signature, TurnLogin } from "./turn-login.ts";

/** RFC 6062 section 4.3: a server tries for 30 s at least. */
const CONNECT_TIMEOUT_MS = 35_000;
const SIGN_TRIES = 4;
const HEADER_OCTETS = 20;
const ANSWER_MAX_LENGTH = 2048;

type ConnectWorld = Parameters<typeof connectToServer>[0] & Pick<World, "time" | "randomBytes">;

/** Lets the server connect to a peer. Rejects with `unreachable` (447), `name-taken` (446), `refused` (403) and others. */
export async function connectPeer(
  world: ConnectWorld,
  allocation: TurnAllocation,
  link: LinkOptions,
  login: TurnLogin,
  peer: Endpoint,
): Promise<ByteStream> {
  const answer = await allocation.ask(CONNECT, [attribute(XOR_PEER_ADDRESS, peer)], CONNECT_TIMEOUT_MS);
  const id = readAttribute(answer, CONNECTION_ID);
  if (id === undefined) throw new P2pdError("protocol", "the TURN server connected without an id");
  return bindPeer(world, allocation, link, login, id, peer);
}

/** The stream of a connection that the server told of. Rejects as `connectToServer` does, and with refusals. */
export async function bindPeer(
  world: ConnectWorld,
  allocation: TurnAllocation,
  link: LinkOptions,
  login: TurnLogin,
  id: number,
  peer: Endpoint,
): Promise<ByteStream> {
  const stream = await connectToServer(world, link);
  const local = allocation.relayed.find(({ ip }) => familyOf(ip) === familyOf(peer.ip)) ?? stream.local;
  for (let tries = 1; ; tries++) {
    const signature = login.sign();
    const request = encodeBind(world.randomBytes(12), id, signature);
    const { message, rest } = await exchangeOnce(world, stream, request, link);
    if (message.class === "success") {
      if (
        signature !== undefined &&
        verifyIntegrity(message, signature.integrity.key, signature.integrity.hash)
      ) {
        return resumeStream(stream, rest, { local, remote: peer });
      }
      stream.abort();
      throw new P2pdError("protocol", `${formatEndpoint(link.server)} bound a connection without proof`);
    }
    if (tries === SIGN_TRIES || !login.learn(message, signature)) {
      stream.abort();
      throw turnError(message, link.server);
    }
  }
}

function encodeBind(transactionId: Uint8Array, id: number, signature: Signature | undefined): Uint8Array {
  const attributes: Attribute[] = [attribute(CONNECTION_ID, id), ...(signature?.attributes ?? [])];
  return encodeStun({
    class: "request",
    method: CONNECTION_BIND,
    transactionId,
    attributes,
    ...(signature === undefined
      ? {}
      : { integrity: { key: signature.integrity.key, hashes: [signature.integrity.hash] } }),
  });
}

/** Sends a request and takes exactly its answer off the stream, which is paused then; what came behind is `rest`. */
function exchangeOnce(
  world: Pick<World, "time">,
  stream: ByteStream,
  request: Uint8Array,
  { server, timeoutMs }: LinkOptions,
): Promise<{ message: StunMessage; rest: Uint8Array }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ message: StunMessage; rest: Uint8Array }>();
  let soFar = Buffer.alloc(0);
  let isDone = false;
  const fail = (error: P2pdError): void => {
    if (isDone) return;
    isDone = true;
    timer.cancel();
    stream.abort(error);
    reject(error);
  };
  const where = formatEndpoint(server);
  const timer = world.time.after(timeoutMs, () =>
    fail(new P2pdError("timeout", `${where} did not bind a connection within ${timeoutMs} ms`)),
  );
  stream.attach({
    data(bytes) {
      if (isDone) return;
      soFar = Buffer.concat([soFar, bytes]);
      const size = soFar.length < 4 ? ANSWER_MAX_LENGTH : HEADER_OCTETS + soFar.readUInt16BE(2);
      if (size > ANSWER_MAX_LENGTH) return fail(new P2pdError("protocol", `${where} sent no answer of TURN`));
      if (soFar.length < size) return;
      const message = decodeStun(new Uint8Array(soFar.subarray(0, size)));
      const isAnswer =
        typeof message !== "string" && Buffer.compare(message.transactionId, request.subarray(8, 20)) === 0;
      if (!isAnswer) return fail(new P2pdError("protocol", `${where} sent no answer to our request`));
      isDone = true;
      timer.cancel();
      stream.pause();
      resolve({ message, rest: new Uint8Array(soFar.subarray(size)) });
    },
    drain() {},
    end: () => fail(new P2pdError("closed", `${where} ended the connection before it was bound`)),
    close: (error) => fail(error ?? new P2pdError("closed", `${where} closed the connection`)),
  });
  stream.resume();
  stream.write(request);
  return promise;
}
