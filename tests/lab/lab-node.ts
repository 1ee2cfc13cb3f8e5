/**
 * A p2pd daemon on a host of a laboratory, spoken to over its local socket, which needs no network. Each is a machine
 * of its own: it sees another machine id than its neighbours in the same file system.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Lab } from "./laboratory.ts";
import { linesOf } from "./natbox-control.ts";

const PROGRAM = join(import.meta.dir, "../../index.ts");

export type Answer = Record<string, unknown>;

export interface LabNode {
  readonly addr: () => Promise<string>;
  readonly id: string;
  /** The answer to a GET, whatever its status. */
  get(path: string): Promise<Answer>;
  put(path: string, body: object): Promise<Answer>;
  /** Polls the status until a part has this state. */
  until(part: string, state: string): Promise<void>;
  /** Runs the program's command on the same host, with this daemon. */
  program(command: string): Promise<string>;
  /** Starts a command of the program that goes on. */
  start(command: readonly string[]): Bun.Subprocess<"pipe", "pipe", "pipe">;
  stop(): Promise<void>;
  /** Ends it as a crash does. */
  kill(): Promise<void>;
}

export interface LabNodeOptions {
  readonly brokers?: readonly string[];
  readonly stun?: string;
  /** Nodes with the same name are on one machine. */
  readonly machine?: string;
  readonly name?: string;
  /** Flags as they are typed, quotes included: a shell reads them. */
  readonly flags?: string;
  /** `direct,reverse`; every one unless given. */
  readonly strategies?: string;
  /** Settings of its environment. */
  readonly env?: Readonly<Record<string, string>>;
}

export async function startLabNode(lab: Lab, host: string, options: LabNodeOptions = {}): Promise<LabNode> {
  const name = options.name ?? host;
  const directory = join(lab.directory, `node-${name}`);
  mkdirSync(directory, { recursive: true });
  const socket = join(directory, "api");
  const machineFile = join(directory, "machine-id");
  await Bun.write(machineFile, new Bun.CryptoHasher("md5").update(options.machine ?? name).digest("hex"));
  const env = {
    P2PD_DATA_DIR: directory,
    P2PD_API_SOCKET: socket,
    P2PD_API_PORT: "0",
    P2PD_STUN_SERVERS: options.stun ?? "",
    P2PD_MQTT_BROKERS: (options.brokers ?? []).join(","),
    P2PD_NTP_SERVERS: "",
    P2PD_PORT_MAPPING: "off",
    ...options.env,
    NO_PROXY: "*",
    ...(options.strategies === undefined ? {} : { P2PD_STRATEGIES: options.strategies }),
  };
  const words = [process.execPath, PROGRAM];
  const asMachine = `[ -e /etc/machine-id ] || : > /etc/machine-id; mount --bind ${machineFile} /etc/machine-id && exec "$@"`;
  const typed = ["sh", "-c", `exec "$@" ${options.flags ?? ""}`, "sh", ...words];
  const isolated = ["unshare", "--mount", "sh", "-c", asMachine, "sh", ...typed];
  const daemon = lab.host(host).spawn(isolated, { env, cwd: directory });
  const lines = linesOf(daemon.stdout)[Symbol.asyncIterator]();
  const { value } = await lines.next();
  if (value === undefined)
    throw new Error(`no daemon on ${host}: ${await new Response(daemon.stderr).text()}`);
  void drain(lines);
  const request = async (path: string, init: RequestInit = {}): Promise<Answer> => {
    const response = await fetch(`http://localhost${path}`, { ...init, unix: socket });
    return (await response.json()) as Answer;
  };
  const shellEnv = Object.entries(env).map(([key, text]) => `${key}='${text}'`);
  return {
    id: String((await request("/p2p/addr"))["id"]),
    addr: async () => String((await request("/p2p/addr"))["addr"]),
    get: (path) => request(path),
    put: (path, body) =>
      request(path, {
        method: "PUT",
        body: JSON.stringify(body),
        headers: { "content-type": "application/json" },
      }),
    async until(part, state) {
      for (let left = 400; left > 0; left--) {
        const parts = (await request("/p2p/status"))["parts"] as { part: string; state: string }[];
        if (parts.some((one) => one.part === part && one.state === state)) return;
        await Bun.sleep(25);
      }
      throw new Error(`${part} of ${name} is not ${state}: ${JSON.stringify(await request("/p2p/status"))}`);
    },
    async program(command) {
      const line = `${shellEnv.join(" ")} sh -c '${command.replaceAll("p2pd nc", `${words.join(" ")} nc`)}'`;
      const { stdout, stderr, code } = await lab.host(host).run(["sh", "-c", line]);
      if (code !== 0) throw new Error(`${command}: ${stderr}`);
      return stdout;
    },
    start: (command) => lab.host(host).spawn([...words, ...command], { env, cwd: directory }),
    async stop() {
      daemon.kill("SIGTERM");
      await daemon.exited;
    },
    async kill() {
      daemon.kill("SIGKILL");
      await daemon.exited;
    },
  };
}

async function drain(lines: AsyncIterator<string>): Promise<void> {
  while ((await lines.next()).done !== true);
}

/** The middle one. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}
