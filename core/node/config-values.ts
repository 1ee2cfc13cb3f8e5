/**
 * The values that a setting's text stands for: servers, broker URLs, paths. Each reader returns undefined for text
 * that is none; who wrote the text, and what to say of it, is the loader's business.
 */
import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import { canonicalIp, parseIp } from "../ip.ts";
import type { ServerAddress, TurnServer } from "./node-config.ts";

const HOST_NAME =
  /^(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\.?$/i;

/** `HOST`, `HOST:PORT`, `[IPv6]` or `[IPv6]:PORT`. */
export function readServer(text: string, defaultPort: number): ServerAddress | undefined {
  const match = /^(?:\[([^[\]]+)\]|([^:[\]]+))(?::([0-9]{1,5}))?$/.exec(text);
  if (match === null) return undefined;
  const host = match[1] === undefined ? readHost(match[2] as string) : canonicalIp(match[1]);
  const port = match[3] === undefined ? defaultPort : Number(match[3]);
  return host === undefined || port < 1 || port > 65535 ? undefined : { host, port };
}

function readHost(text: string): string | undefined {
  if (/^[0-9.]+$/.test(text)) return canonicalIp(text);
  return HOST_NAME.test(text) ? text.toLowerCase() : undefined;
}

/** `stun:HOST[:PORT]` (RFC 7064). */
export function readStunServer(text: string): ServerAddress | undefined {
  return /^stun:/i.test(text) ? readServer(text.slice(5), 3478) : undefined;
}

/**
 * `turn:USER:PASSWORD@HOST[:PORT][?transport=udp|tcp]`, or `turns:` for TLS (RFC 7065, with the credentials that
 * it leaves out). User and password may be percent-encoded.
 */
export function readTurnServer(text: string): TurnServer | undefined {
  const match = /^(turns?):([^:]+):(.+)@([^@?]+)(?:\?transport=(udp|tcp))?$/i.exec(text);
  if (match === null) return undefined;
  const secure = match[1]?.toLowerCase() === "turns";
  const transport = match[5]?.toLowerCase();
  const server = readServer(match[4] as string, secure ? 5349 : 3478);
  const username = percentDecoded(match[2] as string);
  const password = percentDecoded(match[3] as string);
  if (server === undefined || username === undefined || password === undefined) return undefined;
  if (secure && transport === "udp") return undefined;
  return { ...server, username, password, transport: secure ? "tls" : transport === "tcp" ? "tcp" : "udp" };
}

/** `USER:PASSWORD`, either percent-encoded where it has a comma or a colon. */
export function readUser(text: string): { name: string; password: string } | undefined {
  const match = /^([^:]+):([^:]+)$/.exec(text);
  const name = percentDecoded(match?.[1] ?? "");
  const password = percentDecoded(match?.[2] ?? "");
  return name === undefined || password === undefined || name === "" || password === ""
    ? undefined
    : { name, password };
}

function percentDecoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** `mqtt://`, `mqtts://`, `ws://` or `wss://`, with host, port and perhaps a user. */
export function readBroker(text: string): string | undefined {
  const match = /^(mqtts?|wss?):\/\/(?:[^\s/?#@]*@)?([^\s/?#@]+)(\/[^\s#]*)?$/i.exec(text);
  if (match === null || !URL.canParse(text)) return undefined;
  return readServer(match[2] as string, 1883) === undefined ? undefined : text;
}

/** An IP address, or `localhost`. */
export function readBindAddress(text: string): string | undefined {
  return text.toLowerCase() === "localhost" ? "127.0.0.1" : canonicalIp(text);
}

/** Whether an address text, as `readBindAddress` returns it, can be reached from this machine only. */
export function isLoopback(ip: string): boolean {
  const octets = parseIp(ip);
  if (octets === undefined) return false;
  return octets.length === 4 ? octets[0] === 127 : ip === "::1";
}

/** A path as an absolute one: `~/` is the home directory, anything relative is seen from `base`. */
export function readPath(text: string, base: string): string {
  if (text === "~" || text.startsWith("~/")) return join(homedir(), text.slice(1));
  return isAbsolute(text) ? text : resolve(base, text);
}
