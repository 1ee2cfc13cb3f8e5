/** The TURN client with servers that send it elsewhere, lie, or talk nonsense, in virtual time. */
import { expect } from "bun:test";
import { P2pdError } from "../../../core/errors.ts";
import type { Endpoint } from "../../../core/ip.ts";
import { openTurn, type OpenTurnOptions, type TurnServerAddress } from "../../../core/turn/open-turn.ts";
import type { Signature } from "../../../core/turn/turn-login.ts";
import * as kinds from "../../../core/wire/stun-attributes.ts";
import { longTermKey } from "../../../core/wire/stun-integrity.ts";
import * as stun from "../../../core/wire/stun.ts";
import * as turn from "../../../core/wire/turn.ts";
import { parseRouterKind, twoHosts } from "../../nat/topologies.ts";
import { simTest } from "../../sim/sim-test.ts";
import type { Simulation } from "../../sim/simulation.ts";
import { startTurnServer } from "../../sim/turn-server.ts";

const OPTIONS: OpenTurnOptions = { relayed: "udp", families: [4], timeoutMs: 2000 };
const open = { topology: twoHosts(parseRouterKind("open-internet"), parseRouterKind("open-internet")) };
const PEER: Endpoint = { ip: "5.44.0.9", port: 9 };
const relayed = kinds.attribute(turn.XOR_RELAYED_ADDRESS, { ip: "5.44.1.10", port: 50_000 });
const lifetime = (seconds: number): kinds.Attribute => kinds.attribute(turn.LIFETIME, seconds);
const error = (code: number): kinds.Attribute => kinds.attribute(kinds.ERROR_CODE, { code, reason: "x" });

simTest(
  "a server that sends us to another is followed, and the other one serves",
  [1],
  async (sim) => {
    const real = await startTurnServer(sim, "real");
    const to = kinds.attribute(kinds.ALTERNATE_SERVER, { ip: real.at("udp").host, port: 3478 });
    const odd = await oddServer(sim, "odd", () => ({ class: "error", attributes: [error(300), to] }));
    const found = await openTurn(sim.host("alice").world, odd.at, OPTIONS);
    expect(found.link.server.ip).toBe(real.at("udp").host);
    await found.close();
  },
  open,
);

simTest(
  "servers that send us round in a circle, or on and on, are left",
  [1],
  async (sim) => {
    const to = (name: string) => kinds.attribute(kinds.ALTERNATE_SERVER, { ip: name, port: 3478 });
    const self: OddServer = await oddServer(sim, "self", () => ({
      class: "error",
      attributes: [error(300), to(self.at.host)],
    }));
    const circle = await failureOf(openTurn(sim.host("alice").world, self.at, OPTIONS));
    expect(circle).toMatchObject({ code: "unavailable", detail: { turnCode: 300 } });
    expect(self.allocates).toBe(1);
    const chain: OddServer[] = [];
    for (let i = 0; i < 8; i++) {
      chain.push(
        await oddServer(sim, `chain${i}`, () => ({
          class: "error",
          attributes: [error(300), to(chain[i + 1]?.at.host ?? self.at.host)],
        })),
      );
    }
    await failureOf(openTurn(sim.host("alice").world, (chain[0] as OddServer).at, OPTIONS));
    expect(chain.map(({ allocates }) => allocates)).toEqual([1, 1, 1, 1, 0, 0, 0, 0]);
  },
  open,
);

simTest(
  "a server outside does not send us inside our own network, nor to no port",
  [1],
  async (sim) => {
    for (const [ip, port] of [
      ["10.0.0.5", 3478],
      ["127.0.0.1", 22],
      ["5.44.7.7", 0],
    ] as const) {
      const to = kinds.attribute(kinds.ALTERNATE_SERVER, { ip, port });
      const odd = await oddServer(sim, `odd ${ip}`, () => ({ class: "error", attributes: [error(300), to] }));
      const failed = await failureOf(openTurn(sim.host("alice").world, odd.at, OPTIONS));
      expect(failed).toMatchObject({ code: "unavailable", detail: { turnCode: 300 } });
    }
  },
  open,
);

