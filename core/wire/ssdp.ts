/**
 * SSDP, the search of UPnP (UPnP Device Architecture 1.1, section 1.3): the question to a group or to one host, and
 * the answers, each in one datagram.
 */
import { type Endpoint, formatEndpoint } from "../ip.ts";

export const SSDP_PORT = 1900;
export const SSDP_GROUP4 = "239.255.255.250";
/** Link-local scope. */
export const SSDP_GROUP6 = "ff02::c";

export interface SsdpAnswer {
  /** What answers: the search target that was met. */
  readonly target: string;
  /** URL of the description, not yet judged. */
  readonly location: string;
}

const MAX_OCTETS = 2048;

/** A search for `target` that devices may answer within a second. */
export function encodeSsdpSearch(to: Endpoint, target: string): Uint8Array {
  const lines = [
    "M-SEARCH * HTTP/1.1",
    `HOST: ${formatEndpoint(to)}`,
    `ST: ${target}`,
    'MAN: "ssdp:discover"',
    "MX: 1",
  ];
  return new TextEncoder().encode(`${lines.join("\r\n")}\r\n\r\n`);
}

/** Reads an answer; undefined if it is none. */
export function decodeSsdpAnswer(bytes: Uint8Array): SsdpAnswer | undefined {
  if (bytes.length > MAX_OCTETS) return undefined;
  const [status = "", ...lines] = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    .toString("latin1")
    .split(/\r?\n/);
  if (!/^HTTP\/1\.[01] 200( |$)/.test(status)) return undefined;
  const target = fieldOf(lines, "st");
  const location = fieldOf(lines, "location");
  return target === undefined || location === undefined ? undefined : { target, location };
}

function fieldOf(lines: readonly string[], name: string): string | undefined {
  for (const line of lines) {
    if (line === "") return undefined;
    const colon = line.indexOf(":");
    if (line.slice(0, colon).trim().toLowerCase() === name) return line.slice(colon + 1).trim();
  }
  return undefined;
}
