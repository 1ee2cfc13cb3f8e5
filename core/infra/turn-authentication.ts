/**
 * The server's half of STUN's long-term credentials (RFC 8489 section 9.2.4): whether a request comes from a user, and
 * if not, with which error and what it is told to do better.
 */
import * as kinds from "../wire/stun-attributes.ts";
import { hasAttribute, readAttribute, type StunMessage, verifyIntegrity } from "../wire/stun.ts";
import type { Nonces } from "./nonces.ts";
import type { KnownUser, PasswordHash, TurnCredentials } from "./turn-credentials.ts";
import type { ClientPath } from "./turn-parts.ts";
import type { Sender } from "./turn-request.ts";

/** Why a request is not served. */
export interface Refusal {
  readonly code: 400 | 401 | 438 | 441;
  readonly attributes: readonly kinds.Attribute[];
  /** For the log; absent for what every client does before it knows the realm. */
  readonly why?: string;
}

export type Authenticate = (message: StunMessage, path: ClientPath, nowMs: number) => Sender | Refusal;

export interface AuthenticationOptions {
  readonly realm: string;
  readonly credentials: TurnCredentials;
  readonly nonces: Nonces;
  /** Milliseconds since 1970. */
  readonly wallMs: () => number;
}

const ALGORITHMS: readonly kinds.PasswordAlgorithm[] = [
  { algorithm: kinds.PASSWORD_SHA256, parameters: new Uint8Array(0) },
  { algorithm: kinds.PASSWORD_MD5, parameters: new Uint8Array(0) },
];

export function createAuthentication(options: AuthenticationOptions): Authenticate {
  const { realm, credentials, nonces, wallMs } = options;
  // The cost of a failure to a stranger's benefit is kept small: these three, and no name of the software.
  const challenge = (path: ClientPath, nowMs: number): kinds.Attribute[] => [
    kinds.attribute(kinds.REALM, realm),
    kinds.attribute(kinds.NONCE, nonces.issue(path.remote.ip, nowMs)),
    kinds.attribute(kinds.PASSWORD_ALGORITHMS, ALGORITHMS),
  ];

  function passwordHashOf(message: StunMessage): PasswordHash | undefined {
    const hasList = hasAttribute(message, kinds.PASSWORD_ALGORITHMS);
    const hasChoice = hasAttribute(message, kinds.PASSWORD_ALGORITHM);
    // A client of RFC 5389 knows neither.
    if (!hasList && !hasChoice) return kinds.PASSWORD_MD5;
    const list = readAttribute(message, kinds.PASSWORD_ALGORITHMS);
    const choice = readAttribute(message, kinds.PASSWORD_ALGORITHM);
    if (list === undefined || choice === undefined || list.length !== ALGORITHMS.length) return undefined;
    // Somebody on the way may have taken the better one out of our answer.
    if (list.some(({ algorithm }, i) => algorithm !== ALGORITHMS[i]?.algorithm)) return undefined;
    const { algorithm } = choice;
    return algorithm === kinds.PASSWORD_MD5 || algorithm === kinds.PASSWORD_SHA256 ? algorithm : undefined;
  }

  function userOf(path: ClientPath, username: string, hash: PasswordHash): KnownUser | "unknown" | "expired" {
    const { allocation } = path;
    // Who has an allocation may keep it: its user's expiry is about new ones.
    if (allocation?.username === username && allocation.passwordHash === hash) return allocation;
    return credentials.find(username, hash, wallMs());
  }

  return (message, path, nowMs) => {
    const hasSha256 = hasAttribute(message, kinds.MESSAGE_INTEGRITY_SHA256);
    if (!hasSha256 && !hasAttribute(message, kinds.MESSAGE_INTEGRITY)) {
      return { code: 401, attributes: challenge(path, nowMs) };
    }
    const userHash = readAttribute(message, kinds.USERHASH);
    const name = readAttribute(message, kinds.USERNAME);
    const nonce = readAttribute(message, kinds.NONCE);
    const realmGiven = readAttribute(message, kinds.REALM);
    const hash = passwordHashOf(message);
    if ((name === undefined && userHash === undefined) || nonce === undefined || realmGiven === undefined) {
      return { code: 400, attributes: [], why: "USERNAME, REALM or NONCE is missing or malformed" };
    }
    if (hash === undefined) {
      return { code: 400, attributes: [], why: "PASSWORD-ALGORITHM and PASSWORD-ALGORITHMS are not ours" };
    }
    if (!nonces.accepts(nonce, path.remote.ip, nowMs)) {
      return { code: 438, attributes: challenge(path, nowMs) };
    }
    const username = name ?? credentials.nameOf(userHash as Uint8Array);
    const user = username === undefined ? "unknown" : userOf(path, username, hash);
    const integrity = hasSha256 ? "sha256" : "sha1";
    const why =
      realmGiven !== realm
        ? `the realm is ${JSON.stringify(realmGiven)}; expected ${JSON.stringify(realm)}`
        : user === "unknown"
          ? `the user ${JSON.stringify(username ?? "(hashed)")} is unknown`
          : user === "expired"
            ? `the credential of ${JSON.stringify(username)} has expired`
            : verifyIntegrity(message, user.key, integrity)
              ? undefined
              : `the password of ${JSON.stringify(username)} is wrong`;
    if (why !== undefined) return { code: 401, attributes: challenge(path, nowMs), why };
    const { account, key } = user as KnownUser;
    return { username: username as string, account, key, passwordHash: hash, integrity };
  };
}

export function isRefusal(outcome: Sender | Refusal): outcome is Refusal {
  return "code" in outcome;
}
