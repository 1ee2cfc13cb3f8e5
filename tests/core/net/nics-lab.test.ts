/** NICs and their changes in network namespaces of this test's own. Needs root on Linux. */
import { afterEach, describe, expect, test } from "bun:test";
import type { Nic } from "../../../core/net/world.ts";

const labEnabled = process.env["P2PD_LAB"] === "1" && process.platform === "linux";
const namespaces: string[] = [];

afterEach(async () => {
  for (const name of namespaces.splice(0)) await run("ip", "netns", "delete", name);
});

describe.skipIf(!labEnabled)("in a namespace", () => {
  test("that has only lo, down, there is one NIC without addresses", async () => {
    const name = await namespace();
    expect(await nicsIn(name)).toMatchObject([
      { name: "lo", kind: "loopback", up: false, addresses: [], metric: {} },
    ]);
  });

  test("that has only lo, up, it has its two addresses", async () => {
    const name = await namespace();
    await ip(name, "link set lo up");
    const [lo, ...others] = await nicsIn(name);
    expect(others).toEqual([]);
    expect(lo).toMatchObject({ up: true, mtu: 65536 });
    expect(lo?.addresses.map((address) => address.ip)).toEqual(["127.0.0.1", "::1"]);
  });

  test("NICs have the kinds, addresses, next hops and metrics they were given", async () => {
    const name = await namespace();
    await ip(name, "link add a0 type veth peer name b0");
    await ip(name, "link add docker0 type bridge");
    await ip(name, "link add br1 type bridge");
    await ip(name, "link set b0 master docker0");
    await ip(name, "tuntap add dev tun7 mode tun");
    await ip(name, "link set a0 up mtu 1280");
    await ip(name, "link set b0 up");
    await ip(name, "address add 192.0.2.5/24 dev a0");
    await ip(name, "address add 192.0.2.6/24 dev a0");
    await ip(name, "address add 2001:db8::5/64 dev a0 nodad");
    await ip(name, "route add default via 192.0.2.1 metric 42");
    await ip(name, "-6 route add default via 2001:db8::1 metric 43");
    const nics = new Map((await nicsIn(name)).map((nic) => [nic.name, nic]));
    expect(nics.get("a0")).toMatchObject({
      kind: "virtual",
      mtu: 1280,
      up: true,
      gateway: { 4: "192.0.2.1", 6: "2001:db8::1" },
      metric: { 4: 42, 6: 43 },
    });
    expect(nics.get("a0")?.addresses.slice(0, 3)).toEqual([
      { ip: "192.0.2.5", family: 4, prefixLength: 24 },
      { ip: "192.0.2.6", family: 4, prefixLength: 24 },
      { ip: "2001:db8::5", family: 6, prefixLength: 64 },
    ]);
    expect(nics.get("b0")?.kind).toBe("container");
    expect(nics.get("docker0")?.kind).toBe("container");
    expect(nics.get("br1")).toMatchObject({ kind: "bridge", up: false });
    expect(nics.get("tun7")?.kind).toBe("tunnel");
  });

  test("policy rules decide which NIC is the default, as for the kernel", async () => {
    const name = await namespace();
    for (const [nic, net] of [
      ["a0", "192.0.2"],
      ["c0", "198.51.100"],
    ]) {
      await ip(name, `link add ${nic} type veth peer name ${nic}p`);
      await ip(name, `link set ${nic}p up`);
      await ip(name, `link set ${nic} up`);
      await ip(name, `address add ${net}.5/24 dev ${nic}`);
    }
    await ip(name, "route add default via 192.0.2.1 dev a0");
    await ip(name, "route add default via 198.51.100.1 dev c0 table 100");
    const metrics = async (): Promise<number[]> => {
      const nics = await nicsIn(name);
      return ["a0", "c0"].map((nic) => nics.find((one) => one.name === nic)?.metric[4] ?? Infinity);
    };
    const [a, c] = (await metrics()) as [number, number];
    expect(a).toBeLessThan(c);
    await ip(name, "rule add priority 100 lookup 100");
    const [later, preferred] = (await metrics()) as [number, number];
    expect(preferred).toBeLessThan(later);
  });

  test("ten thousand routes do not make reading slow", async () => {
    const name = await namespace();
    await ip(name, "link set lo up");
    const routes = Array.from({ length: 10_000 }, (_, i) => `route add 10.${i >> 8}.${i & 255}.0/24 dev lo`);
    await batch(name, routes);
    const { first, second } = await readTimes(name);
    console.log(`readNics with 10,000 routes: ${first.toFixed(1)} ms, again ${second.toFixed(1)} ms`);
    expect(second).toBeLessThan(250);
  });

  test("reading takes a few milliseconds from process start", async () => {
    const name = await namespace();
    await ip(name, "link set lo up");
    const { first, second } = await readTimes(name);
    console.log(`readNics: first ${first.toFixed(1)} ms, again ${second.toFixed(2)} ms`);
    expect(first).toBeLessThan(100);
    expect(second).toBeLessThan(20);
  });

  test("every change is told once it has settled, and what changes nothing is not", async () => {
    const name = await namespace();
    const watcher = watch(name);
    expect(await watcher.next()).toBe("ready");
    for (const change of [
      "link set lo up",
      "link add a0 type veth peer name b0",
      "link set a0 up",
      "address add 192.0.2.5/24 dev a0",
      "route add default via 192.0.2.1",
      "route replace default via 192.0.2.2",
      "route delete default",
      "address delete 192.0.2.5/24 dev a0",
      "link set a0 mtu 1300",
      "link delete a0",
    ]) {
      await ip(name, change);
      if (change.startsWith("link add")) await quieten(name, "a0", "b0");
      // a route to a single host is a notice too, and no change of any NIC
      await ip(name, "route add 203.0.113.1 dev lo");
      await ip(name, "route delete 203.0.113.1 dev lo");
      expect(`${change}: ${await watcher.settled()}`).toBe(`${change}: changed`);
    }
    await watcher.stop();
    expect(await watcher.next()).toBe("stopped 0");
    expect(await watcher.exited).toBe(0);
  }, 30_000);

  test("a burst of changes, more than a socket holds, ends in the right picture", async () => {
    const name = await namespace();
    await ip(name, "link set lo up");
    const watcher = watch(name);
    expect(await watcher.next()).toBe("ready");
    const burst = Array.from({ length: 3000 }, (_, i) => `address add 10.9.${i >> 8}.${i & 255}/32 dev lo`);
    await batch(name, burst);
    expect(await watcher.until((count) => count === 3002)).toBe(3002);
    await watcher.stop();
  }, 30_000);

  test("a watcher alone keeps no process alive", async () => {
    const name = await namespace();
    const source = `import { watchNics } from "${module("watch-nics.ts")}"; watchNics(() => {});`;
    const child = inside(name, source);
    expect(await child.exited).toBe(0);
  });
});

