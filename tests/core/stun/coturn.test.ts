/**
 * The STUN client against coturn, a server that other people wrote. Needs `turnserver` and Linux (a second
 * loopback address for RFC 5780); runs where P2PD_LAB=1.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Endpoint } from "../../../core/ip.ts";
import { createRealWorld } from "../../../core/net/real-world.ts";
import { askServers } from "../../../core/stun/ask-servers.ts";
import { bindingRequest } from "../../../core/stun/binding.ts";
import { attachStun, type StunSocket } from "../../../core/stun/stun-socket.ts";
import { connectStun } from "../../../core/stun/stun-stream.ts";

const labEnabled = process.env["P2PD_LAB"] === "1";
const world = createRealWorld();

describe.skipIf(!labEnabled)("against coturn", () => {
  let coturn: Coturn;

  beforeAll(async () => {
    coturn = await startCoturn();
  }, 20_000);

  afterAll(() => coturn?.stop());

  test("UDP: the mapped address, and its other address by RFC 5780", async () => {
    const stun = await client("127.0.0.1");
    const result = await bindingRequest(stun, coturn.at("127.0.0.1"), { timeoutMs: 5000 });
    expect(result.mapped).toEqual(stun.local);
    expect(result.otherAddress).toEqual({ ip: "127.0.0.2", port: coturn.port + 1 });
    expect(result.responseOrigin).toEqual(coturn.at("127.0.0.1"));
    stun.socket.close();
  });

  test("UDP: answers to CHANGE-REQUEST come from where they should", async () => {
    const stun = await client("127.0.0.1");
    for (const [changeIp, changePort] of [
      [true, true],
      [false, true],
      [true, false],
    ] as const) {
      const result = await bindingRequest(stun, coturn.at("127.0.0.1"), {
        changeIp,
        changePort,
        timeoutMs: 5000,
      });
      expect(result.honoured).toBe(true);
      const ip = changeIp ? "127.0.0.2" : "127.0.0.1";
      expect(result.from).toEqual({ ip, port: coturn.port + (changePort ? 1 : 0) });
    }
    stun.socket.close();
  });

  test("UDP: a classic request without a cookie is answered", async () => {
    const stun = await client("127.0.0.1");
    const result = await bindingRequest(stun, coturn.at("127.0.0.1"), { classic: true, timeoutMs: 5000 });
    expect(result.mapped).toEqual(stun.local);
    stun.socket.close();
  });

  test("TCP: the mapped address is the connection's own", async () => {
    const stun = await connectStun(world, { remote: coturn.at("127.0.0.1"), timeoutMs: 5000 });
    const result = await bindingRequest(stun, coturn.at("127.0.0.1"), { timeoutMs: 5000 });
    expect(result.mapped).toEqual(stun.local);
    stun.close();
  });

  test("IPv6: over UDP and TCP alike", async () => {
    for (const protocol of ["udp", "tcp"] as const) {
      const servers = [{ host: "::1", port: coturn.port }];
      const local = { ip: "::1", port: 0 };
      const result = await askServers(world, { local, servers, family: 6, protocol, timeoutMs: 5000 });
      expect(result).toMatchObject({ external: "::1", confirmed: true });
    }
  });
});

interface Coturn {
  readonly port: number;
  at(ip: string): Endpoint;
  stop(): Promise<void>;
}

async function startCoturn(): Promise<Coturn> {
  const directory = await mkdtemp(join(tmpdir(), "p2pd-coturn-"));
  const port = await freePair();
  const log = join(directory, "log");
  const listen = ["127.0.0.1", "127.0.0.2", "::1"].flatMap((ip) => ["-L", ip]);
  const options = ["-n", ...listen, "-p", `${port}`, "--alt-listening-port", `${port + 1}`, "-l", log];
  options.push("--pidfile", join(directory, "pid"), "--userdb", join(directory, "db"), "--simple-log");
  options.push("--stun-only", "--no-tls", "--no-dtls", "--no-auth", "--no-cli");
  const child = Bun.spawn(["turnserver", ...options], { cwd: directory, stdout: "ignore", stderr: "ignore" });
  const at = (ip: string): Endpoint => ({ ip, port });
  async function stop(): Promise<void> {
    child.kill();
    await child.exited;
    await rm(directory, { recursive: true, force: true });
  }
  const ready = await client("127.0.0.1");
  try {
    // Retransmission waits for the server to come up.
    await bindingRequest(ready, at("127.0.0.1"), { rtoMs: 100, timeoutMs: 10_000 });
  } catch (thrown) {
    await stop();
    throw thrown;
  } finally {
    ready.socket.close();
  }
  return { port, at, stop };
}

/** A port that is free, and the one above it; below those that the system hands out, so that nobody gets them meanwhile. */
async function freePair(): Promise<number> {
  for (let attempt = 0; attempt < 20; attempt++) {
    const port = 12_000 + 2 * Math.floor(Math.random() * 8000);
    const first = await world.openUdp({ local: { ip: "127.0.0.1", port } }).catch(() => undefined);
    if (first === undefined) continue;
    const second = await world
      .openUdp({ local: { ip: "127.0.0.1", port: first.local.port + 1 } })
      .catch(() => undefined);
    first.close();
    second?.close();
    if (second !== undefined) return first.local.port;
  }
  throw new Error("no two neighbouring ports are free");
}

async function client(ip: string): Promise<StunSocket> {
  return attachStun(world, await world.openUdp({ local: { ip, port: 0 } }));
}
