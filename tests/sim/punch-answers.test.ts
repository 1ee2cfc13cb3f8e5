/** What peers may have a node do that takes part in their punches: offers as nobody honest makes them. */
import { expect } from "bun:test";
import { PunchAnswers } from "../../core/connect/punch-answers.ts";
import type { PunchedPath } from "../../core/connect/punch-sides.ts";
import { type NatKind, UNTRANSLATED } from "../../core/nat/nat-kind.ts";
import { PUNCH_BUDGET, type PunchBudget } from "../../core/nat/punch-budget.ts";
import { randomWord } from "../../core/net/random-word.ts";
import type { AddressNic } from "../../core/wire/address.ts";
import type { AnswerBody } from "../../core/wire/signal-message.ts";
import { createTestIdentity } from "../core/net/credentials.ts";
import { nat } from "./punch-site.ts";
import { twoHosts } from "../nat/topologies.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";
import { startStunServer } from "./stun-server.ts";

type Answer = Omit<AnswerBody, "type" | "request">;

const [alice, bob] = [createTestIdentity(), createTestIdentity()];
const ALICES_PORT = 5000;

/** Behind such a router a server has to be asked. */
const ASKING: NatKind = {
  ...UNTRANSLATED,
  type: "port-restricted",
  filtering: "address-and-port-dependent",
  delta: { type: "random", value: 0 },
};

for (const [what, theirs, pauseMs] of [
  ["packets", { ...PUNCH_BUDGET, packets: 1 }, 9000],
  ["time", PUNCH_BUDGET, 16_000],
] as const) {
  simTest(
    `where an open has no ${what} left, another offer of it costs nothing more`,
    [1],
    async (sim) => {
      const { server, offer } = await serve(sim, ASKING);
      const open = randomWord(sim.host("alice").world);
      const [first] = await offer(open, theirs);
      expect(first?.accepted).toBe(true);
      await sim.sleep(pauseMs);
      const before = server.requests;
      expect(before).toBeGreaterThan(0);
      const [second] = await offer(open, theirs);
      expect([second?.accepted, second?.code]).toEqual([false, "unavailable"]);
      expect(server.requests).toBe(before);
      const [other] = await offer(randomWord(sim.host("alice").world), theirs);
      expect(other?.accepted).toBe(true);
    },
    { topology: twoHosts(nat("open-internet"), nat("port-restricted/random")) },
  );
}

simTest(
  "a second path to a port that was punched does not take the first with it when it ends",
  [1],
  async (sim) => {
    const ended: string[] = [];
    const { offer } = await serve(sim, UNTRANSLATED, (path, number) => {
      path.stream.attach({
        data: () => undefined,
        drain: () => undefined,
        end: () => undefined,
        close: () => void ended.push(`path ${number}`),
      });
    });
    const [answer, over] = await offer(randomWord(sim.host("alice").world));
    const { quic, to } = await knocker(sim, answer);
    const [, second] = await Promise.all([quic?.connect(to), quic?.connect(to)]);
    await over;
    await sim.sleep(100);
    second?.abort();
    await sim.sleep(5000);
    expect(ended).toEqual(["path 2"]);
    await quic?.close();
    await sim.sleep(5000);
    expect(ended).toEqual(["path 2", "path 1"]);
  },
  { topology: twoHosts(nat("open-internet"), nat("open-internet")) },
);

simTest(
  "a punched port takes four paths at most, and none when the punch is over",
  [1],
  async (sim) => {
    let arrived = 0;
    const { offer } = await serve(sim, UNTRANSLATED, () => arrived++, Number.POSITIVE_INFINITY);
    const [answer, over] = await offer(randomWord(sim.host("alice").world));
    const { quic, to } = await knocker(sim, answer);
    await Promise.all(Array.from({ length: 20 }, async () => quic?.connect(to)));
    await sim.sleep(100);
    expect(arrived).toBe(4);
    await over;
    await quic?.connect(to);
    await sim.sleep(1000);
    expect(arrived).toBe(4);
    await quic?.close();
  },
  { topology: twoHosts(nat("open-internet"), nat("open-internet")) },
);

/** Bob's answers to Alice, who is on the open internet. The path of the number `greeting` is greeted on, at once. */
async function serve(
  sim: Simulation,
  kind: NatKind,
  arrived: (path: PunchedPath, number: number) => void = () => undefined,
  greeting = 2,
) {
  const { world } = sim.host("bob");
  const ip = sim.host("bob").ip();
  const stun = sim.addServer("stun");
  const server = await startStunServer(stun.world, { addresses: [stun.ip()] });
  const external = kind === UNTRANSLATED ? ip : sim.router("b").ipv4.externalIp;
  const answers = new PunchAnswers({
    world,
    credentials: bob.credentials,
    servers: () => Promise.resolve([server.endpoint]),
    warm: () => undefined,
    keepAliveMs: () => 10_000,
    budget: PUNCH_BUDGET,
    places: () => Promise.resolve([{ ip, prefixLength: 24, profile: { external, udp: kind, tcp: kind } }]),
    address: () => "p2pd1~bob",
    signal: new AbortController().signal,
  });
  const nic: AddressNic = {
    index: 0,
    family: 4,
    address: sim.host("alice").ip(),
    port: 10_001,
    nat: "open-internet",
    delta: "not-applicable",
    deltaValue: 0,
  };
  const peer = { id: "alice", machine: "elsewhere", brokers: [], nics: [nic] };
  let paths = 0;
  /** The answer, and a promise that resolves when Bob's part is over. */
  const offer = async (
    open: string,
    budget: PunchBudget = PUNCH_BUDGET,
  ): Promise<readonly [Answer, Promise<void>]> => {
    const { promise, resolve } = Promise.withResolvers<Answer>();
    const side = { kind: UNTRANSLATED, ip: nic.address, samples: [], spare: [ALICES_PORT] };
    const over = answers.answer({
      from: "alice",
      peerKey: alice.key,
      peer,
      offer: {
        type: "offer",
        request: randomWord(world),
        address: "p2pd1~alice",
        strategies: ["punch"],
        transport: "udp",
        punch: { secret: randomWord(world), open, budget, pairs: [{ to: ip, udp: side }] },
      },
      note: () => undefined,
      reply: (answer) => Promise.resolve(resolve(answer)),
      accepted: (path) => {
        arrived(path, ++paths);
        return paths === greeting ? Promise.resolve() : new Promise(() => undefined);
      },
    });
    return [await promise, over];
  };
  return { server, offer };
}

/** Alice's QUIC, and where to knock with it: at the port that bob's answer says to be open for her. */
async function knocker(sim: Simulation, answer: Answer | undefined) {
  const host = sim.host("alice");
  const local = { ip: host.ip(), port: ALICES_PORT };
  const quic = await host.world.openQuic?.({ local, credentials: alice.credentials });
  const port = answer?.punch?.pairs[0]?.udp?.spare[0] as number;
  const remote = { ip: sim.host("bob").ip(), port };
  return { quic, to: { remote, expectedKey: bob.key, timeoutMs: 2000 } };
}
