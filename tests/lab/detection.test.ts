/** A part of `bun run lab detect` on real kernels: each configuration once, and some with everything against it. */
import { describe, expect, test } from "bun:test";
import type { NatReport } from "../../core/node/nat-report.ts";
import { decodeAddress } from "../../core/wire/address.ts";
import { CONFIGURATIONS } from "../nat/configurations.ts";
import { parseRouterKind, twoHosts } from "../nat/topologies.ts";
import { type DetectionRun, runDetections, type ServerMix } from "./detection.ts";
import { summarise } from "./detection-report.ts";
import { startLabNode } from "./lab-node.ts";
import { Lab } from "./laboratory.ts";

const labEnabled = process.env["P2PD_LAB"] === "1";
const LIMIT_MS = 120_000;

test.each<[servers: ServerMix, runs: number, wrong: number, isTooOpen: boolean, isPassed: boolean]>([
  ["good", 350, 0, false, true],
  ["good", 350, 1, false, false],
  ["bad", 350, 5, false, true],
  ["bad", 350, 6, false, false],
  ["bad", 350, 1, true, false],
  ["bad", 139, 1, false, true],
  ["bad", 139, 2, false, false],
  ["bad", 69, 0, false, true],
  ["bad", 69, 1, false, false],
])(
  "with %s servers, of %i runs %i wrong, one too open %p: passes %p",
  (servers, count, wrong, isTooOpen, isPassed) => {
    const runs = Array.from(
      { length: count },
      (_, i): DetectionRun => ({
        configuration: "port-restricted/equal",
        seed: i,
        elapsedMs: 400,
        wrong: i < wrong ? ["type"] : [],
        isTooOpen: isTooOpen && i === 0,
      }),
    );
    expect(summarise(runs, servers).isPassed).toBe(isPassed);
  },
);

describe.skipIf(!labEnabled)("detection", () => {
  test(
    "all 35 configurations are recognised, UDP and TCP",
    async () => {
      const runs = await runDetections({ servers: "good", loss: 0, seeds: [1] });
      console.log(`detection: ${summarise(runs, "good").lines.join("; ")}`);
      expect(runs.filter(({ wrong }) => wrong.length > 0)).toEqual([]);
      expect(runs.length).toBe(35);
    },
    LIMIT_MS,
  );

  test(
    "with 2 % loss, one server dead, one ignoring CHANGE-REQUEST and one lying, none is taken for more open than it is",
    async () => {
      // Each type, and each delta with one of them.
      const configurations = CONFIGURATIONS.filter((_, i) => i % 6 === 0 || i % 35 === 28);
      const runs = await runDetections({ servers: "bad", loss: 0.02, seeds: [1, 2, 3], configurations });
      console.log(`detection with bad servers: ${summarise(runs, "bad").lines.join("; ")}`);
      expect(runs.filter(({ isTooOpen }) => isTooOpen)).toEqual([]);
      expect(runs.filter(({ wrong }) => wrong.length > 0).length).toBeLessThanOrEqual(1);
    },
    LIMIT_MS,
  );

  test.each([
    ["kernel", { type: "port-restricted", delta: { type: "equal" } }],
    ["kernel/random", { type: "symmetric", delta: { type: "random" } }],
    ["symmetric/dependent:-2", { type: "symmetric", delta: { type: "dependent", value: -2 } }],
  ])(
    "a daemon behind %s says so over the API, in its address and by its program",
    async (name, expected) => {
      await using lab = await Lab.create(twoHosts(parseRouterKind(name), parseRouterKind(name)));
      const { endpoint } = await lab.servers.coturn();
      const node = await startLabNode(lab, "alice", { stun: `stun:${endpoint.ip}:3478` });
      const { nics } = (await node.get("/p2p/nat")) as unknown as NatReport;
      const four = nics[0]?.families.find(({ family }) => family === 4);
      expect(four).toMatchObject({
        nat: { udp: expected, tcp: expected },
        external: lab.router("a").publicIp4,
      });
      const line = decodeAddress(await node.addr()).nics.find(({ family }) => family === 4);
      expect(line).toMatchObject({ nat: expected.type, delta: expected.delta.type });
      const shown = node.start(["nat"]);
      expect(await new Response(shown.stdout).text()).toContain(
        `eth0, IPv4, seen as ${lab.router("a").publicIp4}`,
      );
      expect(await shown.exited).toBe(0);
    },
    LIMIT_MS,
  );
});
