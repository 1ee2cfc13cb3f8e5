/**
 * Octets through a pipe of two daemons that `p2pd infra` relays, in a UDP allocation (QUIC end to end) and in a TCP
 * allocation (RFC 6062, TLS end to end), beside the same two daemons with coturn. The server has the first core, the daemons
 * and their load share the second and are slower than it; so what counts is also told for a second of the server's own
 * processor time.
 */
import { startMosquitto } from "../core/signal/brokers.ts";
import { type Daemon, startDaemon } from "../daemon-process.ts";
import { printRatio } from "./figures.ts";
import { throughPipe } from "./through-pipe.ts";
import { type BenchServer, withBothServers } from "./turn-server-pair.ts";

const PAIRS = 3;
const WAYS = [
  { what: "pipe relayed by UDP", path: "relay/turn-udp", query: "", mebibytes: 128 },
  { what: "pipe relayed by TCP", path: "relay/turn-tcp", query: "&transport=tcp", mebibytes: 512 },
] as const;

interface Measured {
  readonly rate: number;
  readonly perCpuSecond: number;
}

interface Pair {
  readonly server: BenchServer;
  readonly near: Daemon;
  readonly farId: string;
}

export async function benchRelayedPipe(): Promise<void> {
  const broker = await startMosquitto();
  try {
    await withBothServers(async (servers) => {
      await using stack = new AsyncDisposableStack();
      const pairs = {
        ours: await startPair(servers.ours, broker.url, stack),
        theirs: await startPair(servers.theirs, broker.url, stack),
      };
      for (const way of WAYS) {
        const measured: Record<keyof typeof pairs, Measured[]> = { ours: [], theirs: [] };
        for (let pair = 0; pair < PAIRS; pair++) {
          for (const name of ["ours", "theirs"] as const)
            measured[name].push(await measure(pairs[name], way));
        }
        const figures = (name: keyof Measured) =>
          [measured.ours.map((one) => one[name]), measured.theirs.map((one) => one[name])] as const;
        printRatio(way.what, "MB/s", "coturn", ...figures("rate"));
        printRatio(way.what, "MB per second of the server's core", "coturn", ...figures("perCpuSecond"));
      }
    });
  } finally {
    await broker.close();
  }
}

/** Two daemons that know this server and a broker. */
async function startPair(server: BenchServer, brokerUrl: string, stack: AsyncDisposableStack): Promise<Pair> {
  const settings = {
    P2PD_MQTT_BROKERS: brokerUrl,
    P2PD_TURN_SERVERS: `turn:user:pass@127.0.0.1:${server.port}`,
    P2PD_INTERFACES: "lo",
  };
  const near = stack.use(await startDaemon(settings));
  const far = stack.use(await startDaemon(settings));
  for (const daemon of [near, far]) while (!(await isConnected(daemon))) await Bun.sleep(25);
  return { server, near, farId: String((await far.get("/p2p/addr"))["id"]) };
}

async function isConnected(daemon: Daemon): Promise<boolean> {
  const { parts } = (await daemon.get("/p2p/status")) as { parts: { part: string; state: string }[] };
  return parts.some(({ part, state }) => part === "brokers" && state === "up");
}

async function measure({ server, near, farId }: Pair, way: (typeof WAYS)[number]): Promise<Measured> {
  const query = `&strategies=relay&relay=first${way.query}`;
  const cpu = server.cpu();
  const rate = await throughPipe(near, "relayed", farId, way.mebibytes, { query, path: way.path });
  return { rate, perCpuSecond: (way.mebibytes * 1.048576) / (server.cpu() - cpu) };
}