simTest(
  "an allocation is renewed by the lifetime that the server gave last, and over when that is nothing",
  [1],
  async (sim) => {
    const odd = await oddServer(
      sim,
      "odd",
      () => ({ class: "success", attributes: [relayed, lifetime(600)] }),
      [lifetime(100), lifetime(100), lifetime(0)],
    );
    const found = await openTurn(sim.host("alice").world, odd.at, OPTIONS);
    const began = sim.host("alice").world.time.now();
    const { promise: closed, resolve } = Promise.withResolvers<P2pdError>();
    found.attach({ message() {}, closed: resolve });
    expect((await closed).code).toBe("closed");
    expect(odd.refreshes.map((at) => Math.round((at - began) / 1000))).toEqual([540, 590, 640]);
  },
  open,
);

simTest(
  "what was learnt of a server is forgotten when it has another realm by now",
  [1],
  async (sim) => {
    const other = (code: number): Reply => ({ class: "error", attributes: [error(code)], key: null });
    const replies = [other(441), other(437)];
    const fine: Reply = { class: "success", attributes: [relayed, lifetime(600)] };
    const odd = await oddServer(sim, "odd", () => replies.shift() ?? fine);
    const old = { attributes: [], integrity: { key: new Uint8Array(16), hash: "sha1" } } as const;
    const learnt = new Map<string, Signature>();
    const options = { ...OPTIONS, learnt };
    const { world } = sim.host("alice");
    learnt.set(`${odd.at.host}:3478 user`, old);
    expect((await failureOf(openTurn(world, odd.at, options))).detail["turnCode"]).toBe(441);
    expect(learnt.size).toBe(0);
    learnt.set(`${odd.at.host}:3478 user`, old);
    const found = await openTurn(world, odd.at, options);
    expect(learnt.size).toBe(1);
    await found.close();
  },
  open,
);

simTest(
  "a port that already has an allocation is left for a new one, twice at most",
  [1],
  async (sim) => {
    const ports = new Set<number>();
    const once = await oddServer(sim, "once", (_, from) => {
      ports.add(from.port);
      return ports.size === 1
        ? { class: "error", attributes: [error(437)] }
        : { class: "success", attributes: [relayed, lifetime(600)] };
    });
    const found = await openTurn(sim.host("alice").world, once.at, OPTIONS);
    expect(ports.size).toBe(2);
    await found.close();
    const always = await oddServer(sim, "always", () => ({ class: "error", attributes: [error(437)] }));
    const failed = await failureOf(openTurn(sim.host("alice").world, always.at, OPTIONS));
    expect(failed.detail["turnCode"]).toBe(437);
    expect(always.allocates).toBe(3);
  },
  open,
);

const lies: readonly (readonly [string, string, Reply])[] = [
  [
    "a success that is not signed",
    "timeout",
    { class: "success", attributes: [relayed, lifetime(600)], key: null },
  ],
  [
    "a success signed with another key",
    "timeout",
    { class: "success", attributes: [relayed, lifetime(600)], key: new Uint8Array(16) },
  ],
  [
    "an unsigned error that only a signed one may be",
    "timeout",
    { class: "error", attributes: [error(486)], key: null },
  ],
  ["no relayed address", "protocol", { class: "success", attributes: [lifetime(600)] }],
  ["no lifetime", "protocol", { class: "success", attributes: [relayed] }],
  ["a lifetime of nothing", "protocol", { class: "success", attributes: [relayed, lifetime(0)] }],
  [
    "an attribute that must be understood and is not",
    "protocol",
    { class: "success", attributes: [relayed, lifetime(600), { type: 0x7abc, size: 0, write() {} }] },
  ],
  ["an error without a code", "protocol", { class: "error", attributes: [] }],
  [
    "nonces that are stale at once, for ever",
    "unauthorized",
    {
      class: "error",
      attributes: [error(438), kinds.attribute(kinds.REALM, "odd"), kinds.attribute(kinds.NONCE, "n")],
    },
  ],
];
for (const [what, code, reply] of lies) {
  simTest(
    `a server that answers with ${what} is refused: ${code}`,
    [1],
    async (sim) => {
      const odd = await oddServer(sim, "odd", () => reply);
      const failed = await failureOf(openTurn(sim.host("alice").world, odd.at, OPTIONS));
      expect(failed.code).toBe(code as never);
      expect(odd.allocates).toBeLessThan(6);
    },
    open,
  );
}

