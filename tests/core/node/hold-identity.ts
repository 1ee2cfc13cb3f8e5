/** Holds the data directory named by its argument until its standard input ends. */
import { createRealWorld } from "../../../core/net/real-world.ts";
import { openIdentity } from "../../../core/node/identity.ts";

openIdentity(process.argv[2] as string, createRealWorld());
console.log("held");
await Bun.stdin.text();
process.exit(0);
