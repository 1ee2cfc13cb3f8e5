/** Matching of answers to requests, in virtual time: whose answers count, and what becomes of the others. */
import { describe, expect, test } from "bun:test";
import { P2pdError } from "../../../core/errors.ts";
import type { Endpoint } from "../../../core/ip.ts";
import type { Timer, World } from "../../../core/net/world.ts";
import { createStunExchange, type StunExchange } from "../../../core/stun/exchange.ts";
import * as kinds from "../../../core/wire/stun-attributes.ts";
import { shortTermKey } from "../../../core/wire/stun-integrity.ts";
import { encodeStun, type StunFields } from "../../../core/wire/stun.ts";

const SERVER: Endpoint = { ip: "192.0.2.1", port: 3478 };
const STRANGER: Endpoint = { ip: "192.0.2.66", port: 3478 };

describe("a STUN exchange", () => {
  test("sends again as RFC 8489 says and then gives up with what it saw", async () => {
    const { exchange, sent, run } = start();
    const outcome = exchange.request({ to: SERVER }).catch((error: unknown) => error);
    const id = (sent[0] as Sent).bytes.slice(8, 20);
    exchange.receive(answer(id), STRANGER);
    run(40_000);
    expect(sent.map(({ atMs }) => atMs)).toEqual([0, 500, 1500, 3500, 7500, 15_500, 31_500]);
    const error = (await outcome) as P2pdError;
    expect(error.code).toBe("timeout");
    expect(error.detail).toEqual({ sent: 7, waitedMs: 39_500, wrongSource: 1 });
    expect(error.message).toContain("192.0.2.66:3478 answered in its place");
    expect(exchange.counters).toMatchObject({
      sent: 1,
      retransmitted: 6,
      wrongSource: 1,
      timedOut: 1,
      answered: 0,
    });
  });

  test("takes the answer to a request that was sent again, once", async () => {
    const { exchange, sent, run } = start();
    const request = exchange.request({ to: SERVER });
    run(700);
    const id = (sent[0] as Sent).bytes.slice(8, 20);
    expect(exchange.receive(answer(id), SERVER)).toBe(true);
    expect(exchange.receive(answer(id), SERVER)).toBe(true);
    expect(await request).toMatchObject({ from: SERVER, sent: 2, rttMs: 700 });
    run(40_000);
    expect(sent.length).toBe(2);
    expect(exchange.counters).toMatchObject({ answered: 1, unexpected: 1 });
  });

  test("drops and counts answers with another id, another method, or broken", async () => {
    const { exchange, sent, run } = start();
    const request = exchange.request({ to: SERVER, timeoutMs: 100 }).catch((error: unknown) => error);
    const id = (sent[0] as Sent).bytes.slice(8, 20);
    const other = id.slice();
    other[11] = (other[11] as number) ^ 1;
    const broken = answer(id, { fingerprint: true });
    broken[broken.length - 1] = (broken[broken.length - 1] as number) ^ 1;
    for (const bytes of [answer(other), answer(id, { method: 3 }), broken]) exchange.receive(bytes, SERVER);
    run(200);
    expect(await request).toMatchObject({ code: "timeout" });
    expect(exchange.counters).toMatchObject({ unexpected: 2, malformed: 1, answered: 0 });
  });

  test("leaves what is no answer to others", () => {
    const { exchange } = start();
    const id = new Uint8Array(12);
    for (const bytes of [
      encodeStun({ class: "request", method: 1, transactionId: id }),
      encodeStun({ class: "indication", method: 1, transactionId: id }),
      new Uint8Array([0x40, 0, 0, 0]),
      new Uint8Array(40).fill(1),
      new Uint8Array(),
    ]) {
      expect(exchange.receive(bytes, SERVER)).toBe(false);
    }
  });

  test("a signed request takes signed answers only, but for errors of a server that knows nobody yet", async () => {
    const key = shortTermKey("secret");
    const { exchange, sent } = start();
    const integrity = { key, hash: "sha256" } as const;
    const ask = (): ReturnType<StunExchange["request"]> => exchange.request({ to: SERVER, integrity });
    const first = ask();
    const id = (sent[0] as Sent).bytes.slice(8, 20);
    exchange.receive(answer(id), SERVER);
    exchange.receive(answer(id, { integrity: { key: shortTermKey("wrong"), hashes: ["sha256"] } }), SERVER);
    exchange.receive(answer(id, errorFields(500)), SERVER);
    expect(exchange.counters.wrongIntegrity).toBe(3);
    exchange.receive(answer(id, { integrity: { key, hashes: ["sha256"] } }), SERVER);
    expect((await first).message.class).toBe("success");
    const second = ask();
    exchange.receive(answer((sent[1] as Sent).bytes.slice(8, 20), errorFields(401)), SERVER);
    expect((await second).message.class).toBe("error");
  });

  test("an answer that demands something unknown fails its request, unless the request understands it", async () => {
    const strange = kinds.attribute(kinds.bytesKind(0x000d, "LIFETIME"), new Uint8Array(4));
    const { exchange, sent } = start();
    const first = exchange.request({ to: SERVER }).catch((error: unknown) => error);
    exchange.receive(answer((sent[0] as Sent).bytes.slice(8, 20), { attributes: [strange] }), SERVER);
    expect(await first).toMatchObject({ code: "protocol", detail: { unknown: [0x000d] } });
    const second = exchange.request({ to: SERVER, understands: [0x000d] });
    exchange.receive(answer((sent[1] as Sent).bytes.slice(8, 20), { attributes: [strange] }), SERVER);
    expect((await second).message.class).toBe("success");
  });

  test("a classic request has no cookie and takes an answer without one", async () => {
    const { exchange, sent } = start();
    const request = exchange.request({ to: SERVER, classic: true });
    const id = (sent[0] as Sent).bytes.slice(4, 20);
    expect(exchange.receive(answer(id), SERVER)).toBe(true);
    expect((await request).message).toMatchObject({ classic: true, transactionId: id });
  });

  test("what is called off, or refused beforehand, ends at once and leaves no timer", async () => {
    const { exchange, run, timers, sent } = start();
    const stop = new AbortController();
    const request = exchange.request({ to: SERVER, signal: stop.signal }).catch((error: unknown) => error);
    stop.abort();
    expect(await request).toMatchObject({ code: "aborted" });
    expect(timers()).toBe(0);
    expect(exchange.request({ to: SERVER, signal: stop.signal })).rejects.toMatchObject({ code: "aborted" });
    const waiting = exchange.request({ to: SERVER }).catch((error: unknown) => error);
    exchange.fail(new P2pdError("closed", "over"));
    expect(await waiting).toMatchObject({ code: "closed" });
    expect(exchange.request({ to: SERVER })).rejects.toMatchObject({ code: "closed" });
    run(40_000);
    expect([timers(), sent.length]).toEqual([0, 2]);
  });

  test("a transport that cannot send fails the request", () => {
    const { exchange } = start(() => {
      throw new Error("no route");
    });
    expect(exchange.request({ to: SERVER })).rejects.toMatchObject({ code: "send-failed" });
  });

  test("more requests at once than it has room for are refused", async () => {
    const { exchange, timers } = start();
    const all = Array.from({ length: 4097 }, () =>
      exchange.request({ to: SERVER }).catch((error: unknown) => error),
    );
    expect(await all[4096]).toMatchObject({ code: "send-failed" });
    exchange.fail(new P2pdError("closed", "over"));
    await Promise.all(all);
    expect(timers()).toBe(0);
  });
});

