/**
 * `p2pd nc ADDR`: joins standard input and output with a peer, through the daemon where one runs, else through a
 * node inside this process. Ends when both directions have; at a terminal, when the peer has.
 */
import { P2pdError, toP2pdError } from "../../core/errors.ts";
import type { ByteStream, World } from "../../core/net/world.ts";
import { splice } from "../splice.ts";
import { type ApiClient, askDaemon, createApiClient } from "./api-client.ts";
import { openPath } from "./open.ts";
import type { Settings } from "./settings.ts";
import { type StdioStream, stdioStream } from "./stdio-stream.ts";
import type { Terminal } from "./terminal.ts";

const MAXIMUM_HEAD = 16_384;

export async function runNc(settings: Settings, address: string, service?: string): Promise<number> {
  const client = createApiClient(settings);
  const name = `nc-${randomName(settings.world)}`;
  const opened = await askDaemon(settings, openPath(name, address, service));
  if (opened === undefined) {
    settings.log.debug("no daemon answers; the node is in this process", { expected: client.where });
    return withoutDaemon(settings, address, service);
  }
  try {
    const stream = await client.connect();
    await carry(settings.terminal, async (stdio) => joinOverHttp(client, stream, name, stdio));
  } finally {
    await forget(settings, client, name);
  }
  return 0;
}

async function withoutDaemon(settings: Settings, address: string, service?: string): Promise<number> {
  const { withNode } = await import("./with-node.ts");
  await withNode(settings, async (node) => {
    const connection = await node.open("nc", address, service === undefined ? {} : { service });
    await carry(settings.terminal, async (stdio) => {
      await connection.pipe.join(stdio);
    });
  });
  return 0;
}

/** Gives standard input and output to `join`, and waits for their end or a signal. */
async function carry(terminal: Terminal, join: (stdio: StdioStream) => Promise<void>): Promise<void> {
  const stdio = stdioStream(terminal.input(), terminal.output);
  const signals = terminal.signals();
  void signals.received.then((signal) => {
    stdio.abort(new P2pdError("aborted", `stopped by ${signal}`));
  });
  const ends: Promise<P2pdError | undefined>[] = [stdio.closed];
  if (terminal.isInteractive) ends.push(stdio.printed.then(() => undefined));
  // What the join says is the reason, where it fails before the streams are joined; afterwards they say it.
  const failed = join(stdio).then(
    async () => Promise.race(ends),
    (thrown: unknown) => toP2pdError(thrown),
  );
  const reason = await Promise.race([...ends, failed]);
  signals.stop();
  if (reason !== undefined) throw reason;
}

/** Turns `stream` into the pipe of a connection by `Upgrade: p2pd`, and joins it with `stdio`. */
function joinOverHttp(
  client: ApiClient,
  stream: ByteStream,
  name: string,
  stdio: StdioStream,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let seen = new Uint8Array(0);
  stream.attach({
    data(bytes) {
      seen = Buffer.concat([seen, bytes]);
      const text = Buffer.from(seen.buffer, seen.byteOffset, seen.length).toString("latin1");
      const end = text.indexOf("\r\n\r\n");
      if (end >= 0 && text.startsWith("HTTP/1.1 101 ")) {
        if (seen.length > end + 4) stdio.write(seen.subarray(end + 4));
        splice(stdio, stream);
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
async function forget({ log }: Settings, client: ApiClient, name: string): Promise<void> {
  try {
    await client.request(`/p2p/con/${name}`, "DELETE");
  } catch (thrown) {
    log.debug("the connection was gone already", { name, reason: toP2pdError(thrown).message });
  }
}

function randomName(world: World): string {
  return Buffer.from(world.randomBytes(9)).toString("base64url");
}
