/** A caller's proof of its key, in both forms. */
import { expect, test } from "bun:test";
import { P2pdError } from "../../../core/errors.ts";
import {
  CHALLENGE_LENGTH,
  encodeProof,
  PROOF_LENGTH,
  type ProofSubject,
  verifyProof,
} from "../../../core/net/quic-proof.ts";
import { createTestIdentity } from "./credentials.ts";

const caller = createTestIdentity();
const listener = createTestIdentity();
const other = createTestIdentity();
const octets = (fill: number): Uint8Array => new Uint8Array(CHALLENGE_LENGTH).fill(fill);

const FORMS: readonly (readonly [form: number, subject: ProofSubject, another: ProofSubject])[] = [
  [
    1,
    { exporterSecret: octets(1), listenerKey: listener.key },
    { exporterSecret: octets(2), listenerKey: listener.key },
  ],
  [
    2,
    { challenge: octets(1), listenerKey: listener.key },
    { challenge: octets(2), listenerKey: listener.key },
  ],
];

function codeOf(verify: () => unknown): string {
  try {
    verify();
    return "accepted";
  } catch (thrown) {
    return thrown instanceof P2pdError ? thrown.code : "another error";
  }
}

for (const [form, subject, another] of FORMS) {
  const proof = encodeProof(subject, caller.key, caller.credentials.privateKeyPem);

  test(`form ${form} proves the caller's key for its own session and listener alone`, () => {
    expect(verifyProof(proof, subject)).toEqual(new Uint8Array(caller.key));
    expect(codeOf(() => verifyProof(proof, another))).toBe("peer-key");
    expect(codeOf(() => verifyProof(proof, { ...subject, listenerKey: other.key }))).toBe("peer-key");
  });

  test(`form ${form} with any octet changed, cut short or signed by another key proves nothing`, () => {
    for (let i = 0; i < PROOF_LENGTH; i++) {
      const bent = proof.slice();
      bent[i] = (bent[i] as number) ^ 1;
      expect(codeOf(() => verifyProof(bent, subject))).toBe(i === 0 ? "protocol" : "peer-key");
      expect(codeOf(() => verifyProof(proof.subarray(0, i), subject))).toBe("protocol");
    }
    const forged = encodeProof(subject, caller.key, other.credentials.privateKeyPem);
    expect(codeOf(() => verifyProof(forged, subject))).toBe("peer-key");
  });
}

test("one form is not taken for the other, though both sign the same octets", () => {
  const [[, first], [, second]] = FORMS as [(typeof FORMS)[number], (typeof FORMS)[number]];
  const proof = encodeProof(first, caller.key, caller.credentials.privateKeyPem);
  expect(codeOf(() => verifyProof(proof, second))).toBe("protocol");
  const disguised = proof.slice();
  disguised[0] = 2;
  expect(codeOf(() => verifyProof(disguised, second))).toBe("peer-key");
});
