/**
 * Servers on the internet of a laboratory: coturn, mosquitto, and of our own an NTP server, an echo server and
 * a STUN server that lies. Each is started when asked for, at addresses of its own, and may be frozen, thawed
 * or killed while it runs.
 */
import type { Endpoint } from "../../core/ip.ts";
import { INTERNET } from "../nat/topologies.ts";
import type { LabPlan } from "../nat/lab-plan.ts";
import { hasPort, startProcess } from "./lab-process.ts";
import type { LabProcess } from "./lab-process.ts";
import { labDirectory } from "./lab-registry.ts";
import { requireTools } from "./preflight.ts";
import { enterNamespace, tryCommand } from "./shell.ts";

export type LabServer = LabProcess & { readonly endpoint: Endpoint };

/** The ways in which our STUN server may lie; `honest` is none. */
export const STUN_LIES = ["honest", "ignores-change-request", "wrong-source", "wrong-address"] as const;
export type StunLie = (typeof STUN_LIES)[number];

export interface LabServers {
  /**
   * coturn at two addresses, ports 3478 and 3479, with RFC 5780's CHANGE-REQUEST, IPv4 and IPv6, UDP and TCP.
   * User `lab`, password `lab`, realm `lab`.
   */
  coturn(options?: {
    readonly arguments?: readonly string[];
  }): Promise<LabServer & { readonly alternate: Endpoint }>;
  /** An MQTT broker for everyone at port 1883; several may run, at numbers 0 to 3. */
  mosquitto(number?: number): Promise<LabServer>;
  /** An NTP server whose clock is wrong by `errorMs`, which may be changed while it runs; numbers 0 to 3. */
  ntp(errorMs?: number, number?: number): Promise<LabServer & { setError(errorMs: number): Promise<void> }>;
  /** UDP and TCP echo at port 7. */
  echo(): Promise<LabServer>;
  /** A STUN server at two addresses and two ports that may lie; its lie may be changed; numbers 0 to 2. */
  stun(
    lie?: StunLie,
    number?: number,
  ): Promise<LabServer & { readonly alternate: Endpoint; setLie(lie: StunLie): Promise<void> }>;
  /** Starts any command in the internet's namespace and waits until `ready` says so. */
  start(name: string, words: readonly string[], ready: () => Promise<boolean>): Promise<LabProcess>;
  /** Whether something listens on a TCP port of the internet's namespace. */
  listensTcp(port: number): Promise<boolean>;
  stopAll(): Promise<void>;
}

/** Which server addresses are whose; 20 to 23 are free for tests. */
const ADDRESS = { coturn: 0, stun: [2, 16, 18], echo: 4, mosquitto: 5, ntp: 9 } as const;

export function createServers(plan: LabPlan): LabServers {
  const running = new Set<LabProcess>();
  const directory = labDirectory(plan.id);
  const start: LabServers["start"] = async (name, words, ready) => {
    const process = await startProcess(plan.internet, name, words, ready);
    running.add(process);
    return process;
  };
  const own = (file: string, ...words: string[]): string[] => [
    process.execPath,
    new URL(`./servers/${file}`, import.meta.url).pathname,
    ...words,
  ];
  const file = async (name: string, text: string): Promise<string> => {
    await Bun.write(`${directory}/${name}`, text);
    return `${directory}/${name}`;
  };
  const at = (index: number, port: number): Endpoint => ({ ip: INTERNET.serverIp4(index), port });
  return {
    start,
    listensTcp: (port) => hasPort(plan.internet, "tcp", port),
    async coturn(options = {}) {
      requireTools(["turnserver"]);
      const [first, second] = [ADDRESS.coturn, ADDRESS.coturn + 1];
      const addresses = [first, second].flatMap((index) => [
        INTERNET.serverIp4(index),
        INTERNET.serverIp6(index),
      ]);
      const words = [
        "turnserver",
        "-n",
        "--no-cli",
        "--no-tls",
        "--no-dtls",
        "--lt-cred-mech",
        "--user=lab:lab",
        "--realm=lab",
        "--listening-port=3478",
        "--alt-listening-port=3479",
        "--no-stdout-log",
        `--log-file=${directory}/coturn.log`,
        `--pidfile=${directory}/coturn.pid`,
        `--userdb=${directory}/coturn.db`,
        ...addresses.flatMap((ip) => [`--listening-ip=${ip}`, `--relay-ip=${ip}`]),
        ...(options.arguments ?? []),
      ];
      const coturn = await start("coturn", words, () => hasPort(plan.internet, "tcp", 3479));
      return { ...coturn, endpoint: at(first, 3478), alternate: at(second, 3479) };
    },
    async mosquitto(number = 0) {
      requireTools(["mosquitto"]);
      const endpoint = at(ADDRESS.mosquitto + number, 1883);
      const listeners = [endpoint.ip, INTERNET.serverIp6(ADDRESS.mosquitto + number)].map(
        (ip) => `listener 1883 ${ip}\n`,
      );
      const path = await file(
        `mosquitto-${number}.conf`,
        `${listeners.join("")}allow_anonymous true\nuser root\nset_tcp_nodelay true\n`,
      );
      const probe = ["bash", "-c", `exec 3<>/dev/tcp/${endpoint.ip}/1883`];
      const broker = await start("mosquitto", ["mosquitto", "-c", path], () =>
        succeeds(plan.internet, probe),
      );
      return { ...broker, endpoint };
    },
    async ntp(errorMs = 0, number = 0) {
      const endpoint = at(ADDRESS.ntp + number, 123);
      const ready = `${directory}/ntp-${number}.ready`;
      const server = await start(
        "NTP server",
        own("ntp-server.ts", endpoint.ip, String(errorMs), ready),
        () => exists(ready),
      );
      return { ...server, endpoint, setError: (error) => server.tell(String(error)) };
    },
    async echo() {
      const endpoint = at(ADDRESS.echo, 7);
      const words = own("echo-server.ts", endpoint.ip, INTERNET.serverIp6(ADDRESS.echo));
      return { ...(await start("echo server", words, () => hasPort(plan.internet, "tcp", 7))), endpoint };
    },
    async stun(lie = "honest", number = 0) {
      const index = ADDRESS.stun[number] as number;
      const [first, second] = [at(index, 3478), at(index + 1, 3479)];
      const ready = `${directory}/stun-${number}.ready`;
      const server = await start("STUN server", own("lying-stun.ts", first.ip, second.ip, lie, ready), () =>
        exists(ready),
      );
      return { ...server, endpoint: first, alternate: second, setLie: (next) => server.tell(next) };
    },
    async stopAll() {
      await Promise.all([...running].map((one) => one.kill()));
      running.clear();
    },
  };
}

function exists(path: string): Promise<boolean> {
  return Bun.file(path).exists();
}

async function succeeds(namespace: string, words: readonly string[]): Promise<boolean> {
  return (await tryCommand([...enterNamespace(namespace), ...words])).code === 0;
}
