/**
 * The laboratory proved against itself: every check, in order, in one laboratory. `lab.ts` prints them,
 * `lab.test.ts` makes tests of them.
 */
import { BEHAVIOUR_CHECKS } from "./checks/behaviour-checks.ts";
import { SELF_TEST_TOPOLOGY } from "./checks/check.ts";
import type { Check } from "./checks/check.ts";
import { CONFIGURATION_CHECKS } from "./checks/configuration-checks.ts";
import { FAULT_CHECKS } from "./checks/fault-checks.ts";
import { ICMP_CHECKS } from "./checks/icmp-checks.ts";
import { LINK_CHECKS } from "./checks/link-checks.ts";
import { NETWORK_CHECKS } from "./checks/network-checks.ts";
import { Lab } from "./laboratory.ts";
import { requireTools } from "./preflight.ts";

export const CHECKS: readonly Check[] = [
  ...CONFIGURATION_CHECKS,
  ...BEHAVIOUR_CHECKS,
  ...ICMP_CHECKS,
  ...NETWORK_CHECKS,
  ...LINK_CHECKS,
  ...FAULT_CHECKS,
];

/** Tools without which the self-test cannot run. */
const TOOLS = ["nft", "iperf3", "turnserver", "mosquitto", "mosquitto_pub", "miniupnpd", "upnpc", "natpmpc"];

/** The laboratory that the checks share. Rejects with `unavailable`, naming every tool that is missing. */
export async function openSelfTest(): Promise<Lab> {
  requireTools(TOOLS);
  return Lab.create(SELF_TEST_TOPOLOGY);
}

export interface SelfTestResult {
  readonly passed: number;
  readonly failed: readonly string[];
}

/** Runs all checks whose names contain `filter`; `print` gets a line per check as it ends. */
export async function runSelfTest(filter: string, print: (line: string) => void): Promise<SelfTestResult> {
  await using lab = await openSelfTest();
  const failed: string[] = [];
  const checks = CHECKS.filter(({ name }) => name.includes(filter));
  for (const [i, check] of checks.entries()) {
    const place = `${String(i + 1).padStart(3)}/${checks.length}`;
    try {
      const figures = await check.run(lab);
      print(`${place} ok    ${check.name}${figures === undefined ? "" : ` (${figures})`}`);
    } catch (error) {
      failed.push(check.name);
      print(
        `${place} WRONG ${check.name}\n              ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  }
  return { passed: checks.length - failed.length, failed };
}
