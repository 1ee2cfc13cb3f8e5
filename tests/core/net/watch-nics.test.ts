import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { readNics } from "../../../core/net/nics.ts";
import { watchNics } from "../../../core/net/watch-nics.ts";
import type { Nic } from "../../../core/net/world.ts";

test("a burst of notices is one look, and a look that finds nothing new tells nothing", async () => {
  const machine = changingMachine();
  let notice = (): void => {};
  let open = true;
  const stop = watchNics(machine.changed, {
    read: machine.read,
    hear(noticed) {
      notice = noticed;
      return () => void (open = false);
    },
  });
  const afterStart = machine.looks();
  for (let i = 0; i < 100; i++) notice();
  await machine.looked(afterStart + 1);
  expect(machine.told()).toBe(0);
  machine.change();
  for (let i = 0; i < 100; i++) notice();
  await machine.looked(afterStart + 2);
  expect(machine.told()).toBe(1);
  machine.change();
  notice();
  stop();
  notice();
  expect(open).toBe(false);
  await Bun.sleep(150); // longer than changes take to settle
  expect({ told: machine.told(), looks: machine.looks() }).toEqual({ told: 1, looks: afterStart + 2 });
});

test("when the notices cease, looking finds the changes, and stopping ends it", async () => {
  const machine = changingMachine();
  let cease = (): void => {};
  const stop = watchNics(machine.changed, {
    read: machine.read,
    pollMs: 2,
    hear(_noticed, deaf) {
      cease = deaf;
      return () => {};
    },
  });
  cease();
  machine.change();
  await machine.looked(machine.looks() + 1);
  expect(machine.told()).toBe(1);
  stop();
  const looks = machine.looks();
  cease();
  await Bun.sleep(20);
  expect(machine.looks()).toBe(looks);
});

test.skipIf(process.platform !== "linux")(
  "watching costs one descriptor, and stopping gives it back, twice or at once",
  async () => {
    const count = (): number => readdirSync("/proc/self/fd").length;
    readNics();
    const before = count();
    const stop = watchNics(() => {});
    expect(count()).toBe(before + 1);
    await new Promise(setImmediate);
    stop();
    stop();
    watchNics(() => {})();
    await new Promise(setImmediate);
    await new Promise(setImmediate);
    expect(count()).toBe(before);
  },
);

/** NICs that change when told to, and how often they were looked at. */
function changingMachine(): {
  read: () => readonly Nic[];
  changed: () => void;
  change: () => void;
  told: () => number;
  looks: () => number;
  looked: (times: number) => Promise<void>;
} {
  let nics = readNics();
  let [told, looks] = [0, 0];
  let onLook = (): void => {};
  return {
    read() {
      looks++;
      queueMicrotask(() => onLook());
      return nics;
    },
    changed: () => void told++,
    change: () => void (nics = [...nics, ...nics]),
    told: () => told,
    looks: () => looks,
    looked: (times) =>
      new Promise((resolve) => {
        onLook = () => {
          if (looks >= times) resolve();
        };
        onLook();
      }),
  };
}
