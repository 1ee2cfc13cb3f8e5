/** A daemon in a process and data directory of its own, for benchmarks and for tests of the whole program. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Daemon extends AsyncDisposable {
  readonly port: number;
  readonly pid: number;
  /** GETs a path of the API and returns its JSON. */
  get(path: string, init?: RequestInit): Promise<Record<string, unknown>>;
}

/** Starts a daemon on a free port and waits for the line that says it answers. */
export async function startDaemon(
  environment: Readonly<Record<string, string>> = {},
  command: readonly string[] = [process.execPath, join(import.meta.dir, "../index.ts")],
): Promise<Daemon> {
  const dataDir = mkdtempSync(join(tmpdir(), "p2pd-whole-"));
  const child = Bun.spawn([...command], {
    cwd: dataDir,
    env: {
      ...process.env,
      P2PD_DATA_DIR: dataDir,
      P2PD_API_PORT: "0",
      P2PD_LISTEN_PORT: "0",
      P2PD_STUN_SERVERS: "",
      P2PD_PORT_MAPPING: "off",
      P2PD_MQTT_BROKERS: "",
      P2PD_NTP_SERVERS: "",
      P2PD_LAB: undefined,
      ...environment,
    },
    stdout: "pipe",
    stderr: "inherit",
    stdin: "ignore",
  });
  const port = await readPort(child.stdout);
  return {
    port,
    pid: child.pid,
    get: async (path, init) =>
      (await (
        await fetch(`http://127.0.0.1:${port}${path}`, { keepalive: false, ...init })
      ).json()) as Record<string, unknown>,
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await child.exited;
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

async function readPort(output: ReadableStream<Uint8Array>): Promise<number> {
  let text = "";
  const decoder = new TextDecoder();
  const reader = output.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`the daemon ended before it answered; it printed: ${text}`);
    text += decoder.decode(value, { stream: true });
    const match = /http:\/\/[^/]*:([0-9]+)\//.exec(text);
    if (match !== null) {
      // Whatever else it prints is read and dropped, so that its output never fills the pipe.
      void (async () => {
        while (!(await reader.read()).done);
      })();
      return Number(match[1]);
    }
  }
}
