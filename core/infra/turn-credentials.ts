/**
 * Who may use the TURN server: users with a password (RFC 8489 section 9.2), and users of the form `EXPIRY:NAME`
 * whose password is made from a shared secret and is good until EXPIRY, a time in seconds since 1970. Knows no
 * messages.
 */
import { createHmac } from "node:crypto";
import { toP2pdError } from "../errors.ts";
import type { PASSWORD_MD5, PASSWORD_SHA256 } from "../wire/stun-attributes.ts";
import { longTermKey, userHash } from "../wire/stun-integrity.ts";

export type PasswordHash = typeof PASSWORD_MD5 | typeof PASSWORD_SHA256;

export interface TurnUser {
  readonly name: string;
  readonly password: string;
}

/** A user that is known, with the key of its password. */
export interface KnownUser {
  readonly username: string;
  /** Whose quota its allocations count against: of `EXPIRY:NAME`, the name. */
  readonly account: string;
  readonly key: Uint8Array;
}

export interface TurnCredentials {
  /** The user, or why it is none. `wallMs` is the time since 1970 in milliseconds. */
  find(username: string, hash: PasswordHash, wallMs: number): KnownUser | "unknown" | "expired";
  /** The name behind a USERHASH (RFC 8489 section 14.4); of users with a password only. */
  nameOf(hashed: Uint8Array): string | undefined;
}

export interface CredentialOptions {
  readonly realm: string;
  readonly users: readonly TurnUser[];
  /** Absent: there are no users with an expiry. */
  readonly secret?: string;
}

const TIMED_USER = /^([0-9]{1,12})(?::(.*))?$/s;

/** Throws `bad-argument` for a user or realm that RFC 8265 does not allow. */
export function createCredentials({ realm, users, secret }: CredentialOptions): TurnCredentials {
  const passwords = new Map(users.map(({ name, password }) => [name, password]));
  const hashed = new Map(users.map(({ name }) => [userHash(name, realm).toBase64(), name]));
  const keys = new Map<string, KnownUser>();
  for (const { name, password } of users) {
    for (const hash of [1, 2] as const) {
      keys.set(`${hash}${name}`, {
        username: name,
        account: name,
        key: longTermKey(name, realm, password, hash),
      });
    }
  }

  return {
    find(username, hash, wallMs) {
      if (passwords.has(username)) return keys.get(`${hash}${username}`) ?? "unknown";
      const timed = secret === undefined ? null : TIMED_USER.exec(username);
      if (secret === undefined || timed === null) return "unknown";
      if (Number(timed[1]) * 1000 <= wallMs) return "expired";
      try {
        const key = longTermKey(username, realm, timedPassword(secret, username), hash);
        return { username, account: timed[2] ?? "", key };
      } catch (thrown) {
        // The name came from the network and may have characters that no user name has.
        if (toP2pdError(thrown).code === "bad-argument") return "unknown";
        throw thrown;
      }
    },
    nameOf: (hash) => hashed.get(hash.toBase64()),
  };
}

/** The password of `EXPIRY:NAME`, as coturn's `use-auth-secret` has it. */
export function timedPassword(secret: string, username: string): string {
  return createHmac("sha1", secret).update(username).digest("base64");
}
