/**
 * What a detection must say of a router with these settings, and in what it differs from that. Of the range only what
 * samples can show is compared: nothing outside of it, and where ports are drawn from all of it, most of it.
 */
import type { DeltaType, NatKind, NatType } from "../../core/nat/nat-kind.ts";
import type { NatSettings } from "./settings.ts";

/** Where samples are spread over the whole range, so much of it is seen. */
const SPREAD = 0.6;

export interface ExpectedKind {
  readonly type: NatType;
  readonly mapping: NatKind["mapping"];
  readonly filtering: NatKind["filtering"];
  readonly delta: DeltaType;
  /** undefined: not compared. */
  readonly value: number | undefined;
  readonly ports: readonly [low: number, high: number] | undefined;
}

export function expectedKind(settings: NatSettings, protocol: "udp" | "tcp"): ExpectedKind {
  const { mapping, delta, blocked } = settings[protocol];
  const nothing = { delta: "not-applicable", value: 0, ports: undefined } as const;
  if (blocked) return { type: "blocked", mapping: "unknown", filtering: "unknown", ...nothing };
  // Where UDP is blocked nothing can tell how TCP is filtered.
  const filtering = settings.udp.blocked ? "unknown" : settings[protocol].filtering;
  if (settings.mode !== "nat") {
    const isOpen = settings.mode === "open" || filtering === "endpoint-independent";
    return {
      type: isOpen ? "open-internet" : "symmetric-firewall",
      mapping: "endpoint-independent",
      filtering: settings.mode === "open" ? "endpoint-independent" : filtering,
      ...nothing,
    };
  }
  const cones = {
    "endpoint-independent": "full-cone",
    "address-dependent": "restricted",
    "address-and-port-dependent": "port-restricted",
    unknown: "port-restricted",
  } as const;
  return {
    type: mapping === "endpoint-independent" ? cones[filtering] : "symmetric",
    mapping,
    filtering,
    delta: delta.kind,
    value: delta.kind === "preserving" ? undefined : "step" in delta ? delta.step : 0,
    ports: settings.ports,
  };
}

/** What is wrong with `kind`, in words; empty if nothing is. */
export function differences(kind: NatKind, expected: ExpectedKind): readonly string[] {
  const wrong: string[] = [];
  const compare = (what: string, saw: unknown, wanted: unknown): void => {
    if (saw !== wanted) wrong.push(`${what} ${String(saw)}, expected ${String(wanted)}`);
  };
  compare("type", kind.type, expected.type);
  compare("mapping", kind.mapping, expected.mapping);
  compare("filtering", kind.filtering, expected.filtering);
  compare("delta", kind.delta.type, expected.delta);
  if (expected.value !== undefined) compare("value", kind.delta.value, expected.value);
  else if (kind.delta.value === 0) wrong.push("value 0, expected an offset");
  const { ports } = expected;
  if (ports === undefined) {
    compare("range", kind.range?.join("-"), undefined);
    return wrong;
  }
  const [low, high] = kind.range ?? [0, 0];
  const isWithin = low >= ports[0] && high <= ports[1] && low <= high;
  const isSpread = ["equal", "preserving", "random"].includes(expected.delta);
  const isWide = !isSpread || high - low >= SPREAD * (ports[1] - ports[0]);
  if (!isWithin || !isWide)
    wrong.push(`range ${low}-${high}, expected ${isSpread ? "most of " : "part of "}${ports.join("-")}`);
  return wrong;
}
