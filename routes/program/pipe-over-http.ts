/** A connection of the daemon, joined with a stream of this process, and what belongs to that. */
import { P2pdError, toP2pdError } from "../../core/errors.ts";
import type { ByteStream, World } from "../../core/net/world.ts";
import { splice } from "../splice.ts";
import type { ApiClient } from "./api-client.ts";
import type { Settings } from "./settings.ts";

const MAXIMUM_HEAD = 16_384;

/** Turns `stream` into the pipe of a connection by `Upgrade: p2pd`, and joins it with `local`. */
export function joinOverHttp(
  client: ApiClient,
  stream: ByteStream,
  name: string,
  local: ByteStream,
  ended: () => void = () => undefined,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let seen = new Uint8Array(0);
  stream.attach({
    data(bytes) {
      seen = Buffer.concat([seen, bytes]);
      const text = Buffer.from(seen.buffer, seen.byteOffset, seen.length).toString("latin1");
      const end = text.indexOf("\r\n\r\n");
      if (end >= 0 && text.startsWith("HTTP/1.1 101 ")) {
        if (seen.length > end + 4) local.write(seen.subarray(end + 4));
        splice(local, stream, ended);
        resolve();
      } else if (isWhole(text, end) || seen.length > MAXIMUM_HEAD) stream.abort(refusal(client, text));
    },
    drain: () => undefined,
    end: () => {
      stream.abort(refusal(client, new TextDecoder().decode(seen)));
    },
    close: (error) => {
      reject(error ?? refusal(client, new TextDecoder().decode(seen)));
    },
  });
  const headers = { ...client.headers, connection: "Upgrade", upgrade: "p2pd" };
  const lines = Object.entries(headers).map(([key, value]) => `${key}: ${value}\r\n`);
  stream.write(new TextEncoder().encode(`GET /p2p/pipe/${name} HTTP/1.1\r\n${lines.join("")}\r\n`));
  return promise;
}

/** Whether an answer that begins with `text` has come to its end; `head` is where its head ends, or -1. */
function isWhole(text: string, head: number): boolean {
  const length = /\r\ncontent-length: *([0-9]+)\r\n/i.exec(text)?.[1];
  return head >= 0 && length !== undefined && text.length >= head + 4 + Number(length);
}

function refusal(client: ApiClient, answer: string): P2pdError {
  const message = /"msg":("(?:[^"\\]|\\.)*")/.exec(answer)?.[1];
  const said =
    message === undefined ? `the daemon on ${client.where} refused the pipe` : String(JSON.parse(message));
  return new P2pdError("refused", said);
}

/** The connection was made for this command alone. */
export async function forget({ log }: Settings, client: ApiClient, name: string): Promise<void> {
  try {
    await client.request(`/p2p/con/${name}`, "DELETE");
  } catch (thrown) {
    log.debug("the connection was gone already", { name, reason: toP2pdError(thrown).message });
  }
}

export function randomName(world: World): string {
  return Buffer.from(world.randomBytes(9)).toString("base64url");
}
