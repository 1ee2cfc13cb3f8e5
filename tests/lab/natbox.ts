/**
 * The laboratory's own router: a process in a router's network namespace between two TUN devices, one that the
 * kernel routes the LAN's packets into and one for the internet's. Delay, jitter and loss are on the internet's
 * side. It obeys JSON lines on standard input and answers on standard output (`natbox-control.ts` is the other
 * end); when standard input ends, so does it. What happens to a packet is `packet-router.ts`'s affair.
 */
import { createNatEngine, ipv6Settings } from "../nat/engine.ts";
import type { NatEngine } from "../nat/engine.ts";
import { createLink } from "../nat/link.ts";
import type { Link } from "../nat/link.ts";
import { seededRandom } from "../nat/seeded-random.ts";
import { checkSettings } from "../nat/settings.ts";
import type { NatSettings } from "../nat/settings.ts";
import { createDelayQueue } from "./delay-queue.ts";
import type { DelayQueue } from "./delay-queue.ts";
import { faultySettings } from "./faults.ts";
import type { Fault } from "./faults.ts";
import type { NatboxReply, NatboxRequest, NatboxStart } from "./natbox-control.ts";
import { acceptOffload, OFFLOAD_HEADER } from "./offload.ts";
import { createPacketRouter } from "./packet-router.ts";
import type { PacketRouter } from "./packet-router.ts";
import {
  createWaiter,
  isRunning,
  openTun,
  readInto,
  setNice,
  setNonBlocking,
  setOffload,
  writeFrom,
  writeParts,
} from "./syscalls.ts";

const STDIN = 0;
const STDOUT = 1;
const MAX_PACKET = 65_536 + OFFLOAD_HEADER;
const NO_OFFLOAD = new Uint8Array(OFFLOAD_HEADER);
/** Packets taken from one device before the other has its turn. */
const BURST = 64;
const MAX_COMMAND = 1_000_000;
const SWEEP_MS = 500;
const READY_MS = 5000;

if (import.meta.main) main(JSON.parse(process.argv[2] ?? "{}") as NatboxStart);

