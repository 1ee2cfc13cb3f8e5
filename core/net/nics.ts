/**
 * The NICs of this machine, read anew at each call. Linux tells all of it (`nics-linux.ts`); elsewhere
 * `nics-portable.ts` does what it can.
 */
import { readLinuxNics } from "./nics-linux.ts";
import { readPortableNics } from "./nics-portable.ts";
import type { Nic } from "./world.ts";

/** The NICs there are now, by index, those without addresses included. Never throws. */
export function readNics(): readonly Nic[] {
  return (process.platform === "linux" ? readLinuxNics() : undefined) ?? readPortableNics();
}
