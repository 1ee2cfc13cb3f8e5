/**
 * `p2pd nc ADDR`: joins standard input and output with a peer, through the daemon where one runs, else through a
 * node inside this process. Ends when both directions have; at a terminal, when the peer has.
 */
import { P2pdError, toP2pdError } from "../../core/errors.ts";
import { askDaemon, createApiClient } from "./api-client.ts";
import { openPath } from "./open.ts";
import { forget, joinOverHttp, randomName } from "./pipe-over-http.ts";
import type { Settings } from "./settings.ts";
import { type StdioStream, stdioStream } from "./stdio-stream.ts";
import type { Terminal } from "./terminal.ts";

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
