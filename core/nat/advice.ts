/**
 * What a NAT means for its owner, in words: with whom connections will be direct, and what would make that more. Pure;
 * what was measured is in the profile.
 */
import type { NatKind, NatProfile } from "./nat-kind.ts";

/** One NIC and family of which something is known. */
export interface AdviceSubject {
  readonly nic: string;
  readonly family: 4 | 6;
  readonly profile: NatProfile;
}

/** Sentences, the most important first. Empty only if nothing is known. */
export function adviseNat(subjects: readonly AdviceSubject[]): readonly string[] {
  const lines = subjects.flatMap((subject) => [describe(subject), ...prospects(subject)]);
  return [...new Set([...lines, ...improvements(subjects)])];
}

/** Whether where the next mapping will be can be told. */
function isPredictable({ type, delta }: NatKind): boolean {
  return type !== "blocked" && (type !== "symmetric" || delta.type !== "random");
}

function describe({ nic, family, profile: { external, udp, tcp } }: AdviceSubject): string {
  const seen = external === undefined ? "" : `, seen as ${external}`;
  const same = udp.type === tcp.type && udp.delta.type === tcp.delta.type;
  const kinds = same ? nameKind(udp) : `UDP: ${nameKind(udp)}; TCP: ${nameKind(tcp)}`;
  return `${nic}, IPv${family}${seen}: ${kinds}.`;
}

function nameKind({ type, delta }: NatKind): string {
  switch (type) {
    case "open-internet":
      return "open to the internet, nothing is in the way";
    case "symmetric-firewall":
      return "a firewall lets in only answers, addresses are not translated";
    case "blocked":
      return "blocked";
    default:
      return `${NAMES[type]}, ${DELTAS[delta.type](delta.value)}`;
  }
}

const NAMES = {
  "full-cone": "a full cone NAT (anyone can send to a port in use)",
  restricted: "a restricted NAT (addresses that were sent to can answer)",
  "port-restricted": "a port-restricted NAT (endpoints that were sent to can answer)",
  symmetric: "a symmetric NAT (another external port for every destination)",
} as const;

const DELTAS: Readonly<Record<NatKind["delta"]["type"], (value: number) => string>> = {
  "not-applicable": () => "ports are not changed",
  equal: () => "external ports equal local ones",
  preserving: (value) => `external ports are local ones ${signed(value)}`,
  independent: (value) => `each new external port is the last one ${signed(value)}`,
  dependent: (value) => `external ports go on by ${signed(value)} while local ones advance by one`,
  random: () => "external ports are at random",
};

function signed(value: number): string {
  return value < 0 ? `- ${-value}` : `+ ${value}`;
}

function prospects({ profile: { udp, tcp } }: AdviceSubject): readonly string[] {
  if (udp.type === "open-internet" || tcp.type === "open-internet")
    return ["Every peer that has internet at all can connect directly to you, and you to every peer."];
  if (udp.type === "blocked" && tcp.type === "blocked")
    return ["Nothing reaches the internet from here; peers in the same network can still be connected."];
  if (udp.type === "blocked") {
    return [
      `UDP does not pass here: connections to open and forwarded peers are direct over TCP; ${
        isPredictable(tcp)
          ? "TCP hole punching works with peers whose ports can be predicted"
          : "others need a relay"
      }.`,
    ];
  }
  if (udp.type === "symmetric" && !isPredictable(udp)) {
    return [
      "Direct with open, full cone and restricted peers; with port-restricted ones and firewalls after a search of a few seconds.",
      "With peers that are symmetric as well only a relay works.",
    ];
  }
  if (udp.type === "symmetric") {
    return [
      "Direct with every peer but those that are symmetric with random ports, which need a relay: your next port can be predicted.",
    ];
  }
  if (udp.type === "full-cone") return ["Direct with every peer whose UDP is not blocked."];
  if (udp.type === "restricted")
    return ["Direct with every peer: those with random ports find the port you opened."];
  return [
    "Direct with every peer whose ports can be predicted; with symmetric peers of random ports after a search of a few seconds.",
  ];
}

function improvements(subjects: readonly AdviceSubject[]): readonly string[] {
  const four = subjects.filter(({ family }) => family === 4);
  const kinds = four.flatMap(({ profile }) => [profile.udp, profile.tcp]);
  const isOpen = subjects.some(({ profile }) => profile.udp.type === "open-internet");
  const lines: string[] = [];
  if (isOpen) return lines;
  if (kinds.some(({ type }) => isCone(type) || type === "symmetric")) {
    lines.push(
      "To be reachable by everyone, forward the node's port in the router by hand, or allow UPnP, NAT-PMP or PCP there.",
    );
  }
  if (kinds.some((kind) => kind.type === "symmetric" && kind.delta.type === "random")) {
    lines.push(
      'A router setting such as "full cone NAT" or "endpoint-independent mapping" would spare the searches.',
    );
  }
  if (four.some(({ profile }) => profile.udp.type === "blocked"))
    lines.push(
      "Allowing outgoing UDP in the firewall would make connections faster, and more of them direct.",
    );
  if (subjects.length > 0 && !subjects.some(({ family }) => family === 6))
    lines.push(
      "With IPv6, which is not there now, no address is translated, and firewalls alone are passed easily.",
    );
  return lines;
}

function isCone(type: NatKind["type"]): boolean {
  return type === "full-cone" || type === "restricted" || type === "port-restricted";
}