function main(start: NatboxStart): void {
  const lan = openTun(start.lanDevice);
  const wan = openTun(start.wanDevice);
  setNonBlocking(STDIN);
  setNice(-15);
  const waiter = createWaiter([lan, wan, STDIN]);
  const buffer = new Uint8Array(MAX_PACKET);
  const inQueue = createDelayQueue();
  const outQueue = createDelayQueue();
  let unsent = 0;
  let box = configure(start.settings, start.fault, start.publicIp4);
  let commands = "";
  const decoder = new TextDecoder();

  function configure(settings: NatSettings, fault: Fault | undefined, publicIp4: string): Box {
    checkSettings(settings);
    const obeyed = faultySettings(settings, fault);
    const ipv4 = createNatEngine(obeyed, publicIp4);
    const ipv6 = createNatEngine(ipv6Settings(obeyed), "::");
    const random = seededRandom(obeyed.seed);
    // Loss and jitter strike packets, so those must have their size.
    for (const tun of [lan, wan]) setOffload(tun, obeyed.link.loss === 0 && obeyed.link.jitterMs === 0);
    const outLink = createLink(obeyed.link, random.fork("out"));
    const router = createPacketRouter({
      ipv4,
      ipv6,
      toLan: (packet, offload) => send(lan, packet, offload),
      toWan: (packet, offload) => cross(outQueue, outLink, packet, offload, sendToWan),
      faults: {
        quotedChecksum: fault === "quoted-checksum-stale",
        quotedHeader: fault === "quoted-header-stale",
      },
    });
    return { settings, fault, ipv4, ipv6, router, inLink: createLink(obeyed.link, random.fork("in")) };
  }

  function send(fd: number, packet: Uint8Array, offload: Uint8Array | undefined): void {
    if (!writeParts(fd, offload ?? NO_OFFLOAD, packet)) unsent++;
  }

  function sendToWan(packet: Uint8Array, offload: Uint8Array | undefined): void {
    send(wan, packet, offload);
  }

  function fromWan(packet: Uint8Array, offload: Uint8Array | undefined): void {
    box.router.fromWan(performance.now(), packet, offload);
  }

  function fromLan(packet: Uint8Array, offload: Uint8Array | undefined): void {
    box.router.fromLan(performance.now(), packet, offload);
  }

  /** Sends a packet over the link: at once where there is no delay, else by the queue. */
  function cross(
    queue: DelayQueue,
    link: Link,
    packet: Uint8Array,
    offload: Uint8Array | undefined,
    deliver: TakePacket,
  ): void {
    const now = performance.now();
    const at = link.arrival(now);
    if (at === undefined) return;
    if (at <= now && queue.size === 0) deliver(packet, offload);
    else queue.add(at, packet, offload);
  }

  function readDevice(fd: number, take: TakePacket): void {
    for (let i = 0; i < BURST; i++) {
      const length = readInto(fd, buffer);
      if (length <= OFFLOAD_HEADER) return;
      const packet = buffer.subarray(OFFLOAD_HEADER, length);
      take(packet, acceptOffload(buffer.subarray(0, OFFLOAD_HEADER), packet));
    }
  }

  function deliverDue(queue: DelayQueue, deliver: TakePacket): void {
    const now = performance.now();
    for (let due = queue.takeDue(now); due !== undefined; due = queue.takeDue(now))
      deliver(due.packet, due.offload);
  }

  function readCommands(): void {
    const length = readInto(STDIN, buffer);
    if (length === 0) process.exit(0);
    if (length < 0) return;
    commands += decoder.decode(buffer.subarray(0, length), { stream: true });
    if (commands.length > MAX_COMMAND) process.exit(2);
    for (let end = commands.indexOf("\n"); end >= 0; end = commands.indexOf("\n")) {
      const line = commands.slice(0, end);
      commands = commands.slice(end + 1);
      reply(obey(line));
    }
  }

  function obey(line: string): NatboxReply {
    try {
      return perform(JSON.parse(line) as NatboxRequest, performance.now());
    } catch (error) {
      return { ok: false, error: error instanceof Error ? error.message : String(error) };
    }
  }

  function perform(request: NatboxRequest, now: number): NatboxReply {
    switch (request.do) {
      case "settings":
        box = configure(request.settings, request.fault, box.ipv4.externalIp);
        return { ok: true };
      case "reboot":
        if (box.fault !== "reboot-keeps-table") for (const engine of [box.ipv4, box.ipv6]) engine.reboot();
        return { ok: true };
      case "address":
        box.ipv4.setExternalIp(request.ip);
        return { ok: true };
      case "forward": {
        const { protocol, port, internal, lifetimeMs } = request;
        return { ok: box.ipv4.forwardPort(now, protocol, port, internal, lifetimeMs) };
      }
      case "state":
        break;
    }
    return {
      ok: true,
      state: {
        settings: box.settings,
        externalIp: box.ipv4.externalIp,
        ipv4: box.ipv4.table(now),
        ipv6: box.ipv6.table(now),
        counts: Object.fromEntries(box.ipv4.counts),
        counts6: Object.fromEntries(box.ipv6.counts),
        ignored: box.router.ignored,
        unsent,
        queued: inQueue.size + outQueue.size,
        overflowed: inQueue.overflowed + outQueue.overflowed,
      },
    };
  }

  const deadline = performance.now() + READY_MS;
  while (![start.lanDevice, start.wanDevice].every(isRunning)) {
    if (performance.now() > deadline)
      throw new Error(`${start.lanDevice} or ${start.wanDevice} does not come up`);
    Bun.sleepSync(1);
  }
  reply({ ok: true });
  for (;;) {
    const now = performance.now();
    const next = Math.min(inQueue.nextAt, outQueue.nextAt, now + SWEEP_MS);
    waiter.wait(next - now);
    deliverDue(inQueue, fromWan);
    deliverDue(outQueue, sendToWan);
    if (waiter.seen(0) !== 0) readDevice(lan, fromLan);
    if (waiter.seen(1) !== 0) {
      readDevice(wan, (packet, offload) => cross(inQueue, box.inLink, packet, offload, fromWan));
    }
    if (waiter.seen(2) !== 0) readCommands();
    box.ipv4.advance(performance.now());
  }
}

type TakePacket = (packet: Uint8Array, offload: Uint8Array | undefined) => void;

interface Box {
  readonly settings: NatSettings;
  readonly fault: Fault | undefined;
  readonly ipv4: NatEngine;
  readonly ipv6: NatEngine;
  readonly router: PacketRouter;
  readonly inLink: Link;
}

/** Writes one line, waiting for the reader where the pipe is full. */
function reply(answer: NatboxReply): void {
  let rest: Uint8Array = new TextEncoder().encode(`${JSON.stringify(answer)}\n`);
  const writable = createWaiter([STDOUT], 4);
  while (rest.length > 0) {
    const written = writeFrom(STDOUT, rest);
    if (written > 0) rest = rest.subarray(written);
    else writable.wait(100);
  }
}
