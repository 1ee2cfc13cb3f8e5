/** `p2pd nat`: what stands between this machine and the internet, and what will work, in words or as JSON. */
import type { NatReport } from "../../core/node/nat-report.ts";
import { askDaemon } from "./api-client.ts";
import type { Settings } from "./settings.ts";

export async function runNat(settings: Settings, asJson: boolean): Promise<number> {
  const report = await measured(settings);
  const { terminal } = settings;
  if (asJson) terminal.print(JSON.stringify(report, undefined, 2));
  else for (const line of inWords(report)) terminal.print(line);
  return report.nics.some(({ families }) => families.some(({ nat }) => nat !== null)) ? 0 : 1;
}

/** What the daemon knows; where none runs a node of our own measures it. */
async function measured(settings: Settings): Promise<NatReport> {
  const answer = await askDaemon(settings, "/p2p/nat");
  if (answer !== undefined) {
    const { nics, advice } = answer as unknown as NatReport;
    return { nics, advice };
  }
  const { withNode } = await import("./with-node.ts");
  return withNode(settings, (node) => node.nat());
}

function inWords({ nics, advice }: NatReport): readonly string[] {
  const unknown = nics.flatMap(({ name, families }) =>
    families
      .filter(({ nat }) => nat === null)
      .map(({ family, msg = "nothing is known" }) => `${name}, IPv${family}: ${msg}.`),
  );
  const nothing = advice.length + unknown.length === 0;
  return nothing ? ["No NIC leads to a server that was configured (stunServers)."] : [...advice, ...unknown];
}
