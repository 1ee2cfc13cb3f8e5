import { expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { defaultWorld } from "../../../core/net/default-world.ts";

const ROOT = resolve(import.meta.dir, "../../..");
const hasIp6 = defaultWorld()
  .nics()
  .some((nic) => nic.addresses.some(({ ip }) => ip === "::1"));

const guide = await Bun.file(join(ROOT, "docs/library.md")).text();
const examples = [...guide.matchAll(/```ts\n([^]*?)```\n```text\n([^]*?)```/g)].map((found, i) => ({
  title: `example ${i + 1}`,
  code: found[1] as string,
  output: found[2] as string,
}));

test("the guide to the library has its examples, each with what it prints", () => {
  expect(examples.length).toBe(3);
  expect(guide.split("```ts\n").length - 1).toBe(examples.length);
});

test.skipIf(!hasIp6).each(examples)(
  "$title of the guide prints what stands below it",
  async ({ code, output }) => {
    const folder = await mkdtemp(join(tmpdir(), "p2pd-guide-"));
    try {
      const library = JSON.stringify(join(ROOT, "index.ts"));
      await Bun.write(join(folder, "example.ts"), code.replaceAll('"p2pd"', library));
      const run = Bun.spawn([process.execPath, "run", "example.ts"], {
        cwd: folder,
        stderr: "pipe",
        timeout: 20_000,
      });
      const [printed, complaints] = await Promise.all([run.stdout.text(), run.stderr.text()]);
      expect({ printed, complaints, exit: await run.exited }).toEqual({
        printed: output,
        complaints: "",
        exit: 0,
      });
    } finally {
      await rm(folder, { recursive: true });
    }
  },
);
