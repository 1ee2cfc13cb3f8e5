/**
 * What routers hold for this node, noted in the data directory: a run that died leaves its forwarded ports behind,
 * and the next one renews or ends them. A record that cannot be read is begun anew, as routers forget by themselves.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { P2pdError } from "../errors.ts";
import { canonicalIp } from "../ip.ts";
import { type Mapping, PROTOCOLS } from "../portmap/mapping.ts";

const FILE = "port-mappings.json";
const MAX_ENTRIES = 64;
/** A permanent mapping of a network that was never seen again is forgotten after so long. */
const KEPT_MS = 30 * 86_400_000;

/** A mapping with the wall-clock time in milliseconds after which it is no more. */
interface Entry {
  readonly untilMs: number;
  readonly mapping: Mapping;
}

export class PortMappingRecord {
  readonly #path: string;
  #entries: readonly Entry[];
  #written: string;

  constructor(dataDir: string, nowMs: number) {
    this.#path = join(dataDir, FILE);
    this.#written = read(this.#path);
    this.#entries = parse(this.#written)
      .filter(({ untilMs }) => untilMs > nowMs)
      .slice(0, MAX_ENTRIES);
  }

  /** What an earlier run left for this address at this gateway. */
  at(gateway: string, internalIp: string): readonly Mapping[] {
    return this.#entries
      .map(({ mapping }) => mapping)
      .filter((mapping) => mapping.gateway === gateway && mapping.internalIp === internalIp);
  }

  /** Replaces what is noted for these places. Throws `configuration` if that cannot be written. */
  put(
    places: readonly { readonly gateway: string; readonly ip: string }[],
    mappings: readonly Mapping[],
    nowMs: number,
  ): void {
    const others = this.#entries.filter(
      ({ untilMs, mapping }) =>
        untilMs > nowMs &&
        !places.some(({ gateway, ip }) => gateway === mapping.gateway && ip === mapping.internalIp),
    );
    const now = mappings.map((mapping): Entry => {
      const { lifetimeSeconds } = mapping;
      const keptMs = lifetimeSeconds === 0 ? KEPT_MS : lifetimeSeconds * 1000;
      return { untilMs: nowMs + keptMs, mapping };
    });
    this.#entries = [...now, ...others].slice(0, MAX_ENTRIES);
    this.#save();
  }

  #save(): void {
    const text = this.#entries.length === 0 ? "" : `${JSON.stringify(this.#entries, null, 2)}\n`;
    if (text === this.#written) return;
    const draft = `${this.#path}.new`;
    try {
      if (text === "") rmSync(this.#path, { force: true });
      else {
        writeFileSync(draft, text, { mode: 0o600 });
        renameSync(draft, this.#path);
      }
      this.#written = text;
    } catch (thrown) {
      const text = `the record of forwarded ports ${this.#path} cannot be written: ${(thrown as Error).message}`;
      throw new P2pdError("configuration", text, {}, { cause: thrown });
    }
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // There is none, or it is of no use: routers forget what it would have said.
    return "";
  }
}

function parse(text: string): readonly Entry[] {
  let entries: unknown;
  try {
    entries = JSON.parse(text);
  } catch {
    return [];
  }
  return Array.isArray(entries) ? entries.filter(isEntry) : [];
}

function isEntry(value: unknown): value is Entry {
  const { untilMs, mapping } = (value ?? {}) as Partial<Entry>;
  if (typeof untilMs !== "number" || typeof mapping !== "object" || mapping === null) return false;
  const { protocol, transport, nonce, pinhole, lifetimeSeconds } = mapping;
  const isPort = (port: unknown): boolean =>
    Number.isInteger(port) && (port as number) > 0 && (port as number) < 65536;
  return (
    PROTOCOLS.includes(protocol) &&
    (transport === "tcp" || transport === "udp") &&
    [mapping.gateway, mapping.internalIp].every((ip) => typeof ip === "string" && canonicalIp(ip) === ip) &&
    isPort(mapping.internalPort) &&
    isPort(mapping.externalPort) &&
    typeof lifetimeSeconds === "number" &&
    (protocol === "pcp" ? /^[0-9a-f]{24}$/.test(nonce ?? "") : nonce === undefined) &&
    (pinhole === undefined || Number.isInteger(pinhole))
  );
}
