/**
 * The world of this process, for those who bring none: opened at first use, one for all. The only place where
 * the library's functions get their default from.
 */
import { createRealWorld } from "./real-world.ts";
import type { World } from "./world.ts";

let world: World | undefined;

/** The machine we run on; always the same object. */
export function defaultWorld(): World {
  world ??= createRealWorld();
  return world;
}
