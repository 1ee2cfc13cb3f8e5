/**
 * The words in which two nodes tell each other of their NATs before a punch, and in which the plan that both compute
 * from them is written. No rule is here: they are in `plan-punch.ts`.
 */
import type { NatKind } from "./nat-kind.ts";

/** A mapping that a server has seen. */
export interface PunchSample {
  readonly localPort: number;
  readonly externalPort: number;
}

/** One side of a punch, for one protocol and one pair of addresses. */
export interface PunchSide {
  readonly kind: NatKind;
  /** Address that the other side sends to: external, or of the NIC where both are in one network. */
  readonly ip: string;
  /** Fresh mappings in the order in which the router made them; sockets of the first ones are still open. */
  readonly samples: readonly PunchSample[];
  /** Local ports that are bound and have sent nothing yet; consecutive, and following the last sample's. */
  readonly spare: readonly number[];
}

/** One packet of a plan: a probe (UDP) or a connection attempt (TCP). */
export interface PunchShot {
  readonly localPort: number;
  readonly remotePort: number;
}

/** What one side does. */
export interface PunchPart {
  /** In the order in which they are sent; several may share a local port. */
  readonly shots: readonly PunchShot[];
  /** External ports under which the other side is expected to see this one's shots, in the same order; -1: unknown. */
  readonly appearsAs: readonly number[];
}

export interface PunchPlan {
  /** `certain`: one shot each, so that the encryption handshake may be the first packet; `window`: a few ports
   * around the expected; `search`: many sockets against many ports. */
  readonly method: "certain" | "window" | "search";
  readonly caller: PunchPart;
  readonly called: PunchPart;
  /** Of a path, 0 to 1, when nothing is lost. */
  readonly probability: number;
  /** For the timeline: what was predicted, and why. */
  readonly reason: string;
}

/** Why no plan can work. */
export interface NoPunch {
  readonly impossible: string;
}
