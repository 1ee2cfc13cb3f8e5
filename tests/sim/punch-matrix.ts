/** One cell of the matrix: whole nodes behind two routers of the simulation, one opening the other. */
import { P2pdError } from "../../core/errors.ts";
import type { MatrixOpen } from "../nat/matrix-verdict.ts";
import { twoHosts } from "../nat/topologies.ts";
import { meet, nat, openAndEcho } from "./punch-site.ts";
import { meetWithTurn } from "./relay-site.ts";
import { runSim } from "./run-sim.ts";

/**
 * In virtual time, from the request to the first echoed octet or to the failure.
 * @param hasRelay whether the caller has a TURN server
 */
export async function runCell(
  caller: string,
  called: string,
  seed: number,
  hasRelay = false,
): Promise<MatrixOpen> {
  const { result } = await runSim({ seed, topology: twoHosts(nat(caller), nat(called)) }, async (sim) => {
    const { alice, bob } = hasRelay ? await meetWithTurn(sim) : await meet(sim);
    const began = sim.scheduler.nowMs;
    try {
      const { connection, ms } = await openAndEcho(sim, alice, bob);
      return { caller, called, path: connection.path, ms };
    } catch (thrown) {
      if (!(thrown instanceof P2pdError)) throw thrown;
      return { caller, called, path: "–", ms: sim.scheduler.nowMs - began, why: thrown.message };
    } finally {
      await Promise.all([alice.close(), bob.close()]);
    }
  });
  return result;
}
