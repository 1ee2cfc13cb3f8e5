import { expect, test } from "bun:test";
import { createRealWorld } from "../../../core/net/real-world.ts";
import { systemId } from "../../../core/net/system-id.ts";
import { machineId } from "../../../core/node/machine-id.ts";

const world = createRealWorld();
const nics = world.nics();

test("the machine's id is always the same, and not the system's own", () => {
  expect(world.systemId()).toBe(world.systemId());
  const id = machineId(world.systemId());
  expect(id).toBe(machineId(world.systemId()));
  expect(id).toMatch(/^[A-Za-z0-9_-]{11}$/);
  expect(world.systemId()).not.toContain(id);
});

test("without a file the machine's hardware makes the id, and its NICs matter", () => {
  const without = systemId(nics, ["/nowhere/machine-id"]);
  expect(systemId(nics, [])).toBe(without);
  const [first] = nics;
  if (first === undefined) throw new Error("a machine has a NIC");
  expect(systemId([{ ...first, kind: "physical", mac: "02:00:00:00:00:99" }], [])).not.toBe(without);
});
