/** The program as processes: what only a real start, a real signal and real pipes show. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startDaemon } from "../../daemon-process.ts";

const program = join(import.meta.dir, "../../../index.ts");
const top = mkdtempSync(join(tmpdir(), "p2pd-process-"));

afterAll(() => rmSync(top, { recursive: true, force: true }));

test.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)(
  "%s ends the daemon with everything closed and code 0",
  async (signal) => {
    const directory = mkdtempSync(join(top, "d-"));
    const child = spawn([], directory, { P2PD_API_PORT: "0" });
    const line = await firstLine(child.stdout);
    const address = /(http:\S+\/) /.exec(line)?.[1] as string;
    expect((await fetch(`${address}version`)).status).toBe(200);
    await (await fetch(`${address}p2p/open/one/self`)).text();
    child.kill(signal);
    expect(await child.exited).toBe(0);
    expect(await new Response(child.stderr).text()).toBe("");
    expect(readdirSync(directory)).toEqual(["node-key.pem"]);
  },
);

test("8 MiB through nc, the daemon and the echo service come back whole", async () => {
  await using daemon = await startDaemon();
  const octets = crypto.getRandomValues(new Uint8Array(65_536));
  const sent = Buffer.concat(Array.from({ length: 128 }, () => octets));
  const child = spawn(
    ["nc", "self", "--service", "echo"],
    top,
    { P2PD_API_PORT: String(daemon.port) },
    new Blob([sent]).stream(),
  );
  const back = new Uint8Array(await new Response(child.stdout).arrayBuffer());
  expect(await child.exited).toBe(0);
  expect(back.length).toBe(sent.length);
  expect(Bun.SHA256.hash(back, "hex")).toBe(Bun.SHA256.hash(sent, "hex"));
  expect((await daemon.get("/p2p/cons"))["cons"]).toEqual([]);
});

test("a signal to nc closes its connection at the daemon", async () => {
  await using daemon = await startDaemon();
  const child = spawn(
    ["nc", "self", "--service", "echo"],
    top,
    { P2PD_API_PORT: String(daemon.port) },
    "pipe",
  );
  const input = child.stdin as unknown as Bun.FileSink;
  await input.write("x");
  await input.flush();
  await firstPiece(child.stdout);
  child.kill("SIGINT");
  expect(await child.exited).toBe(1);
  expect(await new Response(child.stderr).text()).toBe("p2pd: stopped by SIGINT\n");
  expect((await daemon.get("/p2p/cons"))["cons"]).toEqual([]);
});

test("a reader of the daemon's output that goes away does not end it", async () => {
  const child = spawn([], mkdtempSync(join(top, "d-")), { P2PD_API_PORT: "0" });
  const reader = child.stdout.getReader();
  const line = new TextDecoder().decode((await reader.read()).value);
  await reader.cancel();
  const address = /(http:\S+\/) /.exec(line)?.[1] as string;
  await (await fetch(`${address}p2p/open/one/self`)).text();
  expect((await fetch(`${address}version`)).status).toBe(200);
  child.kill("SIGTERM");
  expect(await child.exited).toBe(0);
});

test("importing the library starts nothing and loads neither program nor API", async () => {
  const script = `
    const library = await import(${JSON.stringify(program)});
    const loaded = Object.keys(require.cache).filter((file) => /[/\\\\](routes|elysia|commander)[/\\\\]/.test(file));
    console.log(JSON.stringify({ names: Object.keys(library).length > 5, loaded }));
  `;
  const child = Bun.spawn([process.execPath, "-e", script], { cwd: top, stdout: "pipe", stderr: "pipe" });
  expect(JSON.parse(await new Response(child.stdout).text())).toEqual({ names: true, loaded: [] });
  expect(await child.exited).toBe(0);
});

function spawn(
  words: readonly string[],
  directory: string,
  env: Readonly<Record<string, string>>,
  stdin: "ignore" | "pipe" | ReadableStream = "ignore",
) {
  return Bun.spawn([process.execPath, program, ...words], {
    cwd: directory,
    env: {
      PATH: process.env["PATH"],
      HOME: top,
      P2PD_DATA_DIR: directory,
      P2PD_LISTEN_PORT: "0",
      P2PD_STUN_SERVERS: "",
      P2PD_PORT_MAPPING: "off",
      P2PD_MQTT_BROKERS: "",
      P2PD_NTP_SERVERS: "",
      ...env,
    },
    stdin,
    stdout: "pipe",
    stderr: "pipe",
  });
}

async function firstPiece(output: ReadableStream<Uint8Array>): Promise<string> {
  const reader = output.getReader();
  const { value } = await reader.read();
  reader.releaseLock();
  return new TextDecoder().decode(value);
}

async function firstLine(output: ReadableStream<Uint8Array>): Promise<string> {
  const reader = output.getReader();
  let text = "";
  while (!text.includes("\n")) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`the program ended after printing: ${text}`);
    text += new TextDecoder().decode(value);
  }
  reader.releaseLock();
  return text;
}
