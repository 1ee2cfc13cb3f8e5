/** Which signature a client puts under its requests, by what the server has said: the table of RFC 8489 section 9.2.5. */
import { expect, test } from "bun:test";
import { createTurnLogin, type Signature } from "../../../core/turn/turn-login.ts";
import { renewAfterMs, retryAfterMs } from "../../../core/turn/keep-up.ts";
import * as kinds from "../../../core/wire/stun-attributes.ts";
import { longTermKey } from "../../../core/wire/stun-integrity.ts";
import { decodeStun, encodeStun, type StunMessage } from "../../../core/wire/stun.ts";

const NO_FEATURES = "plain nonce";
const ALGORITHMS = "obMatJos2gAAA rest";
const ANONYMITY = "obMatJos2wAAA rest";
const [MD5, SHA256, OTHER] = [1, 2, 9].map((algorithm) => ({ algorithm, parameters: new Uint8Array(0) })) as [
  kinds.PasswordAlgorithm,
  kinds.PasswordAlgorithm,
  kinds.PasswordAlgorithm,
];

test("before the server has told its realm nothing is signed", () => {
  expect(createTurnLogin("u", "p").sign()).toBeUndefined();
});

test.each([
  ["of RFC 5389", NO_FEATURES, undefined, "sha1", 1, false],
  ["of RFC 5389 with a list that its nonce does not announce", NO_FEATURES, [SHA256], "sha1", 1, false],
  ["that prefers SHA-256", ALGORITHMS, [SHA256, MD5], "sha256", 2, true],
  ["that prefers MD5", ALGORITHMS, [MD5, SHA256], "sha256", 1, true],
  ["that prefers what we do not know", ALGORITHMS, [OTHER, SHA256], "sha256", 2, true],
  ["that hides names", ANONYMITY, [SHA256], "sha256", 2, true],
] as const)("with a server %s", (_, nonce, list, hash, algorithm, echoes) => {
  const login = createTurnLogin("u", "p");
  expect(login.learn(challenge(401, nonce, list), undefined)).toBe(true);
  const { attributes, integrity } = login.sign() as Signature;
  expect(integrity.hash).toBe(hash);
  expect(integrity.key).toEqual(longTermKey("u", "r", "p", algorithm));
  const types = attributes.map(({ type }) => type);
  const name = nonce === ANONYMITY ? kinds.USERHASH : kinds.USERNAME;
  expect(types.slice(0, 3)).toEqual([name.type, kinds.REALM.type, kinds.NONCE.type]);
  expect(types.includes(kinds.PASSWORD_ALGORITHMS.type)).toBe(echoes);
  expect(types.includes(kinds.PASSWORD_ALGORITHM.type)).toBe(echoes);
});

test.each([
  ["no realm or nonce", encode(401, [])],
  ["a list that was taken out on the way", challenge(401, ALGORITHMS, undefined)],
  ["only algorithms that we do not know", challenge(401, ALGORITHMS, [OTHER])],
  [
    "a realm that no key can be made of",
    encode(401, [kinds.attribute(kinds.REALM, "\u0007"), kinds.attribute(kinds.NONCE, "n")]),
  ],
  ["another code", challenge(486, NO_FEATURES, undefined)],
])("a refusal with %s is no reason to try again", (_, message) => {
  expect(createTurnLogin("u", "p").learn(message, undefined)).toBe(false);
});

test("a refused password is not sent again, a stale nonce is replaced, and what was learnt meanwhile is used", () => {
  const login = createTurnLogin("u", "p");
  login.learn(challenge(401, NO_FEATURES, undefined), undefined);
  const first = login.sign();
  expect(login.learn(challenge(401, "other", undefined), first)).toBe(false);
  expect(login.sign()).toBe(first);
  expect(login.learn(challenge(438, "other", undefined), first)).toBe(true);
  expect(login.sign()).not.toBe(first);
  expect(login.learn(challenge(401, "third", undefined), first)).toBe(true);
});

test("what another login learnt is learnt anew when it is refused, once", () => {
  const other = createTurnLogin("u", "p");
  other.learn(challenge(401, NO_FEATURES, undefined), undefined);
  const known = other.sign() as Signature;
  const login = createTurnLogin("u", "p", known);
  expect(login.learn(challenge(401, ALGORITHMS, [SHA256]), known)).toBe(true);
  const fresh = login.sign() as Signature;
  expect(fresh.integrity.hash).toBe("sha256");
  expect(login.learn(challenge(401, ALGORITHMS, [SHA256]), fresh)).toBe(false);
});

test.each([
  [600, 540_000],
  [3600, 3_540_000],
  [120, 60_000],
  [60, 30_000],
  [10, 5000],
])("a lifetime of %p s is renewed after %p ms", (seconds, delayMs) => {
  expect(renewAfterMs(seconds)).toBe(delayMs);
});

test("a renewal without an answer is tried again until what it is for has ended", () => {
  expect(retryAfterMs(0, 60_000)).toBe(5000);
  expect(retryAfterMs(55_000, 60_000)).toBeUndefined();
});

function challenge(
  code: number,
  nonce: string,
  list: readonly kinds.PasswordAlgorithm[] | undefined,
): StunMessage {
  return encode(code, [
    kinds.attribute(kinds.REALM, "r"),
    kinds.attribute(kinds.NONCE, nonce),
    ...(list === undefined ? [] : [kinds.attribute(kinds.PASSWORD_ALGORITHMS, list)]),
  ]);
}

function encode(code: number, more: readonly kinds.Attribute[]): StunMessage {
  const attributes = [kinds.attribute(kinds.ERROR_CODE, { code, reason: "" }), ...more];
  const message = decodeStun(
    encodeStun({ class: "error", method: 3, transactionId: new Uint8Array(12), attributes }),
  );
  if (typeof message === "string") throw new Error(message);
  return message;
}
