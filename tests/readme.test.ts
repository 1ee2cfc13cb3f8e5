/** What the README tells people to type does what it says. */
import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startDaemon } from "./daemon-process.ts";

const project = join(import.meta.dir, "..");
const page = readFileSync(join(project, "README.md"), "utf8");
const folder = mkdtempSync(join(tmpdir(), "p2pd-readme-"));

afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("the library example prints what its comment says", async () => {
  const example = /```ts\n([^]*?)```/.exec(page)?.[1] ?? "";
  const library = JSON.stringify(join(project, "index.ts"));
  const dataDir = JSON.stringify(join(folder, "node"));
  // The same, without asking servers on the internet.
  const changes = `{ dataDir: ${dataDir}, listenPort: 0, stunServers: [], mqttBrokers: [], ntpServers: [], portMapping: false }`;
  const file = join(folder, "example.ts");
  writeFileSync(
    file,
    example.replace('"p2pd"', library).replace("defaultConfig()", `defaultConfig(${changes})`),
  );
  const child = Bun.spawn([process.execPath, file], { stdout: "pipe", stderr: "pipe" });
  expect(await new Response(child.stderr).text()).toBe("");
  expect(await new Response(child.stdout).text()).toBe("hello\n");
  expect(await child.exited).toBe(0);
});

test("the curl tour works from its first to its last line", async () => {
  const requests = [
    ...page.matchAll(/^curl (?:-X (\w+) )?"?localhost:12333([^\s"]*\/(?:me|me\/[^\s"]+|addr))"?(?=\s)/gm),
  ];
  expect(requests.map(([, method]) => method ?? "GET")).toEqual([
    "GET",
    "GET",
    "GET",
    "GET",
    "GET",
    "DELETE",
  ]);
  await using daemon = await startDaemon();
  const answers: Record<string, unknown>[] = [];
  for (const [, method = "GET", path = ""] of requests) answers.push(await daemon.get(path, { method }));
  expect(answers.map(({ error }) => error)).toEqual([0, 0, 0, 0, 0, 0]);
  expect(answers[3]?.["data"]).toBe("hello");
});

test("every page and script that the README names is there", () => {
  for (const [, path] of page.matchAll(/\]\(([^):]+)\)/g))
    expect([path, existsSync(join(project, path as string))]).toEqual([path, true]);
  const { scripts } = JSON.parse(readFileSync(join(project, "package.json"), "utf8"));
  for (const name of ["start", "test", "build"]) expect(scripts[name]).toBeString();
});
