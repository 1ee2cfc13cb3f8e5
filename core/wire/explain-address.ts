/** An address line explained field by field, for people. The format itself is in `address.ts`. */
import { type AddressField, addressFields } from "./address.ts";

export interface ExplainedField extends AddressField {
  /** What the field says, in words. */
  readonly meaning: string;
}

/** Every field of a line in its order, with its meaning. Throws like `decodeAddress`. */
export function explainAddress(line: string): readonly ExplainedField[] {
  return addressFields(line).map((field) => ({ ...field, meaning: meaningOf(field) }));
}

function meaningOf({ name, text }: AddressField): string {
  const known = text !== "-" && text !== "unknown";
  switch (name.slice(name.lastIndexOf(" ") + 1)) {
    case "version":
      return "address line, version 1";
    case "id":
      return "the node's id: its public key, which the peer must prove";
    case "machine":
      return "hash of the machine: equal on two nodes of one machine";
    case "scheme":
      return `signaling broker, spoken to by ${SCHEMES[text] ?? text}`;
    case "host":
      return "the broker's host";
    case "path":
      return `path at the broker: /${text.replaceAll(":", "/")}`;
    case "index":
      return `NIC number ${text} of the node`;
    case "family":
      return `IPv${text}`;
    case "external":
      return known ? "address that the internet sees" : "the address that the internet sees is not known";
    case "address":
      return "the NIC's own address";
    case "nat":
      return known ? `what is in front of the NIC: ${text}` : "what NAT is in front of the NIC is not known";
    case "delta":
      return DELTAS[text] ?? text;
    case "value":
      return `the delta's value, in ports: ${text}`;
    default:
      return name.startsWith("broker")
        ? "the broker's port"
        : "the port that the node listens on, TCP and UDP";
  }
}

const SCHEMES: Readonly<Record<string, string>> = {
  mqtt: "MQTT over TCP",
  mqtts: "MQTT over TLS",
  ws: "MQTT over WebSocket",
  wss: "MQTT over WebSocket and TLS",
};

const DELTAS: Readonly<Record<string, string>> = {
  unknown: "how external ports follow local ones is not known",
  "not-applicable": "no port is translated",
  equal: "the external port equals the local one",
  preserving: "external ports keep the distance of the local ones",
  independent: "each new external port is the last one plus the delta, whatever the local port",
  dependent: "the external port is the last one plus the delta, when the local port advances by one",
  random: "external ports have no pattern",
};
