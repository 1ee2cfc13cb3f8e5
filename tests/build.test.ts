/** The executable is the program: nothing it needs stays behind in the sources or in node_modules. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startDaemon } from "./daemon-process.ts";
import { buildExecutable } from "./build.ts";

const folder = mkdtempSync(join(tmpdir(), "p2pd-build-"));

afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("the executable for this machine is daemon, Swagger UI and client", async () => {
  const executable = await buildExecutable(join(folder, "p2pd"));
  const [version] = await output([executable, "--version"]);
  expect(version).toMatch(/^[0-9]+\.[0-9]+\.[0-9]+\n$/);

  await using daemon = await startDaemon({}, [executable]);
  expect(await daemon.get("/version")).toMatchObject({ error: 0, version: version?.trim() });
  const base = `http://127.0.0.1:${daemon.port}`;
  const page = await (await fetch(`${base}/swagger`)).text();
  const files = [...page.matchAll(/(?:src|href)="(\/[^"]+)"/g)].map(([, path]) => path as string);
  expect(files.length).toBeGreaterThan(1);
  for (const path of files) expect([path, (await fetch(base + path)).status]).toEqual([path, 200]);

  const words = [executable, "nc", "self", "--service", "echo", "--api-port", String(daemon.port)];
  expect(await output(words, "through and back")).toEqual(["through and back", "", 0]);
}, 60_000);

/** What a command prints, what it complains of, and its exit code. */
async function output(words: string[], input = ""): Promise<[string, string, number]> {
  const env = { ...process.env, P2PD_LAB: undefined };
  const child = Bun.spawn(words, {
    cwd: folder,
    env,
    stdin: new Blob([input]),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [printed, complained] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return [printed, complained, await child.exited];
}
