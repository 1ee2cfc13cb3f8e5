/**
 * The words in which two nodes tell each other of their NATs before a punch, and in which the plan that both compute
 * from them is written. No rule is here: what a side gathers is in `gather-needs.ts`, what follows in `plan-punch.ts`.
 */
import type { NatKind } from "./nat-kind.ts";

/** A mapping that a server has seen. */
export interface PunchSample {
  readonly localPort: number;
  readonly externalPort: number;
}

/** One side of a punch, for one protocol and one pair of addresses. */
export interface PunchSide {
  /**
   * Where both sides are in one network nothing is translated between them: `UNTRANSLATED`, whatever the router does,
   * with the NIC's address as `ip`.
   */
  readonly kind: NatKind;
  /** Address that the other side sends to: external, or of the NIC where both are in one network. */
  readonly ip: string;
  /** Fresh mappings in the order in which the router made them; their sockets are still open. */
  readonly samples: readonly PunchSample[];
  /**
   * Local ports that are bound and have sent nothing yet; consecutive, and following the last sample's. No other
   * socket of the protocol may send from this host between the last sample and the shots where the delta is
   * `dependent`.
   */
  readonly spare: readonly number[];
}

/** As a shot's local port: one that the machine chooses, fresh, for this shot alone. */
export const ANY_PORT = 0;
/** As the port under which a shot appears. */
export const UNKNOWN_PORT = -1;

/** One packet of a plan: a probe (UDP) or a connection attempt (TCP). */
export interface PunchShot {
  /** Of a sample, a spare one, or `ANY_PORT`. */
  readonly localPort: number;
  readonly remotePort: number;
}

/** What one side does. */
export interface PunchPart {
  /**
   * In the order in which they are sent. Several may share a local port (then TCP needs a socket for each, all bound
   * to it), and several local ports may aim at one remote port.
   */
  readonly shots: readonly PunchShot[];
  /**
   * External ports under which the other side is expected to see this one's shots, in the same order. Where one is
   * `UNKNOWN_PORT`, the other side cannot aim at it: its own shot only opens its filter (TCP listens on that shot's
   * local port besides, and with UDP the side that is unknown speaks first).
   */
  readonly appearsAs: readonly number[];
}

export interface PunchPlan {
  /**
   * `certain`: one shot each, so that the encryption handshake may be the first packet; `window`: a few ports
   * around the expected, all sent at once; `search`: many sockets against many ports, to be paced.
   */
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