simTest(
  "data from others than the server, and nonsense from it, reach nobody",
  [1, 2, 3],
  async (sim) => {
    const odd = await oddServer(sim, "odd", () => ({
      class: "success",
      attributes: [relayed, lifetime(600)],
    }));
    const found = await openTurn(sim.host("alice").world, odd.at, OPTIONS);
    const heard: Uint8Array[] = [];
    found.attach({ message: (bytes) => void heard.push(bytes.slice()), closed() {} });
    const to = { ip: sim.host("alice").ip(4), port: found.link.local.port };
    const indication = stun.encodeStun({
      class: "indication",
      method: turn.DATA_METHOD,
      transactionId: new Uint8Array(12),
      attributes: [
        kinds.attribute(turn.XOR_PEER_ADDRESS, PEER),
        kinds.attribute(turn.DATA, new Uint8Array(3)),
      ],
    });
    const stranger = sim.addServer("stranger");
    const socket = await stranger.world.openUdp({ local: { ip: stranger.ip(4), port: 3478 } });
    socket.send(indication, to);
    odd.say(turn.encodeChannelData(0x4000, new Uint8Array(4), false), to);
    for (let i = 0; i < 500; i++) {
      odd.say(
        Uint8Array.from({ length: sim.random.between(0, 60) }, () => sim.random.between(0, 255)),
        to,
      );
    }
    await sim.sleep(1000);
    expect(heard).toEqual([]);
    odd.say(indication, to);
    await sim.sleep(1000);
    expect(heard).toHaveLength(1);
    await found.close();
  },
  open,
);

interface Reply {
  readonly class: "success" | "error";
  readonly attributes: readonly kinds.Attribute[];
  /** What it is signed with: the right key unless given; null: nothing. */
  readonly key?: Uint8Array | null;
}

interface OddServer {
  readonly at: TurnServerAddress;
  /** Signed Allocate requests that came. */
  readonly allocates: number;
  /** When Refresh requests came. */
  readonly refreshes: readonly number[];
  say(bytes: Uint8Array, to: Endpoint): void;
}

/**
 * Tells its realm to whoever does not sign, and answers signed Allocate requests as it is told; all else succeeds.
 * @param lifetimes what it gives for one Refresh after another; nothing behind the last
 */
async function oddServer(
  sim: Simulation,
  name: string,
  answer: (message: stun.StunMessage, from: Endpoint) => Reply,
  lifetimes: readonly kinds.Attribute[] = [],
): Promise<OddServer> {
  const host = sim.addServer(name, { link: { delayMs: 5 } });
  const socket = await host.world.openUdp({ local: { ip: host.ip(4), port: 3478 } });
  const key = longTermKey("user", "odd", "pass");
  const challenge: Reply = {
    class: "error",
    key: null,
    attributes: [error(401), kinds.attribute(kinds.REALM, "odd"), kinds.attribute(kinds.NONCE, "first")],
  };
  let allocates = 0;
  const refreshes: number[] = [];
  socket.attach({
    message(bytes, from) {
      const message = stun.decodeStun(bytes.slice());
      if (typeof message === "string") return;
      const isSigned = stun.hasAttribute(message, kinds.MESSAGE_INTEGRITY);
      if (isSigned && message.method === turn.ALLOCATE) allocates++;
      const fine: Reply = { class: "success", attributes: [lifetimes[refreshes.length] ?? lifetime(0)] };
      if (message.method === turn.REFRESH) refreshes.push(host.world.time.now());
      const reply = !isSigned ? challenge : message.method === turn.ALLOCATE ? answer(message, from) : fine;
      const signature = reply.key === undefined ? key : reply.key;
      socket.send(
        stun.encodeStun({
          class: reply.class,
          method: message.method,
          transactionId: message.transactionId,
          attributes: reply.attributes,
          ...(signature === null ? {} : { integrity: { key: signature, hashes: ["sha1"] } }),
        }),
        from,
      );
    },
  });
  return {
    at: { host: host.ip(4), port: 3478, transport: "udp", username: "user", password: "pass" },
    get allocates() {
      return allocates;
    },
    refreshes,
    say: (bytes, to) => void socket.send(bytes, to),
  };
}

function failureOf(promise: Promise<unknown>): Promise<P2pdError> {
  return promise.then(
    () => new P2pdError("internal", "nothing failed"),
    (thrown: P2pdError) => thrown,
  );
}
