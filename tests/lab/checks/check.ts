/**
 * What a check of the laboratory's self-test is, and the laboratory that all of them share: built once, its
 * routers set anew by every check.
 */
import { P2pdError } from "../../../core/errors.ts";
import { parseRouterKind } from "../../nat/topologies.ts";
import type { Topology } from "../../nat/topologies.ts";
import { changeSettings, DEFAULT_SETTINGS } from "../../nat/settings.ts";
import type { NatSettings, NatSettingsChange } from "../../nat/settings.ts";
import type { Fault } from "../faults.ts";
import type { Lab } from "../laboratory.ts";
import type { ProbeSite } from "./probe.ts";

/** One claim about the laboratory. */
export interface Check {
  readonly name: string;
  /** Rejects when the claim does not hold; may return figures for a reader. `fault` is put into router `a`. */
  run(lab: Lab, fault?: Fault): Promise<string | undefined>;
}

/**
 * Two hosts behind box `a` (alice, anna), one behind box `b`, one behind a home router behind a carrier's, one
 * with NICs behind `a` and `b`, one behind the kernel's NAT.
 */
export const SELF_TEST_TOPOLOGY: Topology = {
  routers: [
    { name: "a", nat: parseRouterKind("port-restricted"), uplink: "internet" },
    { name: "b", nat: parseRouterKind("port-restricted"), uplink: "internet" },
    { name: "carrier", nat: parseRouterKind("symmetric/random"), uplink: "internet" },
    { name: "home", nat: parseRouterKind("full-cone/equal"), uplink: "carrier" },
    { name: "kernel", nat: parseRouterKind("kernel"), uplink: "internet" },
    { name: "kernel-random", nat: parseRouterKind("kernel/random"), uplink: "internet" },
    { name: "kernel-fully", nat: parseRouterKind("kernel/fully-random"), uplink: "internet" },
  ],
  hosts: [
    { name: "alice", nics: ["a"] },
    { name: "anna", nics: ["a"] },
    { name: "bob", nics: ["b"] },
    { name: "carol", nics: ["home"] },
    { name: "dave", nics: ["a", "b"] },
    { name: "kate", nics: ["kernel"] },
    { name: "ken", nics: ["kernel-random"] },
    { name: "kim", nics: ["kernel-fully"] },
  ],
};

/** Where to probe router `a` from host alice. */
export function siteOf(lab: Lab, host = "alice", router = "a", family: 4 | 6 = 4): ProbeSite {
  const { namespace, ip4, ip6 } = lab.host(host);
  const ports = router === "" ? ([1024, 65535] as const) : lab.router(router).settings.ports;
  return { inside: namespace, outside: lab.internet, insideIp: family === 4 ? ip4 : ip6, ports };
}

/** Settings for a check: a port-restricted NAT with these changes. */
export function settingsWith(change: NatSettingsChange): NatSettings {
  return changeSettings(DEFAULT_SETTINGS, change);
}

/** Rejects with both values unless they are the same as JSON. */
export function expectSame(what: string, observed: unknown, expected: unknown): void {
  const [saw, wanted] = [JSON.stringify(observed), JSON.stringify(expected)];
  if (saw !== wanted) throw new P2pdError("internal", `${what}: expected ${wanted}, saw ${saw}`);
}

/** Rejects unless the condition holds. */
export function expectThat(holds: boolean, what: string): void {
  if (!holds) throw new P2pdError("internal", what);
}
