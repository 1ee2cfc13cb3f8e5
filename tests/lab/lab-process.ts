/**
 * A process of a laboratory that tests may freeze, thaw and kill: servers on the internet, miniupnpd on a
 * router. Waiting for it to be ready is part of starting it.
 */
import { P2pdError } from "../../core/errors.ts";
import { enterNamespace, tryCommand } from "./shell.ts";

export interface LabProcess extends AsyncDisposable {
  readonly name: string;
  readonly pid: number;
  /** Stops it where it stands: its sockets stay, and nothing answers (SIGSTOP). */
  freeze(): void;
  thaw(): void;
  /** Ends it at once, as a crash does. */
  kill(): Promise<void>;
  /** Writes a line to its standard input. */
  tell(line: string): Promise<void>;
}

const READY_MS = 10_000;

/** Starts a command in a namespace and waits until `ready` says so; rejects with `unavailable` if it never does. */
export async function startProcess(
  namespace: string,
  name: string,
  words: readonly string[],
  ready: () => Promise<boolean>,
): Promise<LabProcess> {
  const child = Bun.spawn([...enterNamespace(namespace), ...words], {
    stdin: "pipe",
    stdout: "ignore",
    stderr: "pipe",
  });
  let ended = false;
  let said = "";
  const watching = (async () => {
    const decoder = new TextDecoder();
    for await (const chunk of child.stderr) said = (said + decoder.decode(chunk)).slice(-2000);
    await child.exited;
    ended = true;
  })();
  const kill = async (): Promise<void> => {
    child.kill("SIGKILL");
    await child.exited;
  };
  const deadline = performance.now() + READY_MS;
  while (!(await ready())) {
    if (ended || performance.now() > deadline) {
      await kill();
      await watching;
      throw new P2pdError(
        "unavailable",
        `${name} did not start: ${said.trim() === "" ? "it said nothing" : said.trim()}`,
      );
    }
    await Bun.sleep(20);
  }
  return {
    name,
    pid: child.pid,
    freeze: () => child.kill("SIGSTOP"),
    thaw: () => child.kill("SIGCONT"),
    kill,
    async tell(line) {
      void child.stdin.write(`${line}\n`);
      await child.stdin.flush();
    },
    [Symbol.asyncDispose]: kill,
  };
}

/** Whether something listens on a TCP port of a namespace, or has a UDP port. */
export async function hasPort(namespace: string, protocol: "tcp" | "udp", port: number): Promise<boolean> {
  const files = [`/proc/self/net/${protocol}`, `/proc/self/net/${protocol}6`];
  const { stdout } = await tryCommand([...enterNamespace(namespace), "cat", ...files]);
  const hex = port.toString(16).toUpperCase().padStart(4, "0");
  return new RegExp(`^ *[0-9]+: [0-9A-F]+:${hex} [0-9A-F]+:0000 `, "m").test(stdout);
}
