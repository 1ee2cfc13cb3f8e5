/**
 * What a router does to packets, in the words of RFC 4787 (UDP), RFC 5382 (TCP) and P2PD's deltas: the
 * settings that the NAT engine obeys, in the laboratory and in the simulator alike. The 35 named
 * configurations are in `configurations.ts`; deliberate faults in `faults.ts`.
 */
import { P2pdError } from "../../core/errors.ts";

/** How mapping or filtering depends on the remote side (RFC 4787 sections 4.1 and 5). */
export type Behaviour = "endpoint-independent" | "address-dependent" | "address-and-port-dependent";

export const BEHAVIOURS: readonly Behaviour[] = [
  "endpoint-independent",
  "address-dependent",
  "address-and-port-dependent",
];

/**
 * The external port of a new mapping. `equal`: the local port. `preserving`: first_mapped + (local −
 * first_local). `independent`: last mapped + step. `dependent`: the host's last mapped + step when its local
 * port advanced by one, else a jump. `random`: any. Where the wish is taken or out of range: another port.
 */
export type Delta =
  | { readonly kind: "equal" }
  | { readonly kind: "preserving" }
  | { readonly kind: "independent"; readonly step: number }
  | { readonly kind: "dependent"; readonly step: number }
  | { readonly kind: "random" };

/** `nat` translates; `firewall` keeps state and filters without translation; `open` passes everything. */
export type RouterMode = "nat" | "firewall" | "open";

export interface ProtocolSettings {
  readonly mapping: Behaviour;
  readonly filtering: Behaviour;
  readonly delta: Delta;
  /** Drops every packet of this protocol, both ways, IPv4 and IPv6. */
  readonly blocked: boolean;
}

/** How long state lives after the last packet that refreshed it, in milliseconds. */
export interface Timeouts {
  readonly udpMs: number;
  /** TCP before both sides have sent a SYN (RFC 5382 REQ-5: not less than four minutes in real routers). */
  readonly tcpTransitoryMs: number;
  readonly tcpEstablishedMs: number;
  /** TCP after a RST or both FINs. */
  readonly tcpClosingMs: number;
  readonly icmpMs: number;
}

/** What crossing the router costs, each way. */
export interface LinkSettings {
  /** One-way delay in milliseconds. */
  readonly delayMs: number;
  /** Extra delay, uniform from 0 to this many milliseconds, drawn per packet; packets may overtake then. */
  readonly jitterMs: number;
  /** Share of packets lost, 0 to 1. */
  readonly loss: number;
}

export interface NatSettings {
  readonly mode: RouterMode;
  readonly udp: ProtocolSettings;
  readonly tcp: ProtocolSettings;
  /** Lowest and highest external port. */
  readonly ports: readonly [low: number, high: number];
  /** Whether inside hosts reach each other by their external endpoints (RFC 4787 section 6). */
  readonly hairpinning: boolean;
  /** The answer to a SYN from outside that the filter does not admit. */
  readonly unsolicitedSyn: "drop" | "rst" | "icmp";
  readonly timeouts: Timeouts;
  /** Whether packets from outside refresh state too (RFC 4787 section 4.3). */
  readonly inboundRefresh: boolean;
  /** IPv6 is never translated: a stateful firewall, or nothing in the way. */
  readonly ipv6: { readonly mode: "firewall" | "open"; readonly filtering: Behaviour };
  /** New mappings per second and protocol, as other hosts behind the router would make them. */
  readonly backgroundPerSecond: number;
  readonly link: LinkSettings;
  /** More mappings than this are refused. */
  readonly maxMappings: number;
  /** 32-bit seed of every random choice. */
  readonly seed: number;
}

/** A part of the settings; what is absent stays as it was. Both protocols may be changed at once by `both`. */
export interface NatSettingsChange {
  readonly mode?: RouterMode;
  readonly both?: Partial<ProtocolSettings>;
  readonly udp?: Partial<ProtocolSettings>;
  readonly tcp?: Partial<ProtocolSettings>;
  readonly ports?: readonly [low: number, high: number];
  readonly hairpinning?: boolean;
  readonly unsolicitedSyn?: NatSettings["unsolicitedSyn"];
  readonly timeouts?: Partial<Timeouts>;
  readonly inboundRefresh?: boolean;
  readonly ipv6?: Partial<NatSettings["ipv6"]>;
  readonly backgroundPerSecond?: number;
  readonly link?: Partial<LinkSettings>;
  readonly maxMappings?: number;
  readonly seed?: number;
}

