/**
 * Proof that the self-test sees: for every deliberate fault of the NAT box, the check that must fail when the
 * fault is there. The same checks pass without it, which the self-test proves beside.
 */
import type { Fault } from "../faults.ts";
import { FAULTS } from "../faults.ts";
import { changes, hairpinning, ipv6Firewall, timeouts, unsolicitedSyn } from "./behaviour-checks.ts";
import type { Check } from "./check.ts";
import { background, configurationCheck, range, steps } from "./configuration-checks.ts";
import { errorsIn } from "./icmp-checks.ts";
import { delay, loss } from "./link-checks.ts";

const CAUGHT_BY: Readonly<Record<Fault, Check>> = {
  "filter-admits-all": configurationCheck("port-restricted/equal"),
  "filter-ignores-port": configurationCheck("port-restricted/random"),
  "filter-too-strict": configurationCheck("restricted/equal"),
  "mapping-per-destination": configurationCheck("full-cone/equal"),
  "mapping-shared": configurationCheck("symmetric/equal"),
  "delta-off-by-one": configurationCheck("symmetric/independent"),
  "delta-sign-lost": steps,
  "range-ignored": range,
  "never-expires": timeouts,
  "expires-early": timeouts,
  "hairpin-off": hairpinning,
  "rst-instead-of-drop": unsolicitedSyn,
  "drop-instead-of-rst": unsolicitedSyn,
  "icmp-instead-of-rst": unsolicitedSyn,
  "ipv6-open": ipv6Firewall,
  "udp-unblocked": configurationCheck("blocked/equal"),
  "delay-doubled": delay,
  "loss-ignored": loss,
  "background-ignored": background,
  "quoted-checksum-stale": errorsIn,
  "quoted-header-stale": errorsIn,
  "reboot-keeps-table": changes,
};

/** One check per fault: that the fault is caught. */
export const FAULT_CHECKS: readonly Check[] = FAULTS.map((fault) => ({
  name: `the fault "${fault}" is caught`,
  async run(lab) {
    let caught: unknown;
    try {
      await CAUGHT_BY[fault].run(lab, fault);
    } catch (error) {
      caught = error;
    }
    if (caught === undefined) throw new Error(`no check failed with the fault ${fault}`);
    return undefined;
  },
}));
