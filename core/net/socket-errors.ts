/**
 * Turns what the system says of a socket into the project's errors: one code, and a text that names both
 * ends and the system's own word for it.
 */
import { type ErrorCode, P2pdError } from "../errors.ts";
import { type Endpoint, formatEndpoint } from "../ip.ts";

/** Name of the system's error, `ECONNREFUSED`; "" where the error carries none. */
export function systemCodeOf(thrown: unknown): string {
  const code = thrown instanceof Error && "code" in thrown ? thrown.code : undefined;
  return typeof code === "string" ? code : "";
}

const OPEN_CODES: Readonly<Record<string, readonly [code: ErrorCode, words: string]>> = {
  ECONNREFUSED: ["refused", "nobody listens there, or a firewall refuses"],
  ECONNRESET: ["refused", "the connection was reset while it was being made"],
  ECONNABORTED: ["refused", "the connection was given up while it was being made"],
  ETIMEDOUT: ["timeout", "no answer"],
  ENETUNREACH: ["unreachable", "there is no route to that network"],
  ENOPROTOOPT: ["refused", "the host does not take that protocol"],
  EHOSTUNREACH: ["unreachable", "a router says that the host cannot be reached"],
  EHOSTDOWN: ["unreachable", "the host does not answer on the local network"],
  ENETDOWN: ["unreachable", "the network is down"],
  EADDRNOTAVAIL: ["unreachable", "the local address is not one of this machine"],
  EAFNOSUPPORT: ["unreachable", "this machine does not speak that address family"],
  EINVAL: ["unreachable", "the local address cannot reach it"],
  ENODEV: ["unreachable", "there is no NIC of that name"],
  EPERM: ["unreachable", "the system's policy forbids it"],
  EACCES: ["unreachable", "the system's policy forbids it"],
  EADDRINUSE: ["address-in-use", "the local address and port are taken"],
  EMSGSIZE: ["too-large", "the datagram is larger than the system sends"],
  EMFILE: ["unavailable", "this process has no descriptor left"],
  ENFILE: ["unavailable", "the system has no descriptor left"],
};

/** Why a socket could not be opened, bound or connected; `what` says what was tried. */
export function openError(thrown: unknown, what: string): P2pdError {
  if (thrown instanceof P2pdError) return thrown;
  const system = systemCodeOf(thrown);
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  const known = OPEN_CODES[system];
  if (known === undefined)
    return new P2pdError("unreachable", `${what}: ${text}`, { system }, { cause: thrown });
  return new P2pdError(known[0], `${what}: ${known[1]} (${system})`, { system }, { cause: thrown });
}

/** Why an open connection ended otherwise than by both sides finishing. */
export function closeError(error: Error | undefined, local: Endpoint, remote: Endpoint): P2pdError {
  const who = `the connection ${formatEndpoint(local)} -> ${formatEndpoint(remote)}`;
  if (error === undefined) return new P2pdError("closed", `${who} was closed by the other side`);
  const system = systemCodeOf(error);
  if (system === "ETIMEDOUT") {
    return new P2pdError("timeout", `${who} was lost: no answer (${system})`, { system }, { cause: error });
  }
  const [code, text] = /^(ERR_SSL|ERR_TLS|EPROTO)/.test(system)
    ? (["protocol", "broke the rules of TLS"] as const)
    : /^E[A-Z0-9]+$/.test(system)
      ? (["closed", "was cut off by the other side"] as const)
      : (["internal", "was given up, since its receiver failed"] as const);
  const why = system === "" || code === "internal" ? error.message : system;
  return new P2pdError(code, `${who} ${text} (${why})`, { system }, { cause: error });
}