let serial = 0;

async function namespace(): Promise<string> {
  const name = `p2pd-nics-${process.pid}-${serial++}`;
  await run("ip", "netns", "add", name);
  namespaces.push(name);
  return name;
}

async function ip(name: string, command: string): Promise<void> {
  await run("ip", "-n", name, ...command.split(" "));
}

/** Many commands by one process. */
async function batch(name: string, commands: readonly string[]): Promise<void> {
  const stdin = new Blob([`${commands.join("\n")}\n`]);
  const child = Bun.spawn(["ip", "-n", name, "-batch", "-"], { stdin, stdout: "ignore", stderr: "inherit" });
  if ((await child.exited) !== 0) throw new Error("a command of the batch failed");
}

/** So that IPv6 link-local addresses do not come in seconds later; the far end is up, which changes nothing. */
async function quieten(name: string, near: string, far: string): Promise<void> {
  for (const nic of [near, far]) await ip(name, `link set ${nic} addrgenmode none`);
  await ip(name, `link set ${far} up`);
}

async function run(...command: string[]): Promise<void> {
  const child = Bun.spawn(command, { stdout: "ignore", stderr: "pipe" });
  const complaint = await child.stderr.text();
  if ((await child.exited) !== 0)
    throw new Error(`${command.join(" ").slice(0, 200)}: ${complaint.slice(0, 200)}`);
}

function module(file: string): string {
  return new URL(`../../../core/net/${file}`, import.meta.url).pathname;
}

function inside(name: string, source: string): Bun.Subprocess<"pipe", "pipe", "inherit"> {
  return Bun.spawn(["ip", "netns", "exec", name, process.execPath, "-e", source], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
}

async function nicsIn(name: string): Promise<readonly Nic[]> {
  const source = `import { readNics } from "${module("nics.ts")}"; console.log(JSON.stringify(readNics()));`;
  return JSON.parse(await inside(name, source).stdout.text()) as readonly Nic[];
}

async function readTimes(name: string): Promise<{ first: number; second: number }> {
  const source = `import { readNics } from "${module("nics.ts")}";
    const a = performance.now(); readNics(); const b = performance.now(); readNics();
    console.log(JSON.stringify({ first: b - a, second: performance.now() - b }));`;
  return JSON.parse(await inside(name, source).stdout.text()) as { first: number; second: number };
}

interface Watcher {
  next(): Promise<string>;
  /** The words told until nothing comes for longer than changes take to settle. */
  settled(): Promise<string>;
  until(enough: (addresses: number) => boolean): Promise<number>;
  stop(): Promise<void>;
  readonly exited: Promise<number>;
}

/** A process in the namespace that prints a line for each change, with the number of addresses there are. */
function watch(name: string): Watcher {
  const child = inside(
    name,
    `import { readdirSync } from "node:fs";
     import { readNics } from "${module("nics.ts")}";
     import { watchNics } from "${module("watch-nics.ts")}";
     readNics();
     const count = () => readdirSync("/proc/self/fd").length;
     const input = process.stdin[Symbol.asyncIterator]();
     const waiting = input.next();
     const before = count();
     const stop = watchNics(() => console.log("changed", readNics().flatMap((nic) => nic.addresses).length));
     await new Promise(setImmediate);
     console.log("ready");
     await waiting;
     stop();
     stop();
     await new Promise(setImmediate);
     console.log("stopped", count() - before);
     process.stdin.destroy();`,
  );
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  let pending: Promise<string> | undefined;

  async function readLine(): Promise<string> {
    while (!held.includes("\n")) {
      const { value, done } = await reader.read();
      if (done) throw new Error("the watching process has ended");
      held += value;
    }
    const end = held.indexOf("\n");
    const line = held.slice(0, end);
    held = held.slice(end + 1);
    return line;
  }
  async function next(): Promise<string> {
    const line = await (pending ?? readLine());
    pending = undefined;
    return line;
  }
  return {
    next,
    async settled() {
      const [word = ""] = (await next()).split(" ");
      for (;;) {
        pending ??= readLine();
        if ((await Promise.race([pending, Bun.sleep(200).then(() => undefined)])) === undefined) return word;
        await next();
      }
    },
    async until(enough) {
      for (;;) {
        const addresses = Number((await next()).split(" ")[1]);
        if (enough(addresses) || Number.isNaN(addresses)) return addresses;
      }
    },
    async stop() {
      await child.stdin.write("stop\n");
      await child.stdin.end();
    },
    exited: child.exited,
  };
}