interface Sent {
  readonly atMs: number;
  readonly bytes: Uint8Array;
}

function start(refuse?: () => void): {
  exchange: StunExchange;
  sent: Sent[];
  run: (untilMs: number) => void;
  timers: () => number;
} {
  const sent: Sent[] = [];
  const pending = new Set<{ atMs: number; fire: () => void }>();
  let nowMs = 0;
  let counter = 0;
  const world: Pick<World, "time" | "randomBytes"> = {
    time: {
      now: () => nowMs,
      wallMs: () => nowMs,
      after(delayMs, fire): Timer {
        const timer = { atMs: nowMs + delayMs, fire };
        pending.add(timer);
        return { cancel: () => void pending.delete(timer) };
      },
    },
    randomBytes(count) {
      const bytes = new Uint8Array(count).fill(9);
      new DataView(bytes.buffer).setUint32(count - 4, ++counter);
      return bytes;
    },
  };
  const exchange = createStunExchange(world, false, (bytes) => {
    refuse?.();
    sent.push({ atMs: nowMs, bytes });
  });
  return {
    exchange,
    sent,
    timers: () => pending.size,
    run(untilMs) {
      for (;;) {
        const next = [...pending].sort((a, b) => a.atMs - b.atMs)[0];
        if (next === undefined || next.atMs > untilMs) break;
        pending.delete(next);
        nowMs = next.atMs;
        next.fire();
      }
      nowMs = untilMs;
    },
  };
}

function answer(transactionId: Uint8Array, fields: Partial<StunFields> = {}): Uint8Array {
  return encodeStun({ class: "success", method: 1, transactionId, ...fields });
}

function errorFields(code: number): Partial<StunFields> {
  return { class: "error", attributes: [kinds.attribute(kinds.ERROR_CODE, { code, reason: "" })] };
}
