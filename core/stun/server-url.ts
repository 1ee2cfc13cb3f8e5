/**
 * STUN servers as people write them (RFC 7064): `stun:host`, `stun:host:port`, `stun:[2001:db8::1]:port`, and
 * `?transport=tcp` as TURN's URIs have it. Finds no addresses.
 */
import { P2pdError } from "../errors.ts";
import { canonicalIp } from "../ip.ts";

export interface StunServer {
  /** A name, or an address in canonical text without brackets. */
  readonly host: string;
  readonly port: number;
  /** The one transport it was given for; absent: either. */
  readonly transport?: "udp" | "tcp";
}

export const STUN_PORT = 3478;

/** Reads one server. Throws `bad-argument`, or `unsupported` for `stuns:`, naming what is wrong. */
export function parseStunServer(text: string): StunServer {
  const refuse = (why: string): P2pdError =>
    new P2pdError(
      "bad-argument",
      `STUN server "${text.slice(0, 300)}": ${why}; expected stun:HOST[:PORT][?transport=udp|tcp]`,
    );
  const scheme = /^([a-z]+):/i.exec(text)?.[1]?.toLowerCase();
  if (scheme === "stuns") {
    throw new P2pdError(
      "unsupported",
      `STUN server "${text.slice(0, 300)}": STUN over TLS is not spoken here; use stun:`,
    );
  }
  if (scheme !== "stun") throw refuse("it does not begin with stun:");
  const [place = "", query, ...more] = text.slice("stun:".length).split("?");
  if (place.startsWith("//")) throw refuse("RFC 7064 has no // in it");
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::([0-9]*))?$/.exec(place);
  if (match === null) throw refuse("the host is unreadable (IPv6 addresses stand in brackets)");
  const [, bracketed, plain, portText] = match;
  const host = bracketed === undefined ? nameOrIp4(plain as string) : ip6(bracketed);
  if (host === undefined) throw refuse(`"${bracketed ?? plain}" is no host name and no address`);
  const port = portText === undefined ? STUN_PORT : Number(portText);
  if (portText === "" || port < 1 || port > 65_535) throw refuse(`"${portText}" is no port from 1 to 65535`);
  if (query === undefined) return { host, port };
  const transport = /^transport=(udp|tcp)$/i.exec(query)?.[1]?.toLowerCase();
  if (more.length > 0 || transport === undefined)
    throw refuse(`"?${[query, ...more].join("?")}" is not understood`);
  return { host, port, transport: transport as "udp" | "tcp" };
}

/** The text that `parseStunServer` reads. */
export function formatStunServer({ host, port, transport }: StunServer): string {
  const place = host.includes(":") ? `[${host}]` : host;
  return `stun:${place}:${port}${transport === undefined ? "" : `?transport=${transport}`}`;
}

function ip6(text: string): string | undefined {
  return text.includes(":") ? canonicalIp(text) : undefined;
}

function nameOrIp4(text: string): string | undefined {
  const labels = text.replace(/\.$/, "").split(".");
  if (text.length > 253 || !labels.every((label) => /^[a-z0-9_][a-z0-9_-]{0,62}$/i.test(label)))
    return undefined;
  // A name whose last label is a number is a mistyped address (RFC 3696 section 2).
  return /(^|\.)[0-9]+\.?$/.test(text) ? canonicalIp(text) : text.toLowerCase();
}
