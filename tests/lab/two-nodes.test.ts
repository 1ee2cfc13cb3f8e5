/** Two daemons on two hosts meet: by address and by id, through the routers that let them, with the time it takes. */
import { describe, expect, test } from "bun:test";
import { createECDH } from "node:crypto";
import { oneRouter, parseRouterKind, planRouter, twoHosts } from "../nat/topologies.ts";
import { type Answer, type LabNode, median, startLabNode } from "./lab-node.ts";
import { meet, type Pair, withoutIp6 } from "./lab-pair.ts";
import { Lab } from "./laboratory.ts";
import { enterNamespace, tryCommand } from "./shell.ts";

const labEnabled = process.env["P2PD_LAB"] === "1";
const LIMIT_MS = 120_000;

/** His external ports are at random, so that what he sends to us opens no port that we would try. */
const UNREACHABLE_BOB = twoHosts(parseRouterKind("open-internet"), parseRouterKind("port-restricted/random"));

describe.skipIf(!labEnabled)("two nodes", () => {
  test(
    "open to open: direct over QUIC, by address and by id, 100 MiB whole",
    async () => {
      await using pair = await meet(twoHosts(nat("open-internet"), nat("open-internet")));
      const { alice, bob } = pair;
      await expectMeeting(pair, { strategy: "direct", path: "direct/udp" });
      expect(await carry(pair)).toBe("equal");
      const bare = { loops: 10, addr: await bob.addr() };
      const udp = await timed(alice, bare, "");
      const tcp = await timed(alice, bare, "&transport=tcp");
      report(`direct over UDP ${udp} ms (floor 200), direct over TCP ${tcp} ms (floor 300)`);
    },
    LIMIT_MS,
  );

  test(
    "from behind a port-restricted NAT to an open one: direct",
    async () => {
      await using pair = await meet(twoHosts(nat("port-restricted"), nat("open-internet")));
      await expectMeeting(pair, { strategy: "direct" });
    },
    LIMIT_MS,
  );

  test(
    "from an open one to one behind a port-restricted NAT: reverse, 100 MiB whole",
    async () => {
      await using pair = await meet(UNREACHABLE_BOB, { before: withoutIp6 });
      await expectMeeting(pair, { strategy: "reverse" });
      expect(await carry(pair)).toBe("equal");
      const line = { loops: 10, addr: await pair.bob.addr() };
      const time = await timed(pair.alice, line, "");
      report(`reverse ${time} ms`);
    },
    LIMIT_MS,
  );

  test.each([true, false])(
    "in one network behind one router, hairpinning %p: direct, by its private address",
    async (hairpinning) => {
      await using pair = await meet(oneRouter(nat("port-restricted")), {
        before: (lab) => lab.router("a").change({ hairpinning }),
      });
      const { raddr } = await expectMeeting(pair, { strategy: "direct", path: "direct/tcp" });
      expect((raddr as [string, number])[0]).toBe(pair.lab.host("bob").ip4);
    },
    LIMIT_MS,
  );

  test(
    "on one machine: direct over loopback, with no server at all",
    async () => {
      await using lab = await Lab.create(oneRouter(nat("port-restricted")));
      const [one, two] = await Promise.all(
        ["one", "two"].map((name) => startLabNode(lab, "alice", { name, machine: "alice" })),
      );
      const opened = await (one as LabNode).get(`/p2p/open/con/${await (two as LabNode).addr()}`);
      expect(opened).toMatchObject({
        error: 0,
        strategy: "direct",
        raddr: ["127.0.0.1", expect.any(Number)],
      });
    },
    LIMIT_MS,
  );

  test(
    "with IPv6 alone: direct",
    async () => {
      await using pair = await meet(twoHosts(nat("open-internet"), nat("open-internet")), {
        before: async (lab) => {
          for (const host of lab.hosts) await host.run(["ip", "-4", "addr", "flush", "dev", "eth0"]);
        },
        family: 6,
      });
      const { raddr } = await expectMeeting(pair, { strategy: "direct" });
      expect((raddr as [string, number])[0]).toContain(":");
    },
    LIMIT_MS,
  );

  test.each([4, 6] as const)(
    "with both families, of which IPv%p is dead: direct by the other",
    async (family) => {
      const { lanPrefix4, lanPrefix6 } = planRouter(1, "public");
      await using pair = await meet(twoHosts(nat("open-internet"), nat("open-internet")));
      const dead = family === 4 ? lanPrefix4 : lanPrefix6;
      const words = ["ip", `-${family}`, "route", "replace", "blackhole", dead];
      const alive = await timed(pair.alice, { loops: 3, addr: await pair.bob.addr() }, "");
      await tryCommand([...enterNamespace(pair.lab.internet), ...words]);
      const time = await timed(pair.alice, { loops: 3, addr: await pair.bob.addr() }, "");
      report(`IPv${family} dead: ${time} ms instead of ${alive} ms`);
    },
    LIMIT_MS,
  );

  test(
    "one of three brokers dead and one frozen: by id and reverse go on; all dead: direct still works",
    async () => {
      await using pair = await meet(UNREACHABLE_BOB, { before: withoutIp6, brokers: 3 });
      const { alice, bob, lab } = pair;
      const line = { loops: 3, addr: await bob.addr() };
      const before = await timed(alice, line, "");
      await pair.servers[0]?.kill();
      pair.servers[1]?.freeze();
      const after = await timed(alice, line, "");
      const byId = await alice.get(`/p2p/open/by-id/${bob.id}`);
      report(`reverse with three brokers ${before} ms, with one of them left ${after} ms`);
      expect(byId).toMatchObject({ error: 0, strategy: "reverse" });
      pair.servers[1]?.thaw();
      for (const server of pair.servers.slice(1)) await server.kill();
      await alice.until("brokers", "down");
      await lab
        .router("b")
        .change({ mode: "open" } as never)
        .catch(() => undefined);
      const back = await bob.get(`/p2p/open/back/${await alice.addr()}`);
      expect(back).toMatchObject({ error: 0, strategy: "direct" });
    },
    LIMIT_MS,
  );

  test(
    "a connection by an address that goes ends with the reason",
    async () => {
      await using pair = await meet(twoHosts(nat("open-internet"), nat("open-internet")), {
        before: withoutIp6,
      });
      const { alice, bob, lab } = pair;
      expect(await alice.get(`/p2p/open/con/${await bob.addr()}`)).toMatchObject({ error: 0 });
      const gone = alice.get("/p2p/recv/con?timeout=20");
      await lab.host("alice").run(["ip", "addr", "flush", "dev", "eth0"]);
      expect((await gone)["error"]).toBe(6);
      expect((await alice.get("/p2p/cons"))["cons"]).toEqual([]);
    },
    LIMIT_MS,
  );

  test(
    "a node with another key at the peer's address is refused, and the failure says so",
    async () => {
      await using pair = await meet(twoHosts(nat("open-internet"), nat("open-internet")));
      const { alice, bob } = pair;
      const stranger = createECDH("prime256v1").generateKeys("base64url", "compressed");
      const line = (await bob.addr()).replace(bob.id, stranger);
      const failed = await alice.get(`/p2p/open/con/${line}?strategies=direct&timeout=3`);
      expect(failed["error"]).toBe(3);
      expect(String(failed["msg"])).toContain("a node with another key answers there");
      report(JSON.stringify(failed["attempts"]));
    },
    LIMIT_MS,
  );
});

