/** STUN servers that mean harm: nobody is made to send where he would not, and nothing is taken for open. */
import { expect } from "bun:test";
import { gatherUdpSide } from "../../core/connect/gather-udp.ts";
import { noCost } from "../../core/connect/punch-cost.ts";
import type { Endpoint } from "../../core/ip.ts";
import type { NatProfile } from "../../core/nat/nat-kind.ts";
import { detectNat, type NatDetection } from "../../core/stun/detect-nat.ts";
import * as kinds from "../../core/wire/stun-attributes.ts";
import { decodeStun, encodeStun, readAttribute, type StunMessage } from "../../core/wire/stun.ts";
import { parseRouterKind, twoHosts } from "../nat/topologies.ts";
import { codeOf } from "./code-of.ts";
import type { SimHost } from "./host.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";

const BEHIND = {
  topology: twoHosts(parseRouterKind("port-restricted/equal"), parseRouterKind("open-internet")),
};

for (const ip of ["127.0.0.1", "192.168.10.1", "224.0.0.1", "0.0.0.0", "255.255.255.255", "169.254.1.1"]) {
  simTest(
    `an other address of ${ip} is not asked`,
    [1],
    async (sim) => {
      const { profile } = await detectWith(sim, (request, from) =>
        seenAt(from, [other({ ip, port: 3479 })])(request),
      );
      expect(profile?.external).toBe(sim.router("a").ipv4.externalIp);
      expect(sentTo(sim, ip)).toEqual([]);
    },
    BEHIND,
  );
  simTest(
    `a server that sees everybody at ${ip} makes nobody send there`,
    [1],
    async (sim) => {
      const { profile } = await detectWith(sim, (request, from) => seenAt({ ip, port: from.port })(request));
      if (!ip.startsWith("192.168.")) expect(profile).toBeUndefined();
      expect(sentTo(sim, ip)).toEqual([]);
    },
    BEHIND,
  );
}

simTest(
  "a server that redirects to its second address opens no filter by that",
  [1],
  async (sim) => {
    const second = sim.addServer("second");
    const { profile } = await detectWith(
      sim,
      (request, from) => {
        if (readAttribute(request, kinds.CHANGE_REQUEST) === undefined) {
          return seenAt(from, [other({ ip: second.ip(), port: 3479 })])(request);
        }
        const { method, transactionId } = request;
        const attributes = [
          kinds.attribute(kinds.ERROR_CODE, { code: 300, reason: "elsewhere" }),
          kinds.attribute(kinds.ALTERNATE_SERVER, { ip: second.ip(), port: 3479 }),
        ];
        return encodeStun({ class: "error", method, transactionId, attributes });
      },
      second,
    );
    expect(profile?.udp.type).toBe("port-restricted");
  },
  BEHIND,
);

simTest(
  "a port 0 among good answers counts for no answer, as no offer could carry it",
  [1],
  async (sim) => {
    let answers = 0;
    const { profile } = await detectWith(sim, (request, from) =>
      seenAt(answers++ === 12 ? { ...from, port: 0 } : from)(request),
    );
    expect(profile?.external).toBe(sim.router("a").ipv4.externalIp);
    expect(profile?.udp.range?.[0]).toBeGreaterThan(0);
    const server = sim.addServer("nobody");
    await serve(server, 3478, (request, from) => seenAt({ ...from, port: 0 })(request));
    const alice = sim.host("alice");
    const gathering = gatherUdpSide(alice.world, {
      localIp: alice.ip(),
      kind: {
        ...(profile as NatProfile).udp,
        mapping: "endpoint-independent",
        delta: { type: "random", value: 0 },
      },
      ip: sim.router("a").ipv4.externalIp,
      servers: [{ ip: server.ip(), port: 3478 }],
      cost: noCost(),
      signal: new AbortController().signal,
      note: () => undefined,
    });
    expect(await codeOf(gathering)).toBe("unreachable");
  },
  BEHIND,
);

simTest(
  "answers that are no STUN, or of another family, end in nothing known and no harm",
  [1],
  async (sim) => {
    const six = { ip: "2a01:5a40:0:1::9", port: 9 };
    const answers = [() => new Uint8Array(2000).fill(1), () => new Uint8Array(0), seenAt(six)];
    for (const [i, answer] of answers.entries()) {
      const { profile } = await detectWith(sim, answer, undefined, i);
      expect(profile).toBeUndefined();
    }
  },
  BEHIND,
);

type Answer = (request: StunMessage, from: Endpoint) => Uint8Array;

/** Detection by a server that answers over UDP alone as it likes; `second` answers all that comes there. */
async function detectWith(
  sim: Simulation,
  answer: Answer,
  second?: SimHost,
  number = 0,
): Promise<NatDetection> {
  const host = sim.addServer(`hostile ${number}`);
  await serve(host, 3478, answer);
  if (second !== undefined) await serve(second, 3479, (request, from) => seenAt(from)(request));
  const alice = sim.host("alice");
  return await detectNat(alice.world, { localIp: alice.ip(), servers: [{ host: host.ip(), port: 3478 }] });
}

async function serve(host: SimHost, port: number, answer: Answer): Promise<void> {
  const socket = await host.world.openUdp({ local: { ip: host.ip(), port } });
  socket.attach({
    message(bytes, from) {
      const request = decodeStun(bytes.slice());
      if (typeof request !== "string") socket.send(answer(request, from), from);
    },
  });
}

/** A good answer that names `mapped`. */
function seenAt(mapped: Endpoint, more: readonly kinds.Attribute[] = []) {
  return ({ method, transactionId }: StunMessage): Uint8Array => {
    const attributes = [kinds.attribute(kinds.XOR_MAPPED_ADDRESS, mapped), ...more];
    return encodeStun({ class: "success", method, transactionId, attributes });
  };
}

function other(endpoint: Endpoint): kinds.Attribute {
  return kinds.attribute(kinds.OTHER_ADDRESS, endpoint);
}

/** What alice sent to an address. */
function sentTo(sim: Simulation, ip: string): readonly string[] {
  return sim.trace.lines.filter((line) => line.includes("alice sends") && line.includes(`> ${ip}:`));
}