const DEFAULT_PROTOCOL: ProtocolSettings = {
  mapping: "endpoint-independent",
  filtering: "address-and-port-dependent",
  delta: { kind: "equal" },
  blocked: false,
};

/** A port-restricted NAT that keeps local ports: the commonest home router. */
export const DEFAULT_SETTINGS: NatSettings = {
  mode: "nat",
  udp: DEFAULT_PROTOCOL,
  tcp: DEFAULT_PROTOCOL,
  ports: [1024, 65535],
  hairpinning: false,
  unsolicitedSyn: "drop",
  timeouts: {
    udpMs: 120_000,
    tcpTransitoryMs: 240_000,
    tcpEstablishedMs: 7_440_000,
    tcpClosingMs: 10_000,
    icmpMs: 60_000,
  },
  inboundRefresh: true,
  ipv6: { mode: "firewall", filtering: "address-and-port-dependent" },
  backgroundPerSecond: 0,
  link: { delayMs: 0, jitterMs: 0, loss: 0 },
  maxMappings: 50_000,
  seed: 1,
};

/**
 * `settings` with `change` applied and checked.
 * @throws P2pdError `configuration` that names the setting and what was expected.
 */
export function changeSettings(settings: NatSettings, change: NatSettingsChange): NatSettings {
  const { both, udp, tcp, timeouts, ipv6, link, ...rest } = change;
  const changed: NatSettings = {
    ...settings,
    ...rest,
    udp: { ...settings.udp, ...both, ...udp },
    tcp: { ...settings.tcp, ...both, ...tcp },
    timeouts: { ...settings.timeouts, ...timeouts },
    ipv6: { ...settings.ipv6, ...ipv6 },
    link: { ...settings.link, ...link },
  };
  checkSettings(changed);
  return changed;
}

/** Throws a P2pdError `configuration` at the first setting that makes no sense. */
export function checkSettings(settings: NatSettings): void {
  oneOf("mode", settings.mode, ["nat", "firewall", "open"]);
  oneOf("unsolicitedSyn", settings.unsolicitedSyn, ["drop", "rst", "icmp"]);
  oneOf("ipv6.mode", settings.ipv6.mode, ["firewall", "open"]);
  oneOf("ipv6.filtering", settings.ipv6.filtering, BEHAVIOURS);
  for (const name of ["udp", "tcp"] as const) {
    const protocol = settings[name];
    oneOf(`${name}.mapping`, protocol.mapping, BEHAVIOURS);
    oneOf(`${name}.filtering`, protocol.filtering, BEHAVIOURS);
    oneOf(`${name}.delta.kind`, protocol.delta.kind, [
      "equal",
      "preserving",
      "independent",
      "dependent",
      "random",
    ]);
    if (protocol.delta.kind === "independent" || protocol.delta.kind === "dependent") {
      whole(`${name}.delta.step`, protocol.delta.step, -32768, 32767);
      if (protocol.delta.step === 0) wrong(`${name}.delta.step`, 0, "a whole number other than 0");
    }
  }
  const [low, high] = settings.ports;
  whole("ports[0]", low, 1, 65535);
  whole("ports[1]", high, low, 65535);
  for (const [name, value] of Object.entries(settings.timeouts)) whole(`timeouts.${name}`, value, 1, 2 ** 31);
  between("link.delayMs", settings.link.delayMs, 0, 60_000);
  between("link.jitterMs", settings.link.jitterMs, 0, 60_000);
  between("link.loss", settings.link.loss, 0, 1);
  between("backgroundPerSecond", settings.backgroundPerSecond, 0, 100_000);
  whole("maxMappings", settings.maxMappings, 1, 1_000_000);
  whole("seed", settings.seed, -(2 ** 31), 2 ** 32 - 1);
}

function oneOf(name: string, value: string, expected: readonly string[]): void {
  if (!expected.includes(value)) wrong(name, value, `one of ${expected.join(", ")}`);
}

function whole(name: string, value: number, low: number, high: number): void {
  if (!Number.isInteger(value) || value < low || value > high)
    wrong(name, value, `a whole number from ${low} to ${high}`);
}

function between(name: string, value: number, low: number, high: number): void {
  if (!(typeof value === "number" && value >= low && value <= high))
    wrong(name, value, `a number from ${low} to ${high}`);
}

function wrong(name: string, value: unknown, expected: string): never {
  throw new P2pdError(
    "configuration",
    `NAT setting ${name} is ${JSON.stringify(value)}; expected ${expected}`,
    { name },
  );
}
