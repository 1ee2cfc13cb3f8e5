/**
 * A host of a laboratory that finds out its NAT as often as it is asked: reads what `DetectOptions` it shall use as
 * JSON lines on its standard input, and writes each result as a JSON line. The machine's own world is under test.
 */
import { createRealWorld } from "../../core/net/real-world.ts";
import { type DetectOptions, detectNat } from "../../core/stun/detect-nat.ts";
import { linesOf } from "./natbox-control.ts";

const world = createRealWorld();
for await (const line of linesOf(Bun.stdin.stream())) {
  const options = JSON.parse(line) as DetectOptions;
  const result = await detectNat(world, options).catch((thrown: unknown) => ({ failure: String(thrown) }));
  console.log(JSON.stringify(result));
}
process.exit(0);
