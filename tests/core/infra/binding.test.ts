/** Binding requests: what is told, from where it is sent, and what is refused. */
import { expect, test } from "bun:test";
import { answerBinding, type StunListener } from "../../../core/infra/binding.ts";
import type { Endpoint } from "../../../core/ip.ts";
import * as kinds from "../../../core/wire/stun-attributes.ts";
import * as stun from "../../../core/wire/stun.ts";

const FROM = { ip: "5.46.0.7", port: 1234 };
const ID = new Uint8Array(12).fill(9);

test("a request is told where it came from, mixed, and gets its fingerprint back", () => {
  const { message, to } = ask([], grid()[0], { fingerprint: true });
  expect(stun.readAttribute(message, kinds.XOR_MAPPED_ADDRESS)).toEqual(FROM);
  expect(stun.hasAttribute(message, kinds.FINGERPRINT)).toBe(true);
  expect(to).toEqual(FROM);
  expect(message.bytes.length).toBeLessThanOrEqual(20 + 12 + 12 + 12 + 8);
});

test.each([
  [false, false, 0],
  [true, false, 1],
  [false, true, 2],
  [true, true, 3],
])(
  "CHANGE-REQUEST of address %p and port %p is answered from there, from any of the four",
  (changeIp, changePort, flip) => {
    const listeners = grid();
    listeners.forEach((listener, i) => {
      const { message, from } = ask(
        [kinds.attribute(kinds.CHANGE_REQUEST, { changeIp, changePort })],
        listener,
      );
      expect(from).toBe(listeners[i ^ flip] as StunListener);
      expect(stun.readAttribute(message, kinds.RESPONSE_ORIGIN)).toEqual(from?.shown as never);
      expect(stun.readAttribute(message, kinds.OTHER_ADDRESS)).toEqual(listeners[i ^ 3]?.shown as never);
    });
  },
);

test("with one address there is no other, and a request to change is refused as unknown", () => {
  const alone: StunListener = { shown: { ip: "5.44.0.1", port: 3478 } };
  expect(stun.hasAttribute(ask([], alone).message, kinds.OTHER_ADDRESS)).toBe(false);
  const change = kinds.attribute(kinds.CHANGE_REQUEST, { changeIp: true, changePort: true });
  const { message, from } = ask([change], alone);
  expect(stun.readAttribute(message, kinds.ERROR_CODE)?.code).toBe(420);
  expect(stun.readAttribute(message, kinds.UNKNOWN_ATTRIBUTES)).toEqual([3]);
  expect(from).toBe(alone);
});

test("over TCP the other address is told, and answering from it is refused as unknown", () => {
  const other = { ip: "5.44.0.2", port: 3479 };
  expect(stun.readAttribute(ask([], undefined, { other }).message, kinds.OTHER_ADDRESS)).toEqual(other);
  const change = kinds.attribute(kinds.CHANGE_REQUEST, { changeIp: true, changePort: true });
  expect(codeOf(ask([change], undefined, { other }).message)).toBe(420);
});

test("a request of RFC 3489 is answered in its own words", () => {
  const { message } = ask([], grid()[0], { transactionId: new Uint8Array(16).fill(7) });
  expect(stun.readAttribute(message, kinds.MAPPED_ADDRESS)).toEqual(FROM);
  expect(stun.hasAttribute(message, kinds.CHANGED_ADDRESS)).toBe(true);
  expect(stun.hasAttribute(message, kinds.XOR_MAPPED_ADDRESS)).toBe(false);
});

test("RESPONSE-PORT sends the answer to another port of the same address, never with padding", () => {
  const port = kinds.attribute(kinds.RESPONSE_PORT, 99);
  expect(ask([port], grid()[0]).to).toEqual({ ip: FROM.ip, port: 99 });
  const padding = kinds.attribute(kinds.PADDING, new Uint8Array(500));
  expect(codeOf(ask([port, padding], grid()[0]).message)).toBe(400);
  expect(codeOf(ask([kinds.attribute(kinds.RESPONSE_PORT, 0)], grid()[0]).message)).toBe(400);
  expect(codeOf(ask([port], undefined).message)).toBe(400);
});

test.each([0, 8, 500, 1400])("%p octets of padding are answered with as many, no more", (length) => {
  const padding = kinds.attribute(kinds.PADDING, new Uint8Array(length));
  const { message } = ask([padding], grid()[0]);
  expect(stun.readAttribute(message, kinds.PADDING)?.length).toBe(length);
});

test("an attribute that must be understood and is not is named", () => {
  const unknown = { type: 0x7001, size: 0, write() {} };
  const { message } = ask([unknown], grid()[0]);
  expect(codeOf(message)).toBe(420);
  expect(stun.readAttribute(message, kinds.UNKNOWN_ATTRIBUTES)).toEqual([0x7001]);
});

function ask(
  attributes: readonly kinds.Attribute[],
  listener: StunListener | undefined,
  { other, ...more }: { fingerprint?: boolean; transactionId?: Uint8Array; other?: Endpoint } = {},
) {
  const bytes = stun.encodeStun({ class: "request", method: 1, transactionId: ID, attributes, ...more });
  const request = stun.decodeStun(bytes, { classic: true });
  if (typeof request === "string") throw new Error(request);
  const answer = answerBinding(request, FROM, { ip: "5.44.0.1", port: 3478 }, listener, other);
  const message = stun.decodeStun(answer.bytes, { classic: true });
  if (typeof message === "string") throw new Error(message);
  return { ...answer, message };
}

function codeOf(message: stun.StunMessage): number | undefined {
  return stun.readAttribute(message, kinds.ERROR_CODE)?.code;
}

/** Two addresses with two ports each. */
function grid(): StunListener[] {
  const listeners: StunListener[] = [0, 1, 2, 3].map((i) => ({
    shown: { ip: `5.44.0.${1 + (i & 1)}`, port: 3478 + (i >> 1) },
  }));
  listeners.forEach((listener, i) => {
    const at = (place: number): StunListener => listeners[place] as StunListener;
    Object.assign(listener, { others: { ip: at(i ^ 1), port: at(i ^ 2), both: at(i ^ 3) } });
  });
  return listeners;
}
