/**
 * Many octets through a punched pipe over a line that loses packets, beside iperf3 through the same two routers.
 * `lab.ts` prints it, `punched-transfer.test.ts` carries less.
 */
import { parseRouterKind, twoHosts } from "../nat/topologies.ts";
import { meet, withoutIp6 } from "./lab-pair.ts";
import type { Lab } from "./laboratory.ts";
import { linesOf } from "./natbox-control.ts";

export interface PunchedTransferOptions {
  /** Where UDP is blocked the pipe is punched over TCP. */
  readonly transport: "tcp" | "udp";
  readonly mib: number;
  /** Share of packets lost at each router, each way. */
  readonly loss: number;
}

export interface PunchedTransfer {
  readonly path: string;
  readonly isEqual: boolean;
  /** There and back. */
  readonly seconds: number;
  /** Each way, of the pipe, which carries both at once, and of iperf3 with both ways at once. */
  readonly megabits: number;
  readonly iperfMegabits: number;
}

const IPERF_PORT = 5201;
const IPERF_SECONDS = 10;

export async function transferPunched({
  transport,
  mib,
  loss,
}: PunchedTransferOptions): Promise<PunchedTransfer> {
  const kind = parseRouterKind(transport === "tcp" ? "blocked/equal" : "port-restricted/equal");
  const before = async (lab: Lab): Promise<void> => {
    await withoutIp6(lab);
    for (const router of lab.routers) await router.change({ link: { loss } });
  };
  await using pair = await meet(twoHosts(kind, kind), { before, strategies: "punch" });
  const { lab, alice, bob } = pair;
  await Promise.all([alice.get("/p2p/nat"), bob.get("/p2p/nat")]);
  const line = await bob.addr();
  const probe = await alice.get(`/p2p/open/probe/${line}`);
  await alice.get("/p2p/close/probe");
  const bytes = mib * 1024 * 1024;
  const file = `${lab.directory}/octets`;
  await alice.program(`head -c ${bytes} /dev/urandom > ${file}`);
  const began = performance.now();
  const back = await alice.program(`p2pd nc ${line} --service echo < ${file} | sha256sum`);
  const seconds = (performance.now() - began) / 1000;
  const sent = await alice.program(`sha256sum < ${file}`);
  const host = lab.host("bob");
  await lab.router("b").forward("tcp", IPERF_PORT, { ip: host.ip4, port: IPERF_PORT }, 600_000);
  const server = host.spawn(["iperf3", "-s", "-1", "--forceflush", "-p", String(IPERF_PORT)]);
  for await (const text of linesOf(server.stdout)) if (text.includes("listening")) break;
  const words = ["iperf3", "-c", lab.router("b").publicIp4, "-p", String(IPERF_PORT), "--bidir", "-J"];
  const { code, stdout, stderr } = await lab.host("alice").run([...words, "-t", String(IPERF_SECONDS)]);
  if (code !== 0) throw new Error(`iperf3: ${stdout}${stderr}`);
  const { end } = JSON.parse(stdout) as { end: Record<string, { bits_per_second: number }> };
  const ways = ["sum_received", "sum_received_bidir_reverse"].map((way) => end[way]?.bits_per_second ?? 0);
  return {
    path: String(probe["path"] ?? probe["msg"]),
    isEqual: back === sent,
    seconds,
    megabits: (8 * bytes) / seconds / 1e6,
    iperfMegabits: ways.reduce((sum, rate) => sum + rate, 0) / ways.length / 1e6,
  };
}

/** As one line for people. */
export function describeTransfer(
  { mib, loss }: PunchedTransferOptions,
  { path, isEqual, seconds, megabits, iperfMegabits }: PunchedTransfer,
): string {
  const rates = `${megabits.toFixed(0)} Mbit/s each way; iperf3 both ways ${iperfMegabits.toFixed(0)} Mbit/s each`;
  return `${path}: ${mib} MiB there and back with ${100 * loss} % loss in ${seconds.toFixed(1)} s, ${rates}, SHA-256 ${isEqual ? "equal" : "DIFFERENT"}`;
}
