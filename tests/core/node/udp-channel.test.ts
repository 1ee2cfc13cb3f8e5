import { describe, expect, test } from "bun:test";
import { P2pdError } from "../../../core/errors.ts";
import type { Endpoint } from "../../../core/ip.ts";
import type { UdpHandlers, UdpSocket } from "../../../core/net/world.ts";
import { Pipe } from "../../../core/node/pipe.ts";
import { udpChannel } from "../../../core/node/udp-channel.ts";
import { HandTime } from "./memory-stream.ts";

const PEER = { ip: "192.0.2.1", port: 1 };
const OTHER = { ip: "192.0.2.2", port: 2 };

describe("a UDP channel", () => {
  test("keeps what the system does not take and sends it, in order, when there is room", () => {
    const { socket, sent, system } = fakeSocket();
    const channel = udpChannel(socket, PEER);
    let drained = 0;
    channel.attach({ message() {}, drain: () => drained++, end() {}, close() {} });
    system.room = 1;
    expect(channel.send(octets(1))).toBe(true);
    expect(channel.send(octets(2))).toBe(false);
    expect(channel.send(octets(3), OTHER)).toBe(false);
    expect(channel.pendingBytes).toBe(5);
    system.room = 1;
    system.handlers().drain?.();
    expect([drained, channel.pendingBytes]).toEqual([0, 3]);
    system.room = 9;
    system.handlers().drain?.();
    expect([drained, channel.pendingBytes]).toEqual([1, 0]);
    expect(sent).toEqual([
      [1, PEER],
      [2, PEER],
      [3, OTHER],
    ]);
  });

  test("lets at most 1 MiB wait, drops the oldest beyond that and counts them", () => {
    const { socket, system } = fakeSocket();
    const channel = udpChannel(socket, PEER);
    system.room = 0;
    for (let i = 0; i < 20; i++) channel.send(octets(65_000));
    expect(channel.pendingBytes).toBeLessThanOrEqual(1 << 20);
    expect(channel.dropped).toBe(4);
  });

  test("copies what arrives, hears its peer alone, and nothing while paused", () => {
    const { socket, system } = fakeSocket();
    const channel = udpChannel(socket, PEER);
    const heard: Uint8Array[] = [];
    channel.attach({ message: (bytes) => heard.push(bytes), drain() {}, end() {}, close() {} });
    const buffer = Uint8Array.of(7);
    system.handlers().message(buffer, PEER);
    buffer[0] = 8;
    system.handlers().message(buffer, OTHER);
    channel.pause();
    system.handlers().message(buffer, PEER);
    channel.resume();
    system.handlers().message(buffer, PEER);
    system.handlers().error?.(new P2pdError("refused", "port unreachable"));
    expect(heard.map((bytes) => bytes[0])).toEqual([7, 8]);
    expect([channel.strangers, channel.dropped, channel.errors]).toEqual([1, 1, 1]);
  });

  test("for many peers has no address of its own to send to", () => {
    expect(udpChannel(fakeSocket().socket).remote).toEqual({ ip: "0.0.0.0", port: 0 });
    expect(udpChannel(fakeSocket("::").socket).remote).toEqual({ ip: "::", port: 0 });
  });

  test("ended, closes when what waits has left; aborted, at once with the reason", async () => {
    const { socket, system, sent } = fakeSocket();
    const pipe = new Pipe(udpChannel(socket, PEER), { time: new HandTime() });
    system.room = 0;
    const sending = pipe.send(octets(5));
    const closing = pipe.close();
    expect(system.closed).toBe(false);
    system.room = 1;
    system.handlers().drain?.();
    await Promise.all([sending, closing]);
    expect([system.closed, sent.length, await pipe.closed, pipe.fd]).toEqual([true, 1, undefined, 5]);

    const other = fakeSocket();
    const channel = udpChannel(other.socket, PEER);
    const reason = new P2pdError("aborted", "enough");
    const closed = new Promise((resolve) => {
      channel.attach({ message() {}, drain() {}, end() {}, close: resolve });
    });
    channel.abort(reason);
    channel.abort();
    channel.end();
    expect(channel.send(octets(1))).toBe(true);
    other.system.handlers().message(octets(1), PEER);
    expect([await closed, other.system.closed, other.sent]).toEqual([reason, true, []]);
  });

  test("a socket that throws fails the send and nothing else", async () => {
    const { socket, system } = fakeSocket();
    const pipe = new Pipe(udpChannel(socket, PEER), { time: new HandTime() });
    system.broken = true;
    const error = await pipe.send("x").catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "send-failed", message: "sending 1 octets failed: no route" });
    system.broken = false;
    await pipe.send("y");
    expect(pipe.sent).toBe(1);
  });
});

function fakeSocket(ip = "0.0.0.0") {
  const sent: [number, Endpoint][] = [];
  let attached: UdpHandlers | undefined;
  const system = { room: 100, broken: false, closed: false, handlers: () => attached as UdpHandlers };
  const socket: UdpSocket = {
    local: { ip, port: 9 },
    fd: 5,
    attach: (handlers) => {
      attached = handlers;
    },
    send(bytes, to) {
      if (system.broken) throw new Error("no route");
      if (system.room === 0) return false;
      system.room--;
      sent.push([bytes.length, to]);
      return true;
    },
    close: () => {
      system.closed = true;
    },
  };
  return { socket, sent, system };
}

function octets(count: number): Uint8Array {
  return new Uint8Array(count);
}
