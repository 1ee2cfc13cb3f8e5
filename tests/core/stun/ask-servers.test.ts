/** Several servers at once: what enough of them say counts, and the dead, the slow and the lying are named. */
import { afterEach, describe, expect, test } from "bun:test";
import type { Endpoint } from "../../../core/ip.ts";
import { createRealWorld } from "../../../core/net/real-world.ts";
import { type AskOptions, askServers } from "../../../core/stun/ask-servers.ts";
import type { StunServer } from "../../../core/stun/server-url.ts";
import { type Answer, honest, startTcpResponder, startUdpResponder } from "./stun-responder.ts";

const world = createRealWorld();
const closing: (() => void)[] = [];
const LIE: Endpoint = { ip: "203.0.113.9", port: 9 };

afterEach(() => {
  for (const close of closing.splice(0)) close();
});

describe("asking several servers", () => {
  test("ends when enough agree, and names who was not awaited", async () => {
    const servers = [await server(honest()), await server(honest()), await server(() => [])];
    const result = await ask({ servers, timeoutMs: 5000 });
    expect(result).toMatchObject({ external: "127.0.0.1", agreed: 2, confirmed: true, dissenting: [] });
    expect(result.failures).toMatchObject([{ server: servers[2], code: "aborted" }]);
    expect(result.elapsedMs).toBeLessThan(2000);
  });

  test("a liar changes nothing and is named", async () => {
    const servers = [await server(honest(LIE)), await server(honest()), await server(honest())];
    const result = await ask({ servers, enough: 2 });
    expect(result).toMatchObject({ external: "127.0.0.1", confirmed: true });
    expect(result.dissenting.every(({ server: liar }) => liar === servers[0])).toBe(true);
  });

  test("an address nobody can have is a failure, not an answer", async () => {
    const lies = ["0.0.0.0", "224.0.0.1", "::1"].map((ip) => ({ ip, port: 5 }));
    const servers = await Promise.all(
      [...lies, { ip: "127.0.0.1", port: 0 }].map((lie) => server(honest(lie))),
    );
    const result = await ask({ servers });
    expect(result.external).toBeUndefined();
    expect(result.failures.map(({ code }) => code)).toEqual(["protocol", "protocol", "protocol", "protocol"]);
  });

  test("two that disagree name no address", async () => {
    const result = await ask({ servers: [await server(honest(LIE)), await server(honest())] });
    expect(result).toMatchObject({ agreed: 0, confirmed: false });
    expect([result.external, result.dissenting.length]).toEqual([undefined, 2]);
  });

  test("the dead end with the time given, and one honest answer is told without being confirmed", async () => {
    const servers = [await server(honest()), await server(() => [])];
    const result = await ask({ servers, timeoutMs: 150, rtoMs: 50 });
    expect(result).toMatchObject({ external: "127.0.0.1", agreed: 1, confirmed: false });
    expect(result.failures).toMatchObject([{ server: servers[1], code: "timeout" }]);
  });

  test("one server has one voice, and a server for another transport none", async () => {
    const one = await server(honest());
    const other: StunServer = { ...one, transport: "tcp" };
    const result = await ask({ servers: [one, { ...one }, other], enough: 2, timeoutMs: 1000 });
    expect(result).toMatchObject({ agreed: 1, confirmed: false });
    expect(result.failures.map(({ code }) => code).sort()).toEqual(["bad-argument", "unsupported"]);
  });

  test("a host without an address of the family is named", async () => {
    const result = await ask({ servers: [{ host: "::1", port: 1 }], timeoutMs: 1000 });
    expect(result.failures).toMatchObject([{ code: "unreachable" }]);
  });

  test.each(["127.0.0.1", "::1"])("over TCP on %s from one port, the refused named", async (ip) => {
    const responders = await Promise.all([
      startTcpResponder(world, honest(), ip),
      startTcpResponder(world, honest(), ip),
    ]);
    const gone = await startTcpResponder(world, honest(), ip);
    const servers = [...responders, gone].map(({ endpoint }) => ({ host: endpoint.ip, port: endpoint.port }));
    gone.close();
    closing.push(...responders.map((one) => () => one.close()));
    const family = ip === "::1" ? 6 : 4;
    const result = await ask({ servers, protocol: "tcp", family, local: { ip, port: 0 }, enough: 3 });
    expect(result).toMatchObject({ external: ip, agreed: 2, confirmed: false });
    expect(result.failures).toMatchObject([{ server: servers[2], code: "refused" }]);
  });

  test("nobody to ask, and being called off, are errors", async () => {
    expect(ask({ servers: [] })).rejects.toMatchObject({ code: "bad-argument" });
    const servers = [await server(() => [])];
    expect(ask({ servers, signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "aborted" });
    const stop = new AbortController();
    const waiting = ask({ servers, signal: stop.signal });
    stop.abort();
    expect(waiting).rejects.toMatchObject({ code: "aborted" });
    await waiting.catch(() => {});
  });
});

function ask(options: Partial<AskOptions>): ReturnType<typeof askServers> {
  return askServers(world, {
    local: { ip: "127.0.0.1", port: 0 },
    servers: [],
    family: 4,
    protocol: "udp",
    ...options,
  });
}

async function server(answer: Answer): Promise<StunServer> {
  const responder = await startUdpResponder(world, answer);
  closing.push(() => responder.close());
  return { host: responder.endpoint.ip, port: responder.endpoint.port };
}
