/** What punches have sent so far: a count that everything which sends for an open adds to. */
import type { PunchBudget } from "../nat/punch-budget.ts";

export interface PunchCost {
  /** Probes over UDP. What QUIC sends is the connection's. */
  datagrams: number;
  /** Over TCP, to the peer and to STUN servers; those that the system repeats counted in as far as that is known. */
  syns: number;
  /** To STUN servers on the way, repeated ones counted in. */
  stunRequests: number;
}

export function noCost(): PunchCost {
  return { datagrams: 0, syns: 0, stunRequests: 0 };
}

export function packetsOf({ datagrams, syns, stunRequests }: PunchCost): number {
  return datagrams + syns + stunRequests;
}

/** What of a budget is left after `spentMs` and what was sent. */
export function budgetLeft(budget: PunchBudget, cost: PunchCost, spentMs: number): PunchBudget {
  return {
    packets: Math.max(0, budget.packets - packetsOf(cost)),
    sockets: budget.sockets,
    ms: Math.max(0, Math.round(budget.ms - spentMs)),
  };
}
