/**
 * Nonces that need no memory (RFC 8489 section 9.2): the time of issue under a MAC of a key that this process alone
 * has, bound to the client's address. They begin with the cookie that announces password algorithms (section 9.2.1),
 * so that nobody on the way can take those out of an answer unnoticed.
 */
import { createHmac, timingSafeEqual } from "node:crypto";

export interface Nonces {
  issue(ip: string, nowMs: number): string;
  /** Whether a nonce is ours, for this address, and not too old. */
  accepts(nonce: string, ip: string, nowMs: number): boolean;
}

/** "obMatJos2" and 24 bits of features, of which the first is set. */
const PREFIX = "obMatJos2gAAA";
const TIME_DIGITS = 9;
const MAC_OCTETS = 12;

export function createNonces(key: Uint8Array, lifetimeMs: number): Nonces {
  const mac = (issued: string, ip: string): string =>
    createHmac("sha256", key)
      .update(`${issued} ${ip}`)
      .digest()
      .subarray(0, MAC_OCTETS)
      .toString("base64url");
  return {
    issue(ip, nowMs) {
      const issued = Math.floor(nowMs).toString(36).padStart(TIME_DIGITS, "0");
      return PREFIX + issued + mac(issued, ip);
    },
    accepts(nonce, ip, nowMs) {
      if (!nonce.startsWith(PREFIX)) return false;
      const issued = nonce.slice(PREFIX.length, PREFIX.length + TIME_DIGITS);
      const given = Buffer.from(nonce.slice(PREFIX.length + TIME_DIGITS), "latin1");
      const right = Buffer.from(mac(issued, ip), "latin1");
      if (given.length !== right.length || !timingSafeEqual(given, right)) return false;
      const ageMs = nowMs - Number.parseInt(issued, 36);
      return ageMs < lifetimeMs;
    },
  };
}
