/** What an offer and its answer carry for a relay: an address on a TURN server that the other side may connect to. */

/** Addresses from which one side may come to the other's relay, in one message. */
export const RELAY_MAX_IPS = 8;

const PORT = { type: "integer", minimum: 1, maximum: 65_535 } as const;
const IP = { type: "string", pattern: "^[0-9a-f.:]{2,45}$" } as const;

export const RELAY_IPS = { type: "array", minItems: 1, maxItems: RELAY_MAX_IPS, items: IP } as const;

/** The schema of the `relay` of an offer or an answer. */
export const RELAY = {
  type: "object",
  required: ["transport"],
  properties: {
    transport: { enum: ["tcp", "udp"] },
    link: { enum: ["udp", "tcp", "tls"] },
    at: { type: "object", required: ["ip", "port"], properties: { ip: IP, port: PORT } },
  },
} as const;

export interface SignalRelay {
  /** What runs from end to end: QUIC over `udp`, TLS over `tcp`. */
  readonly transport: "tcp" | "udp";
  /** How the sender reaches its TURN server. */
  readonly link?: "udp" | "tcp" | "tls";
  /** The relayed address. In an offer absent: the receiver is asked for one on a server of its own. */
  readonly at?: { readonly ip: string; readonly port: number };
}