/** By the address line and by the id alone; what is said goes both ways. */
async function expectMeeting({ alice, bob }: Pair, expected: Answer): Promise<Answer> {
  const line = await alice.get(`/p2p/open/by-line/${await bob.addr()}`);
  expect(line).toMatchObject({ error: 0, ...expected, peer: { id: bob.id } });
  const id = await alice.get(`/p2p/open/by-id/${bob.id}`);
  expect(id).toMatchObject({ error: 0, ...expected });
  for (const name of ["by-line", "by-id"]) {
    await alice.get(`/p2p/send/${name}/ECHO%20hello`);
    const echoed = await alice.get(`/p2p/recv/${name}?timeout=5`);
    expect(echoed).toMatchObject({ data: "hello" });
  }
  expect(await bob.get("/p2p/accept?timeout=1")).toMatchObject({ direction: "in", peer: { id: alice.id } });
  return line;
}

/** 100 MiB to the echo service and back, through the program. */
async function carry({ alice, bob, lab }: Pair): Promise<string> {
  const file = `${lab.directory}/octets`;
  await alice.program(`head -c 104857600 /dev/urandom > ${file}`);
  const began = performance.now();
  const line = await bob.addr();
  const back = await alice.program(`p2pd nc ${line} --service echo < ${file} | sha256sum`);
  report(`100 MiB there and back in ${((performance.now() - began) / 1000).toFixed(1)} s`);
  const sent = await alice.program(`sha256sum < ${file}`);
  return back === sent ? "equal" : `${sent} became ${back}`;
}

/** Milliseconds from the request to the first echoed octet, the median of several. */
async function timed(
  node: LabNode,
  { loops, addr }: { loops: number; addr: string },
  query: string,
): Promise<number> {
  const times: number[] = [];
  while (times.length < loops) {
    const began = performance.now();
    const opened = await node.get(`/p2p/open/timed/${addr}?timeout=8${query}`);
    expect(opened).toMatchObject({ error: 0 });
    await node.get("/p2p/send/timed/ECHO%20x");
    expect(await node.get("/p2p/recv/timed?timeout=5")).toMatchObject({ data: "x" });
    times.push(performance.now() - began);
    await node.get("/p2p/close/timed");
  }
  return Math.round(median(times));
}

function report(text: string): void {
  console.log(`two nodes: ${text}`);
}

function nat(name: string) {
  return parseRouterKind(name);
}
