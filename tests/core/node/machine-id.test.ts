import { expect, test } from "bun:test";
import { createRealWorld } from "../../../core/net/real-world.ts";
import { machineId } from "../../../core/node/machine-id.ts";

const nics = createRealWorld().nics();

test("the id is always the same, and not the system's own", () => {
  expect(machineId(nics)).toBe(machineId(nics));
  expect(machineId(nics)).toMatch(/^[A-Za-z0-9_-]{11}$/);
});

test("without a file the machine's hardware makes the id, and its NICs matter", () => {
  const without = machineId(nics, ["/nowhere/machine-id"]);
  expect(machineId(nics, [])).toBe(without);
  const [first] = nics;
  if (first === undefined) throw new Error("a machine has a NIC");
  expect(machineId([{ ...first, kind: "physical", mac: "02:00:00:00:00:99" }], [])).not.toBe(without);
});
