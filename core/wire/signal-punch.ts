/**
 * What an offer and its answer carry for a punch: for a few pairs of NIC addresses what each side's NAT is and which
 * mappings it has made, and a secret by which probes are known. Form and limits; the rules are in `core/nat/`.
 */

/** Pairs of NIC addresses in one offer. */
export const PUNCH_MAX_PAIRS = 4;
const MAX_SAMPLES = 4;
const MAX_SPARE = 32;

const PORT = { type: "integer", minimum: 1, maximum: 65_535 } as const;
const IP = { type: "string", pattern: "^[0-9a-f.:]{2,45}$" } as const;
const BEHAVIOUR = {
  enum: ["endpoint-independent", "address-dependent", "address-and-port-dependent", "unknown"],
} as const;

const KIND = {
  type: "object",
  required: ["type", "mapping", "filtering", "delta", "portPreservation", "portParity"],
  properties: {
    type: {
      enum: [
        "open-internet",
        "symmetric-firewall",
        "full-cone",
        "restricted",
        "port-restricted",
        "symmetric",
        "blocked",
      ],
    },
    mapping: BEHAVIOUR,
    filtering: BEHAVIOUR,
    delta: {
      type: "object",
      required: ["type", "value"],
      properties: {
        type: { enum: ["not-applicable", "equal", "preserving", "independent", "dependent", "random"] },
        value: { type: "integer", minimum: -65_535, maximum: 65_535 },
      },
    },
    range: { type: "array", minItems: 2, maxItems: 2, items: PORT },
    hairpinning: { type: "boolean" },
    portPreservation: { type: "boolean" },
    portParity: { type: "boolean" },
    inferred: { enum: ["filtering", "behaviour", "all"] },
  },
} as const;

const SIDE = {
  type: "object",
  required: ["kind", "ip", "samples", "spare"],
  properties: {
    kind: KIND,
    ip: IP,
    samples: {
      type: "array",
      maxItems: MAX_SAMPLES,
      items: {
        type: "object",
        required: ["localPort", "externalPort"],
        properties: { localPort: PORT, externalPort: PORT },
      },
    },
    spare: { type: "array", maxItems: MAX_SPARE, items: PORT },
  },
} as const;

/** 16 octets in base64url. */
const WORD = { type: "string", pattern: "^[A-Za-z0-9_-]{22}$" } as const;
const BUDGET = {
  type: "object",
  required: ["packets", "sockets", "ms"],
  properties: {
    packets: { type: "integer", minimum: 0, maximum: 1_000_000 },
    sockets: { type: "integer", minimum: 1, maximum: 65_535 },
    ms: { type: "integer", minimum: 0, maximum: 600_000 },
  },
} as const;

/** The schema of the `punch` of an offer or an answer. */
export const PUNCH = {
  type: "object",
  required: ["secret", "pairs"],
  properties: {
    open: WORD,
    budget: BUDGET,
    secret: WORD,
    pairs: {
      type: "array",
      maxItems: PUNCH_MAX_PAIRS,
      items: {
        type: "object",
        required: [],
        properties: { to: IP, near: { type: "boolean" }, udp: SIDE, tcp: SIDE },
      },
    },
  },
} as const;

type Behaviour = (typeof BEHAVIOUR.enum)[number];

/** As `PunchSide` of `core/nat/punch-plan.ts`. */
export interface SignalPunchSide {
  readonly kind: {
    readonly type: (typeof KIND.properties.type.enum)[number];
    readonly mapping: Behaviour;
    readonly filtering: Behaviour;
    readonly delta: {
      readonly type: (typeof KIND.properties.delta.properties.type.enum)[number];
      readonly value: number;
    };
    readonly range?: readonly [low: number, high: number];
    readonly hairpinning?: boolean;
    readonly portPreservation: boolean;
    readonly portParity: boolean;
    readonly inferred?: "filtering" | "behaviour" | "all";
  };
  readonly ip: string;
  readonly samples: readonly { readonly localPort: number; readonly externalPort: number }[];
  readonly spare: readonly number[];
}

/** In the answer the pairs stand in the order of the offer; one without sides cannot be used. */
export interface SignalPunchPair {
  /** In an offer: the NIC address of the receiver that is meant. */
  readonly to?: string;
  /** In an offer: both sides are in one network, and `ip` is the NIC's address. */
  readonly near?: boolean;
  readonly udp?: SignalPunchSide;
  readonly tcp?: SignalPunchSide;
}

export interface SignalPunch {
  /** 16 octets in base64url. */
  readonly secret: string;
  /** In an offer: names the open, which may take several punches. */
  readonly open?: string;
  /** What the sender may still spend, as `PunchBudget` of `core/nat/punch-budget.ts`; absent: what that has as default. */
  readonly budget?: { readonly packets: number; readonly sockets: number; readonly ms: number };
  readonly pairs: readonly SignalPunchPair[];
}
