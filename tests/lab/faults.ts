/**
 * Deliberate faults of the NAT box, each a way in which a router of our own making could be wrong without
 * anyone noticing. The laboratory's self-test must catch every one. Most are other settings than the box was
 * told; the rest break the packet path.
 */
import type { Delta, NatSettings, NatSettingsChange, ProtocolSettings } from "../nat/settings.ts";

export const FAULTS = [
  "filter-admits-all",
  "filter-ignores-port",
  "filter-too-strict",
  "mapping-per-destination",
  "mapping-shared",
  "delta-off-by-one",
  "delta-sign-lost",
  "range-ignored",
  "never-expires",
  "expires-early",
  "hairpin-off",
  "rst-instead-of-drop",
  "drop-instead-of-rst",
  "icmp-instead-of-rst",
  "ipv6-open",
  "udp-unblocked",
  "delay-doubled",
  "loss-ignored",
  "background-ignored",
  "quoted-checksum-stale",
  "quoted-header-stale",
  "reboot-keeps-table",
] as const;
export type Fault = (typeof FAULTS)[number];

/** The settings that a box with this fault obeys although it was told `settings`. */
export function faultySettings(settings: NatSettings, fault: Fault | undefined): NatSettings {
  const change = fault === undefined ? undefined : SETTINGS_FAULTS[fault]?.(settings);
  if (change === undefined) return settings;
  const protocol = (name: "udp" | "tcp"): ProtocolSettings => {
    const altered = { ...settings[name], ...change.both, ...change[name] };
    return change.delta === undefined ? altered : { ...altered, delta: change.delta(altered.delta) };
  };
  const { delta: _delta, both: _both, udp: _udp, tcp: _tcp, timeouts, ipv6, link, ...rest } = change;
  return {
    ...settings,
    ...rest,
    udp: protocol("udp"),
    tcp: protocol("tcp"),
    timeouts: { ...settings.timeouts, ...timeouts },
    ipv6: { ...settings.ipv6, ...ipv6 },
    link: { ...settings.link, ...link },
  };
}

type FaultyChange = NatSettingsChange & { readonly delta?: (delta: Delta) => Delta };

const FOREVER = 2 ** 31;

const SETTINGS_FAULTS: Partial<Record<Fault, (settings: NatSettings) => FaultyChange>> = {
  "filter-admits-all": () => ({ both: { filtering: "endpoint-independent" } }),
  "filter-ignores-port": () => ({ both: { filtering: "address-dependent" } }),
  "filter-too-strict": () => ({ both: { filtering: "address-and-port-dependent" } }),
  "mapping-per-destination": () => ({ both: { mapping: "address-and-port-dependent" } }),
  "mapping-shared": () => ({ both: { mapping: "endpoint-independent" } }),
  "delta-off-by-one": () => ({
    delta: (delta) => ("step" in delta ? { ...delta, step: delta.step + 1 } : delta),
  }),
  "delta-sign-lost": () => ({
    delta: (delta) => ("step" in delta ? { ...delta, step: Math.abs(delta.step) } : delta),
  }),
  "range-ignored": () => ({ ports: [1024, 65535] }),
  "never-expires": () => ({
    timeouts: { udpMs: FOREVER, tcpTransitoryMs: FOREVER, tcpEstablishedMs: FOREVER, tcpClosingMs: FOREVER },
  }),
  "expires-early": ({ timeouts }) => ({
    timeouts: { udpMs: timeouts.udpMs / 4, tcpTransitoryMs: timeouts.tcpTransitoryMs / 4 },
  }),
  "hairpin-off": () => ({ hairpinning: false }),
  "rst-instead-of-drop": () => ({ unsolicitedSyn: "rst" }),
  "drop-instead-of-rst": () => ({ unsolicitedSyn: "drop" }),
  "icmp-instead-of-rst": () => ({ unsolicitedSyn: "icmp" }),
  "ipv6-open": () => ({ ipv6: { mode: "open" } }),
  "udp-unblocked": () => ({ udp: { blocked: false } }),
  "delay-doubled": ({ link }) => ({ link: { delayMs: link.delayMs * 2 } }),
  "loss-ignored": () => ({ link: { loss: 0 } }),
  "background-ignored": () => ({ backgroundPerSecond: 0 }),
};
