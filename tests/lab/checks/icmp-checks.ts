/**
 * ICMP through a NAT box, octet by octet: errors from either side with the packet they quote translated and
 * every checksum right, and echoes that keep two hosts apart.
 */
import { inPrefix } from "../../../core/ip.ts";
import { INTERNET } from "../../nat/topologies.ts";
import { openRaw, openUdp } from "../bare-sockets.ts";
import type { BareRaw } from "../bare-sockets.ts";
import { expectSame, expectThat, settingsWith } from "./check.ts";
import type { Check } from "./check.ts";
import { freshPort } from "./probe.ts";

const ICMP = 1;
const ARRIVES_MS = 2000;

export const errorsIn: Check = {
  name: "an ICMP error from outside reaches the host it is about, quoting what the host sent",
  async run(lab, fault) {
    await lab.router("a").set(settingsWith({ both: { delta: { kind: "random" } } }), fault);
    const alice = lab.host("alice");
    using raw = openRaw(alice.namespace, ICMP);
    using udp = openUdp(alice.namespace, { ip: alice.ip4, port: freshPort() });
    const closed = { ip: INTERNET.serverIp4(21), port: freshPort() };
    udp.send(closed, "nobody there");
    const error = nextError(raw);
    expectSame("error", error, {
      from: closed.ip,
      to: alice.ip4,
      type: "3/3",
      quoted: {
        source: `${alice.ip4} ${udp.local.port}`,
        destination: `${closed.ip} ${closed.port}`,
        checksums: "right",
      },
    });
    return undefined;
  },
};

const errorsOut: Check = {
  name: "an inside host's ICMP error arrives outside from the public address, quoting what came to it",
  async run(lab, fault) {
    await lab.router("a").set(settingsWith({ both: { delta: { kind: "random" } } }), fault);
    const alice = lab.host("alice");
    const raw = openRaw(lab.internet, ICMP);
    using outer = openUdp(lab.internet, { ip: INTERNET.serverIp4(20), port: freshPort() });
    const udp = openUdp(alice.namespace, { ip: alice.ip4, port: freshPort() });
    udp.send(outer.local, "probe");
    const mapped = outer.receive(ARRIVES_MS)?.from ?? outer.local;
    udp.close();
    outer.send(mapped, "too late");
    const error = nextError(raw);
    raw.close();
    expectSame("error", error, {
      from: lab.router("a").publicIp4,
      to: outer.local.ip,
      type: "3/3",
      quoted: {
        source: `${outer.local.ip} ${outer.local.port}`,
        destination: `${mapped.ip} ${mapped.port}`,
        checksums: "right",
      },
    });
    return undefined;
  },
};

const echoes: Check = {
  name: "two hosts ping with one identifier and each hears its own echo",
  async run(lab, fault) {
    await lab.router("a").set(settingsWith({}), fault);
    using outside = openRaw(lab.internet, ICMP);
    const identifier = freshPort();
    for (const name of ["alice", "anna"]) {
      const { namespace } = lab.host(name);
      const raw = openRaw(namespace, ICMP);
      raw.send(INTERNET.serverIp4(20), echoRequest(identifier, name));
      const reply = nextPacket(raw, (packet) => packet[20] === 0);
      expectSame(`echo to ${name}`, reply === undefined ? undefined : word(reply, 24), identifier);
      expectSame("its text", Buffer.from(reply?.subarray(28) ?? []).toString(), name);
      raw.close();
    }
    const seen = [1, 2].map(() => nextPacket(outside, (packet) => packet[20] === 8));
    expectThat(word(seen[0], 24) !== word(seen[1], 24), "both echoes have one identifier outside");
    expectSame("their source", ipAt(seen[0], 12), lab.router("a").publicIp4);
    return undefined;
  },
};

export const ICMP_CHECKS: readonly Check[] = [errorsIn, errorsOut, echoes];

function echoRequest(identifier: number, text: string): Uint8Array {
  const packet = Buffer.concat([
    Buffer.from([8, 0, 0, 0, identifier >> 8, identifier & 255, 0, 1]),
    Buffer.from(text),
  ]);
  packet.writeUInt16BE(checksumOf(packet), 2);
  return packet;
}

/** The next packet that fits, within a time that bounds all of them. */
function nextPacket(raw: BareRaw, fits: (packet: Uint8Array) => boolean): Uint8Array | undefined {
  const deadline = performance.now() + ARRIVES_MS;
  for (;;) {
    const packet = raw.receive(Math.max(0, deadline - performance.now()));
    if (packet === undefined || fits(packet)) return packet;
  }
}

/** An error about UDP, as a reader would describe it. */
function nextError(raw: BareRaw): unknown {
  const packet = nextPacket(
    raw,
    (each) => each[20] === 3 && each[28 + 9] === 17 && inPrefix(ipAt(each, 12), "0.0.0.0", 0),
  );
  if (packet === undefined) return "none";
  const quoted = packet.subarray(28);
  return {
    from: ipAt(packet, 12),
    to: ipAt(packet, 16),
    type: `${packet[20]}/${packet[21]}`,
    quoted: {
      source: `${ipAt(quoted, 12)} ${word(quoted, 20)}`,
      destination: `${ipAt(quoted, 16)} ${word(quoted, 22)}`,
      checksums: checksumsOf(quoted),
    },
  };
}

/** Whether the IP and UDP checksums of a quoted packet are those of its octets. */
function checksumsOf(quoted: Uint8Array): string {
  if (checksumOf(quoted.subarray(0, 20)) !== 0) return "IP header wrong";
  const length = word(quoted, 24);
  const pseudo = Buffer.concat([quoted.subarray(12, 20), Buffer.from([0, 17, length >> 8, length & 255])]);
  return checksumOf(Buffer.concat([pseudo, quoted.subarray(20, 20 + length)])) === 0 ? "right" : "UDP wrong";
}

/** The Internet checksum (RFC 1071) of octets; 0 over octets that carry a right one. */
function checksumOf(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i++) sum += (bytes[i] as number) << (i % 2 === 0 ? 8 : 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

function word(bytes: Uint8Array | undefined, at: number): number {
  return bytes === undefined ? -1 : ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}

function ipAt(bytes: Uint8Array | undefined, at: number): string {
  return bytes === undefined ? "none" : bytes.subarray(at, at + 4).join(".");
}
