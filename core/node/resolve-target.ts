/** Whom the user means: `self`, a node's id, an address line, or a name of the address book. */
import { P2pdError } from "../errors.ts";
import { type Address, decodeAddress, isNodeId } from "../wire/address.ts";
import type { Target } from "./dial.ts";
import { suggestion } from "./suggestion.ts";

export interface KnownNodes {
  /** What an old line says of ourselves does not matter: we know where we listen. */
  readonly own: () => Address;
  /** What the address book has under a name: an id or an address line. */
  readonly peer: (name: string) => string | undefined;
  readonly names: () => readonly string[];
}

/** Throws `no-such-peer` for a name that the address book does not have, `bad-argument` for a malformed address. */
export function resolveTarget(text: string, known: KnownNodes): Target {
  const own = known.own();
  if (text === "self" || text === own.id) return { id: own.id, address: own };
  if (isNodeId(text)) return { id: text };
  const noted = known.peer(text);
  if (noted !== undefined) return resolveTarget(noted, { ...known, peer: () => undefined });
  if (!text.includes("~") && /^[A-Za-z0-9_.-]{1,64}$/.test(text)) {
    const hint = suggestion(text, known.names());
    throw new P2pdError(
      "no-such-peer",
      `the address book has no "${text}"${hint}, and it is neither an id (44 characters) nor an address (p2pd1~…)`,
      { name: text },
    );
  }
  const address = decodeAddress(text);
  return address.id === own.id ? { id: own.id, address: own } : { id: address.id, address };
}
