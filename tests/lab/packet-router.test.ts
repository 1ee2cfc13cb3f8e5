import { describe, expect, test } from "bun:test";
import type { Endpoint } from "../../core/ip.ts";
import { formatEndpoint } from "../../core/ip.ts";
import { createNatEngine, ipv6Settings } from "../nat/engine.ts";
import { seededRandom } from "../nat/seeded-random.ts";
import { changeSettings, DEFAULT_SETTINGS } from "../nat/settings.ts";
import type { NatSettingsChange } from "../nat/settings.ts";
import { acceptOffload, OFFLOAD_HEADER } from "./offload.ts";
import {
  checksumOffset,
  destinationIp,
  get16,
  ipOctets,
  layoutOf,
  set16,
  sourceIp,
  sumWords,
  TCP,
  transportChecksum,
  UDP,
} from "./packet.ts";
import type { PacketLayout } from "./packet.ts";
import { createPacketRouter } from "./packet-router.ts";

const PUBLIC = "5.44.10.10";
const HOST: Endpoint = { ip: "192.168.10.100", port: 4000 };
const SERVER: Endpoint = { ip: "5.44.1.10", port: 3478 };
const SYN = 2;

describe.each([
  ["UDP", UDP],
  ["TCP", TCP],
] as const)("%s", (_name, protocol) => {
  test("a translated packet carries the checksums that its octets ask for, out and in, 500 times", () => {
    const random = seededRandom(5);
    const bench = build({ both: { delta: { kind: "random" }, filtering: "endpoint-independent" } });
    for (let i = 0; i < 500; i++) {
      const host = { ip: `192.168.10.${random.between(2, 250)}`, port: random.between(1024, 65535) };
      const payload = Uint8Array.from({ length: random.between(0, 40) }, () => random.between(0, 255));
      bench.router.fromLan(0, packet(protocol, host, SERVER, payload));
      const out = read(bench.wan.pop());
      expect(out).toMatchObject({ checksum: "right", destination: formatEndpoint(SERVER) });
      bench.router.fromWan(0, packet(protocol, SERVER, { ip: PUBLIC, port: out.sourcePort }, payload));
      const back = read(bench.lan.pop());
      expect(back).toMatchObject({ checksum: "right", destination: formatEndpoint(host) });
    }
  });

  test("a large segment whose checksum is unfinished keeps one that the kernel can finish", () => {
    const bench = build({ both: { delta: { kind: "random" } } });
    const whole = packet(protocol, HOST, SERVER, new Uint8Array(100));
    const layout = layoutOf(whole) as PacketLayout;
    const field = layout.transport + checksumOffset(protocol);
    set16(whole, field, addressSum(whole, layout));
    const header = new Uint8Array(OFFLOAD_HEADER);
    header[1] = 1;
    bench.router.fromLan(0, whole, acceptOffload(header, whole));
    const sent = bench.wan.pop() as Uint8Array;
    expect(get16(sent, field)).toBe(addressSum(sent, layoutOf(sent) as PacketLayout));
  });

  test("a packet that only lacks its checksum gets it", () => {
    const whole = packet(protocol, HOST, SERVER, new Uint8Array([1, 2, 3]));
    const layout = layoutOf(whole) as PacketLayout;
    const field = layout.transport + checksumOffset(protocol);
    const wanted = get16(whole, field);
    set16(whole, field, addressSum(whole, layout));
    const header = new Uint8Array([1, 0, 0, 0, 0, 0, layout.transport, 0, checksumOffset(protocol), 0]);
    expect(acceptOffload(header, whole)).toBeUndefined();
    expect(get16(whole, field)).toBe(wanted);
  });

  test("an ICMP error quotes what the host sent, with right checksums, even cut short", () => {
    for (const quoted of [28, 200]) {
      const bench = build({ both: { delta: { kind: "random" } } });
      bench.router.fromLan(0, packet(protocol, HOST, SERVER, new Uint8Array(30)));
      const sent = bench.wan.pop() as Uint8Array;
      bench.router.fromWan(0, icmpError("5.44.0.1", PUBLIC, sent.subarray(0, quoted)));
      const error = bench.lan.pop() as Uint8Array;
      expect(destinationIp(error, 4)).toBe(HOST.ip);
      expect(checksumIsRight(error, layoutOf(error) as PacketLayout)).toBe(true);
      const inner = error.subarray(28);
      expect(formatEndpoint({ ip: sourceIp(inner, 4), port: get16(inner, 20) })).toBe(formatEndpoint(HOST));
      expect(sumWords(inner, 0, 20)).toBe(0xffff);
      if (quoted === 200) expect(read(inner).checksum).toBe("right");
    }
  });
});

test("a refused SYN is answered by a RST that acknowledges it, or by port unreachable that quotes it", () => {
  for (const [unsolicitedSyn, protocol] of [
    ["rst", 6],
    ["icmp", 1],
  ] as const) {
    const bench = build({ unsolicitedSyn });
    bench.router.fromWan(0, packet(TCP, SERVER, { ip: PUBLIC, port: 99 }, new Uint8Array(0)));
    const reply = bench.wan.pop() as Uint8Array;
    const layout = layoutOf(reply) as PacketLayout;
    expect([layout.protocol, sourceIp(reply, 4), destinationIp(reply, 4)]).toEqual([
      protocol,
      PUBLIC,
      SERVER.ip,
    ]);
    expect(checksumIsRight(reply, layout)).toBe(true);
    if (unsolicitedSyn === "rst") expect([...reply.subarray(28, 34)]).toEqual([0, 0, 0, 8, 0x50, 0x14]);
  }
});

