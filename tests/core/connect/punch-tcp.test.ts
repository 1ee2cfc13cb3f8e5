/** A TCP punch between two sides on one machine, with its real sockets: loopback refuses early SYNs, listeners take them. */
import { afterAll, describe, expect, test } from "bun:test";
import { gatherTcpSide, type GatheredTcp } from "../../../core/connect/gather-tcp.ts";
import { holdPorts } from "../../../core/connect/held-ports.ts";
import { type PunchedTcp, punchTcp } from "../../../core/connect/punch-tcp.ts";
import { UNTRANSLATED } from "../../../core/nat/nat-kind.ts";
import { planPunch } from "../../../core/nat/plan-punch.ts";
import {
  alice,
  bob,
  closeStreams,
  countFds,
  hasFdList,
  keep,
  loopback,
  quiet,
  world,
} from "../net/real-streams.ts";
import { codeOf } from "../../sim/code-of.ts";

const { ip } = loopback;
const signal = new AbortController().signal;
const note = (): void => undefined;

afterAll(closeStreams);

function gather(): Promise<GatheredTcp> {
  return gatherTcpSide(world, { localIp: ip, ip, kind: UNTRANSLATED, servers: [], signal, note });
}

describe("on loopback", () => {
  test.each([0, 5, 60])(
    "two sides meet, the caller %p ms later, and nothing stays but the two ends",
    async (laterMs) => {
      const before = hasFdList ? countFds() : 0;
      const [mine, his] = await Promise.all([gather(), gather()]);
      const plan = planPunch("tcp", mine.side, his.side);
      if ("impossible" in plan) throw new Error(plan.impossible);
      const start = async (role: "caller" | "called"): Promise<PunchedTcp> => {
        const [own, peer, gathered] = role === "caller" ? [alice, bob, mine] : [bob, alice, his];
        const punched = await punchTcp(world, {
          role,
          method: plan.method,
          part: plan[role],
          remoteIp: ip,
          localIp: ip,
          ports: gathered.ports,
          credentials: own.credentials,
          expectedKey: peer.key,
          signal,
          note,
        });
        keep(punched.stream);
        return punched;
      };
      const calling = start("called");
      await Bun.sleep(laterMs);
      const [caller, called] = await Promise.all([start("caller"), calling]);
      expect(caller.stream.remote).toEqual(called.stream.local);
      expect(caller.stream.peerKey).toEqual(bob.key);
      expect(called.stream.peerKey).toEqual(alice.key);
      mine.close();
      his.close();
      const again = await holdPorts(world, { ip, ports: [...mine.ports.ports, ...his.ports.ports] });
      again.close();
      if (hasFdList) expect(countFds()).toBeLessThanOrEqual(before + 2);
    },
  );
});

describe("ports", () => {
  test("that are held are consecutive, where asked, and nobody else's", async () => {
    const held = await holdPorts(world, { ip, ports: 6, within: [20_000, 21_000] });
    const [first = 0] = held.ports;
    expect(held.ports).toEqual([0, 1, 2, 3, 4, 5].map((i) => first + i));
    expect(first).toBeWithin(20_000, 20_996);
    expect(await codeOf(world.listenTcp({ local: { ip, port: first + 3 }, accept: note }))).toBe(
      "address-in-use",
    );
    expect(await codeOf(holdPorts(world, { ip, ports: [first + 3] }))).toBe("address-in-use");
    held.close();
    const listener = await world.listenTcp({ local: { ip, port: first + 3 }, accept: note });
    listener.close();
  });

  test("keep what comes in early until somebody wants it, eight at most", async () => {
    const held = await holdPorts(world, { ip, ports: 1 });
    const remote = { ip, port: held.ports[0] as number };
    const { promise: bothTurnedAway, resolve } = Promise.withResolvers<void>();
    let turnedAway = 0;
    const isTurnedAway = (): void => {
      if (++turnedAway === 2) resolve();
    };
    for (let i = 0; i < 10; i++) {
      const connecting = world.connectTcp({ remote, timeoutMs: 1000 });
      connecting.then((stream) => keep(stream).attach({ ...quiet, close: isTurnedAway }), isTurnedAway);
    }
    await bothTurnedAway;
    let arrived = 0;
    held.onArrival((stream) => {
      arrived++;
      keep(stream);
    });
    expect(arrived).toBe(8);
    held.close();
  });
});
