import { expect, test } from "bun:test";
import type { Nic, NicKind, Time, Timer, UdpHandlers, World } from "../../../core/net/world.ts";
import { Interface } from "../../../core/node/interface.ts";
import { Network, usedInterfaces } from "../../../core/node/network.ts";
import { attribute, XOR_MAPPED_ADDRESS } from "../../../core/wire/stun-attributes.ts";
import { decodeStun, encodeStun } from "../../../core/wire/stun.ts";

const LO = nic("lo", "loopback", "127.0.0.1");
const ETH = nic("eth0", "physical", "192.168.1.5", 100);
const WLAN = nic("wlan0", "physical", "192.168.2.5");
const DOCKER = nic("docker0", "bridge", "172.17.0.1");
const STUN_SERVERS = [{ host: "198.51.100.1", port: 3478 }];

test("the NICs in use are those named, else those with a default route, else those of some network, else loopback", () => {
  const used = (nics: readonly Nic[], names?: readonly string[]) =>
    usedInterfaces(Interface.list(fakeWorld(nics).world), names).map(({ name }) => name);
  expect(used([LO, ETH, WLAN, DOCKER])).toEqual(["eth0"]);
  expect(used([LO, WLAN, DOCKER])).toEqual(["wlan0"]);
  expect(used([LO, DOCKER])).toEqual(["docker0"]);
  expect(used([LO])).toEqual(["lo"]);
  expect(used([LO, ETH, { ...WLAN, up: false }], ["wlan0"])).toEqual(["wlan0"]);
});

test("external addresses are learnt in the background and told", async () => {
  const { world, clock, outside } = fakeWorld([LO, ETH]);
  outside.set("192.168.1.5", "203.0.113.7");
  const changed = Promise.withResolvers<void>();
  const network = new Network(world, { stunServers: STUN_SERVERS, changed: () => changed.resolve() });
  expect(network.status).toMatchObject({ state: "starting" });
  clock.advance(1);
  await changed.promise;
  expect(network.status).toEqual({ part: "stun", state: "up", detail: "eth0 is seen as 203.0.113.7" });
  expect(network.externalOf("192.168.1.5", 4)).toEqual(["203.0.113.7"]);
  expect(network.externalOf("192.168.9.9", 4)).toEqual([]);
  network.close();
  expect(clock.pending).toBe(0);
});

test("silent servers are asked again at rising intervals, until one answers", async () => {
  const { world, clock, outside, asked } = fakeWorld([LO, ETH]);
  let told = Promise.withResolvers<void>();
  const network = new Network(world, { stunServers: STUN_SERVERS, changed: () => told.resolve() });
  const round = async (waitMs: number): Promise<void> => {
    told = Promise.withResolvers();
    clock.advance(waitMs);
    await settle(clock, told.promise);
  };
  await round(1);
  expect(network.status).toMatchObject({ state: "down", detail: expect.stringContaining("next try in 5 s") });
  await round(5000);
  expect(network.status.detail).toContain("next try in 10 s");
  const before = asked.length;
  clock.advance(9000);
  expect(asked.length).toBe(before);
  outside.set("192.168.1.5", "203.0.113.7");
  await round(1000);
  expect(network.status.state).toBe("up");
  network.close();
});

test("a change of NICs is noticed, told and followed by new questions", async () => {
  const fake = fakeWorld([LO]);
  let told = Promise.withResolvers<void>();
  const network = new Network(fake.world, { stunServers: STUN_SERVERS, changed: () => told.resolve() });
  fake.clock.advance(1);
  expect(network.status.detail).toContain("no NIC but loopback is up");
  fake.outside.set("192.168.1.5", "203.0.113.7");
  fake.setNics([LO, ETH]);
  fake.clock.advance(300);
  await told.promise;
  expect(network.used.map(({ name }) => name)).toEqual(["eth0"]);
  told = Promise.withResolvers();
  await told.promise;
  expect(network.status.state).toBe("up");
  network.close();
  expect(fake.watchers).toBe(0);
});

test("without servers nothing is asked", () => {
  const { world, clock, asked } = fakeWorld([LO, ETH]);
  const network = new Network(world, { stunServers: [], changed: () => undefined });
  clock.advance(1);
  expect(network.status.state).toBe("off");
  expect(asked).toEqual([]);
  network.close();
});

function nic(name: string, kind: NicKind, ip: string, metric?: number): Nic {
  return {
    index: 1,
    name,
    kind,
    mac: "02:00:00:00:00:01",
    mtu: 1500,
    up: true,
    addresses: [{ ip, family: 4, prefixLength: 24 }],
    gateway: metric === undefined ? {} : { 4: "192.168.1.1" },
    metric: metric === undefined ? {} : { 4: metric },
  };
}

interface Clock {
  readonly time: Time;
  readonly pending: number;
  advance(ms: number): void;
}

function virtualClock(): Clock {
  let now = 0;
  const timers = new Set<{ at: number; fire: () => void }>();
  return {
    get pending() {
      return timers.size;
    },
    time: {
      now: () => now,
      wallMs: () => now,
      after(delayMs, fire): Timer {
        const timer = { at: now + delayMs, fire };
        timers.add(timer);
        return { cancel: () => void timers.delete(timer) };
      },
    },
    advance(ms) {
      now += ms;
      for (const timer of timers) {
        if (timer.at > now) continue;
        timers.delete(timer);
        timer.fire();
      }
    },
  };
}

/** Lets time pass in small steps until `done`, so that questions run into their deadlines. */
async function settle(clock: Clock, done: Promise<void>): Promise<void> {
  let isDone = false;
  const watched = done.then(() => {
    isDone = true;
  });
  for (let step = 0; step < 100; step++) {
    for (let i = 0; i < 30; i++) await Promise.resolve();
    if (isDone) break;
    clock.advance(40);
  }
  await watched;
}

function fakeWorld(first: readonly Nic[]) {
  let nics = first;
  const clock = virtualClock();
  const outside = new Map<string, string>();
  const asked: string[] = [];
  const changed = new Set<() => void>();
  const refuse = (): Promise<never> => Promise.reject(new Error("not in this world"));
  const world: World = {
    time: clock.time,
    randomBytes: (count) => crypto.getRandomValues(new Uint8Array(count)),
    systemId: () => "a machine of a test",
    nics: () => nics,
    watchNics(tell) {
      changed.add(tell);
      return () => changed.delete(tell);
    },
    lookup: (host) => Promise.resolve([host]),
    openUdp({ local }) {
      let handlers: UdpHandlers | undefined;
      return Promise.resolve({
        local,
        fd: -1,
        attach: (next) => void (handlers = next),
        send(bytes, to) {
          asked.push(local.ip);
          const request = decodeStun(bytes);
          const ip = outside.get(local.ip);
          if (typeof request === "string" || ip === undefined) return true;
          const attributes = [attribute(XOR_MAPPED_ADDRESS, { ip, port: 4000 })];
          const { method, transactionId } = request;
          const answer = encodeStun({ class: "success", method, transactionId, attributes });
          queueMicrotask(() => handlers?.message(answer, to));
          return true;
        },
        close: () => undefined,
      });
    },
    listenTcp: refuse,
    connectTcp: refuse,
    secure: refuse,
  };
  return {
    world,
    clock,
    outside,
    asked,
    get watchers() {
      return changed.size;
    },
    setNics(next: readonly Nic[]) {
      nics = next;
      for (const tell of changed) tell();
    },
  };
}