test("fragments follow their first; without it they are dropped", () => {
  const bench = build({});
  const first = packet(UDP, HOST, SERVER, new Uint8Array(24));
  set16(first, 6, 0x2000);
  const later = first.slice();
  set16(later, 6, 4);
  bench.router.fromLan(0, later.slice());
  expect([bench.wan.length, bench.router.ignored]).toEqual([0, 1]);
  bench.router.fromLan(0, first);
  bench.router.fromLan(0, later);
  expect(bench.wan.map((each) => sourceIp(each, 4))).toEqual([PUBLIC, PUBLIC]);
  expect(bench.wan[1]?.subarray(20)).toEqual(later.subarray(20));
});

test("ten thousand mutated packets never throw, and what comes out is sound", () => {
  const random = seededRandom(11);
  const bench = build({
    both: { filtering: "endpoint-independent" },
    hairpinning: true,
    ipv6: { mode: "open" },
  });
  for (let i = 0; i < 10_000; i++) {
    const from = random.next() < 0.5;
    const bytes = from
      ? packet(i % 2 === 0 ? UDP : TCP, HOST, SERVER, new Uint8Array(random.between(0, 60)))
      : icmpError(SERVER.ip, PUBLIC, packet(UDP, { ip: PUBLIC, port: 4000 }, SERVER, new Uint8Array(8)));
    for (let flips = random.between(1, 4); flips > 0; flips--) {
      bytes[random.between(0, bytes.length - 1)] = random.between(0, 255);
    }
    const cut = bytes.subarray(0, random.between(0, bytes.length));
    if (random.next() < 0.5) bench.router.fromLan(i, random.next() < 0.7 ? bytes : cut);
    else bench.router.fromWan(i, random.next() < 0.7 ? bytes : cut);
    for (const each of [...bench.lan.splice(0), ...bench.wan.splice(0)]) {
      expect(layoutOf(each)?.length).toBe(each.length);
    }
  }
});

function build(change: NatSettingsChange) {
  const settings = changeSettings(DEFAULT_SETTINGS, change);
  const lan: Uint8Array[] = [];
  const wan: Uint8Array[] = [];
  const router = createPacketRouter({
    ipv4: createNatEngine(settings, PUBLIC),
    ipv6: createNatEngine(ipv6Settings(settings), "::"),
    toLan: (each) => lan.push(each.slice()),
    toWan: (each) => wan.push(each.slice()),
    faults: {},
  });
  return { router, lan, wan };
}

/** A whole IPv4 packet with right checksums; TCP ones are a SYN of sequence number 7. */
function packet(protocol: number, from: Endpoint, to: Endpoint, payload: Uint8Array): Uint8Array {
  const header = protocol === TCP ? 20 : 8;
  const bytes = ip4(protocol, from.ip, to.ip, header + payload.length);
  set16(bytes, 20, from.port);
  set16(bytes, 22, to.port);
  if (protocol === UDP) set16(bytes, 24, 8 + payload.length);
  else bytes.set([0, 0, 0, 7, 0, 0, 0, 0, 0x50, SYN], 24);
  bytes.set(payload, 20 + header);
  const layout = layoutOf(bytes) as PacketLayout;
  set16(bytes, 20 + checksumOffset(protocol), transportChecksum(bytes, layout));
  return bytes;
}

function icmpError(from: string, to: string, quote: Uint8Array): Uint8Array {
  const bytes = ip4(1, from, to, 8 + quote.length);
  bytes.set([3, 3], 20);
  bytes.set(quote, 28);
  set16(bytes, 22, transportChecksum(bytes, layoutOf(bytes) as PacketLayout));
  return bytes;
}

function ip4(protocol: number, from: string, to: string, size: number): Uint8Array {
  const bytes = new Uint8Array(20 + size);
  bytes[0] = 0x45;
  set16(bytes, 2, bytes.length);
  bytes[8] = 64;
  bytes[9] = protocol;
  bytes.set(ipOctets(from), 12);
  bytes.set(ipOctets(to), 16);
  set16(bytes, 10, ~sumWords(bytes, 0, 20) & 0xffff);
  return bytes;
}

function read(bytes: Uint8Array | undefined) {
  if (bytes === undefined) throw new Error("no packet came out");
  const layout = layoutOf(bytes) as PacketLayout;
  const right = sumWords(bytes, 0, 20) === 0xffff && checksumIsRight(bytes, layout);
  return {
    checksum: right ? "right" : "wrong",
    sourcePort: get16(bytes, layout.transport),
    destination: formatEndpoint({ ip: destinationIp(bytes, 4), port: get16(bytes, layout.transport + 2) }),
  };
}

/** Sums everything with the checksum in place: all ones when it is right (RFC 1071). */
function checksumIsRight(bytes: Uint8Array, { protocol, transport, length }: PacketLayout): boolean {
  const pseudo = protocol === 1 ? 0 : sumWords(bytes, 12, 20) + protocol + length - transport;
  return sumWords(bytes, transport, length, pseudo) === 0xffff;
}

/** What the kernel leaves in the checksum field when it computes none: the sum over addresses, protocol, length. */
function addressSum(bytes: Uint8Array, { protocol, transport, length }: PacketLayout): number {
  return sumWords(bytes, 12, 20, protocol + length - transport);
}
