import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { P2pdError } from "../../core/errors.ts";
import { oneRouter, parseRouterKind, twoHosts } from "../nat/topologies.ts";
import { knownLabs } from "./lab-registry.ts";
import { Lab } from "./laboratory.ts";
import { linesOf } from "./natbox-control.ts";
import { missing } from "./preflight.ts";
import { CHECKS, openSelfTest } from "./self-test.ts";

/** Needs root on Linux; CI sets it, elsewhere these are skipped and counted so. */
const labEnabled = process.env["P2PD_LAB"] === "1";
const SLOW_MS = 60_000;

describe.skipIf(!labEnabled)("in one laboratory", () => {
  let lab: Lab | undefined;
  beforeAll(async () => {
    lab = await openSelfTest();
  }, SLOW_MS);
  afterAll(async () => {
    await lab?.close();
    expect(namespacesOf(lab?.id ?? "p2pdlab")).toEqual([]);
  }, SLOW_MS);

  test.each(CHECKS.map((check) => [check.name, check] as const))(
    "%s",
    async (_name, check) => {
      await check.run(lab as Lab);
    },
    SLOW_MS,
  );
});

describe.skipIf(!labEnabled)("laboratories", () => {
  test("two stand side by side with the same addresses and do not see each other", async () => {
    const both = await Promise.all(
      [0, 1].map(() => Lab.create(twoHosts(nat("full-cone"), nat("symmetric")))),
    );
    const [one, two] = both as [Lab, Lab];
    expect(one.host("alice").ip4).toBe(two.host("alice").ip4);
    await one.router("a").reboot();
    await one.close();
    expect(namespacesOf(one.id)).toEqual([]);
    const links = await two.host("alice").run(["ip", "-br", "link"]);
    expect(links.stdout).toContain("eth0");
    expect((await two.router("a").state()).externalIp).toBe(two.router("a").publicIp4);
    await two.close();
    expect(namespacesOf(two.id)).toEqual([]);
  });

  test("one that fails while it is built leaves nothing behind", async () => {
    const topology = { routers: [], hosts: [{ name: "alice", nics: ["nowhere"] }] };
    const before = knownLabs();
    expect(await failure(Lab.create(topology))).toContain('plugged into "nowhere"');
    expect(knownLabs()).toEqual(before);
  });

  test("a box refuses settings that make no sense, names them, and goes on", async () => {
    await using lab = await Lab.create(oneRouter(nat("symmetric/random")));
    const router = lab.router("a");
    expect(await failure(router.change({ ports: [50, 40] }))).toContain("ports[1]");
    expect(await failure(router.change({ link: { loss: 2 } }))).toContain("link.loss");
    expect((await router.state()).settings.ports).toEqual([1024, 65535]);
    expect(() => lab.host("eve")).toThrow("there are alice, bob");
  });

  test.each(["SIGINT", "SIGTERM"] as const)("%s removes what `lab up` built", async (signal) => {
    const { child, id } = await labUp();
    expect(namespacesOf(id).length).toBe(5);
    child.kill(signal);
    await child.exited;
    expect(namespacesOf(id)).toEqual([]);
  });

  test("`lab up` obeys its console, and one whose owner was killed is listed and cleaned", async () => {
    const { child, id, lines } = await labUp();
    void child.stdin.write("set a blocked/equal\nset a nonsense\n");
    await child.stdin.flush();
    expect((await lines.next()).value).toContain("router a is blocked/equal");
    child.kill("SIGKILL");
    await child.exited;
    const listed = await labCommand("list");
    expect(listed.stdout).toContain(`${id}  5 namespaces, left over`);
    const cleaned = await labCommand("clean");
    expect(cleaned.stdout).toContain(`${id}: removed`);
    expect(namespacesOf(id)).toEqual([]);
  });
});

describe("bad input", () => {
  test.each([
    [["up", "symetric/random", "full-cone"], 'did you mean "symmetric"?'],
    [["up", "symmetric"], '"up" takes two NATs'],
    [["up", "kernel/some", "full-cone"], '"kernel/some" is no kernel NAT'],
    [["dance"], '"dance" is no command'],
    [[], "say what to do"],
  ])("`lab %p` is told what was expected", async (words, why) => {
    const { code, stderr } = await labCommand(...words);
    expect(stderr).toContain(why);
    expect(code).toBe(2);
  });

  test("everything that is missing is named with what to do about it", () => {
    const bare = { platform: "linux", uid: 1000, has: () => false, tun: false };
    expect(missing(["ip", "nft"], bare).join("\n")).toBe(
      [
        "not root: run it with sudo, or in a container with NET_ADMIN and SYS_ADMIN",
        'no command "ip": install it with "apt-get install iproute2"',
        'no command "nft": install it with "apt-get install nftables"',
        'no /dev/net/tun: "modprobe tun", or give the container the device (--device /dev/net/tun)',
      ].join("\n"),
    );
    expect(missing(["ip"], { ...bare, platform: "darwin" })).toEqual([
      "the laboratory needs Linux; this is darwin",
    ]);
  });
});

function nat(name: string) {
  return parseRouterKind(name);
}

function namespacesOf(id: string): readonly string[] {
  return knownLabs().find((known) => known.id === id)?.namespaces ?? [];
}

async function failure(promise: Promise<unknown>): Promise<string> {
  const error: unknown = await promise.then(
    () => "no error",
    (thrown: unknown) => thrown,
  );
  return error instanceof P2pdError ? error.message : String(error);
}

function spawnLab(words: readonly string[]) {
  const script = new URL("./lab.ts", import.meta.url).pathname;
  return Bun.spawn([process.execPath, script, ...words], { stdin: "pipe", stdout: "pipe", stderr: "pipe" });
}

async function labCommand(...words: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = spawnLab(words);
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { code: await child.exited, stdout, stderr };
}

/** A laboratory of another process, once it is up, and the rest of what it prints. */
async function labUp() {
  const child = spawnLab(["up", "full-cone", "symmetric/random"]);
  const lines = linesOf(child.stdout)[Symbol.asyncIterator]();
  let id = "";
  for (;;) {
    const { value, done } = await lines.next();
    if (done === true) throw new Error(`lab up ended: ${await new Response(child.stderr).text()}`);
    id = /^Laboratory (\S+) is up/.exec(value)?.[1] ?? id;
    if (value.startsWith("Ctrl-C removes")) return { child, id, lines };
  }
}
