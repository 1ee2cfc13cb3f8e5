/**
 * What was seen of a router, before anyone has judged it: the answers of each STUN server, for one protocol from one
 * address of this machine. `core/stun/` gathers them, `classify.ts` judges.
 */
import type { Endpoint } from "../ip.ts";

/** A mapping that the router made for a local port of its own. */
export interface MappingSample {
  /** How many mappings this machine had asked the router for before, within one observation. */
  readonly position: number;
  readonly localPort: number;
  readonly externalPort: number;
}

/**
 * What came of asking a server to answer from elsewhere. `heard`: the answer came, from where it should. `silent`:
 * none came, although the server answers otherwise. `ignored`: it came from where it should not, and says nothing.
 */
export type Hearing = "heard" | "silent" | "ignored" | "untested";

/** What one server told. */
export interface ServerView {
  /** Where it was asked. */
  readonly endpoint: Endpoint;
  /** Its second address, as it says. */
  readonly other?: Endpoint;
  /** What its endpoints saw of the one local port that all servers were asked from. */
  readonly seen: readonly { readonly remote: Endpoint; readonly mapped: Endpoint }[];
  /** In the order of their positions. */
  readonly samples: readonly MappingSample[];
  /** Asked from a port that has sent to no other endpoint than this server's first. */
  readonly fromOtherAddress: Hearing;
  readonly fromOtherPort: Hearing;
}

/** All that was seen for one protocol. */
export interface NatObservations {
  /** The local endpoint of `ServerView.seen`. */
  readonly local: Endpoint;
  /** Of the servers that answered. */
  readonly views: readonly ServerView[];
  /** Whether two local ports heard each other by their external endpoints; absent: not tested. */
  readonly hairpinned?: boolean;
}
