/** Binding requests over real sockets on loopback, to servers of every age and honesty. */
import { afterEach, describe, expect, test } from "bun:test";
import { createRealWorld } from "../../../core/net/real-world.ts";
import { bindingRequest } from "../../../core/stun/binding.ts";
import { attachStun, type StunSocket } from "../../../core/stun/stun-socket.ts";
import { connectStun } from "../../../core/stun/stun-stream.ts";
import * as kinds from "../../../core/wire/stun-attributes.ts";
import {
  type Answer,
  failing,
  honest,
  reply,
  type Responder,
  startTcpResponder,
  startUdpResponder,
} from "./stun-responder.ts";

const world = createRealWorld();
const closing: (() => void)[] = [];

afterEach(() => {
  for (const close of closing.splice(0)) close();
});

describe.each(["127.0.0.1", "::1"])("over UDP on %s", (ip) => {
  test("the mapped address is the socket's own, with what else the server tells", async () => {
    const server = await udp(honest(), ip);
    const stun = await client(ip);
    const result = await bindingRequest(stun, server.endpoint, { timeoutMs: 2000 });
    expect(result).toMatchObject({
      mapped: stun.local,
      from: server.endpoint,
      honoured: true,
      otherAddress: server.other,
      software: "responder",
      sent: 1,
    });
    expect(result.rttMs).toBeLessThan(2000);
  });

  test("over TCP from a chosen port alike", async () => {
    const server = await startTcpResponder(world, honest(), ip);
    closing.push(() => server.close());
    const local = { ip, port: 0 };
    const stun = await connectStun(world, { remote: server.endpoint, local, timeoutMs: 2000 });
    closing.push(() => stun.close());
    const results = await Promise.all(
      [1, 2, 3].map(() => bindingRequest(stun, server.endpoint, { timeoutMs: 2000 })),
    );
    for (const { mapped } of results) expect(mapped).toEqual(stun.local);
  });
});

describe("a Binding request", () => {
  test("many at once on one socket find their own answers", async () => {
    const servers = await Promise.all(Array.from({ length: 5 }, () => udp(honest())));
    const stun = await client();
    const asked = Array.from({ length: 100 }, (_, i) => servers[i % 5] as Responder);
    const results = await Promise.all(
      asked.map(({ endpoint }) => bindingRequest(stun, endpoint, { timeoutMs: 3000 })),
    );
    results.forEach(({ from }, i) => expect(from).toEqual((asked[i] as Responder).endpoint));
  });

  test("a server of RFC 3489 is understood, with and without a cookie", async () => {
    const old: Answer = (request, from, other) => [
      {
        bytes: reply(request, "success", [
          kinds.attribute(kinds.MAPPED_ADDRESS, from),
          kinds.attribute(kinds.SOURCE_ADDRESS, other),
          kinds.attribute(kinds.CHANGED_ADDRESS, other),
        ]),
      },
    ];
    const server = await udp(old);
    const stun = await client();
    for (const classic of [false, true]) {
      const result = await bindingRequest(stun, server.endpoint, { classic, timeoutMs: 2000 });
      expect(result).toMatchObject({
        mapped: stun.local,
        otherAddress: server.other,
        responseOrigin: server.other,
      });
    }
  });

  test("XOR-MAPPED-ADDRESS is believed before MAPPED-ADDRESS, which routers rewrite", async () => {
    const server = await udp((request, from) => [
      {
        bytes: reply(request, "success", [
          kinds.attribute(kinds.MAPPED_ADDRESS, { ip: "10.0.0.1", port: 1 }),
          kinds.attribute(kinds.OLD_XOR_MAPPED_ADDRESS, from),
        ]),
      },
    ]);
    const stun = await client();
    expect((await bindingRequest(stun, server.endpoint, { timeoutMs: 2000 })).mapped).toEqual(stun.local);
  });

  test("an answer to CHANGE-REQUEST is judged by where it came from", async () => {
    const obedient = await udp(honest());
    const deaf = await udp((request, from) => [
      { bytes: reply(request, "success", [kinds.attribute(kinds.XOR_MAPPED_ADDRESS, from)]) },
    ]);
    const stun = await client();
    const ask = { changePort: true, timeoutMs: 2000 };
    expect(await bindingRequest(stun, obedient.endpoint, ask)).toMatchObject({
      honoured: true,
      from: obedient.other,
    });
    expect(await bindingRequest(stun, deaf.endpoint, ask)).toMatchObject({
      honoured: false,
      from: deaf.endpoint,
    });
    const both = { ...ask, changeIp: true };
    expect(await bindingRequest(stun, obedient.endpoint, both)).toMatchObject({ honoured: false });
    const changedTo = { ip: "127.0.0.1", port: 9 };
    expect(await bindingRequest(stun, obedient.endpoint, { ...ask, changedTo })).toMatchObject({
      honoured: false,
    });
  });

  test("an answer from the wrong address is dropped and counted, and the timeout names who sent it", async () => {
    const server = await udp((request, from, other) =>
      honest()(request, from, other).map((one) => ({ ...one, fromOther: true })),
    );
    const stun = await client();
    const failed = bindingRequest(stun, server.endpoint, { rtoMs: 20, timeoutMs: 100 });
    expect(failed).rejects.toMatchObject({ code: "timeout" });
    await failed.catch(() => {});
    expect(stun.counters.wrongSource).toBeGreaterThan(0);
  });

  test.each([
    [400, "protocol"],
    [401, "unauthorized"],
    [438, "unauthorized"],
    [500, "unavailable"],
    [300, "unavailable"],
  ] as const)("error %i becomes %s with its code and reason", async (code, expected) => {
    const server = await udp(failing(code));
    const failed = bindingRequest(await client(), server.endpoint, { timeoutMs: 2000 });
    expect(failed).rejects.toMatchObject({ code: expected, detail: { stunCode: code, reason: "no" } });
    await failed.catch(() => {});
  });

  test("420 names the attributes the server does not know", async () => {
    const server = await udp(failing(420, kinds.attribute(kinds.UNKNOWN_ATTRIBUTES, [3])));
    const failed = bindingRequest(await client(), server.endpoint, { changePort: true, timeoutMs: 2000 });
    expect(failed).rejects.toMatchObject({ code: "unsupported", detail: { unknownAttributes: [3] } });
    await failed.catch(() => {});
  });

  test("an error without a code, and a success without an address, are refused", async () => {
    const stun = await client();
    for (const kind of ["error", "success"] as const) {
      const server = await udp((request) => [{ bytes: reply(request, kind, []) }]);
      const failed = bindingRequest(stun, server.endpoint, { timeoutMs: 2000 });
      expect(failed).rejects.toMatchObject({ code: "protocol" });
      await failed.catch(() => {});
    }
  });

  test("300 is followed to the other server, and never in circles or further than allowed", async () => {
    const goal = await udp(honest());
    const first = await udp(failing(300, kinds.attribute(kinds.ALTERNATE_SERVER, goal.endpoint)));
    const stun = await client();
    expect((await bindingRequest(stun, first.endpoint, { timeoutMs: 2000 })).from).toEqual(goal.endpoint);
    expect(bindingRequest(stun, first.endpoint, { timeoutMs: 2000, maxRedirects: 0 })).rejects.toMatchObject({
      detail: { stunCode: 300, alternate: goal.endpoint },
    });
    const circle = await udp((request, from, other) =>
      failing(300, kinds.attribute(kinds.ALTERNATE_SERVER, { ...other, port: circle.endpoint.port }))(
        request,
        from,
        other,
      ),
    );
    const failed = bindingRequest(stun, circle.endpoint, { timeoutMs: 2000, maxRedirects: 5 });
    expect(failed).rejects.toMatchObject({ code: "unavailable" });
    await failed.catch(() => {});
    expect(circle.requests).toBe(1);
  });

  test("datagrams that are no answers reach the socket's other user, also after STUN is closed", async () => {
    const peer = await world.openUdp({ local: { ip: "127.0.0.1", port: 0 } });
    closing.push(() => peer.close());
    const stun = await client();
    const heard: string[] = [];
    let wake = (): void => {};
    stun.pass({
      message(bytes) {
        heard.push(new TextDecoder().decode(bytes));
        wake();
      },
    });
    for (const text of ["punch", "again"]) {
      const arrived = new Promise<void>((resolve) => (wake = resolve));
      peer.send(new TextEncoder().encode(text), stun.local);
      await arrived;
      stun.close();
    }
    expect(heard).toEqual(["punch", "again"]);
    expect(stun.request({ to: peer.local })).rejects.toMatchObject({ code: "closed" });
  });

  test("over TCP: no CHANGE-REQUEST, no other server, and a stream that speaks something else ends it", async () => {
    const server = await startTcpResponder(world, () => [
      { bytes: new TextEncoder().encode("HTTP/1.1 400\r\n") },
    ]);
    closing.push(() => server.close());
    const connect = { remote: server.endpoint, timeoutMs: 2000 };
    const stun = await connectStun(world, connect);
    expect(bindingRequest(stun, server.endpoint, { changeIp: true })).rejects.toMatchObject({
      code: "bad-argument",
    });
    const elsewhere = { ip: "127.0.0.1", port: 9 };
    expect(bindingRequest(stun, elsewhere)).rejects.toMatchObject({ code: "bad-argument" });
    const failed = bindingRequest(stun, server.endpoint, { timeoutMs: 2000 });
    expect(failed).rejects.toMatchObject({ code: "protocol" });
    await failed.catch(() => {});
    const closed = await connectStun(world, connect);
    closed.close();
    expect(bindingRequest(closed, server.endpoint)).rejects.toMatchObject({ code: "closed" });
  });
});

async function udp(answer: Answer, ip?: string): Promise<Responder> {
  const server = await startUdpResponder(world, answer, ip);
  closing.push(() => server.close());
  return server;
}

async function client(ip = "127.0.0.1"): Promise<StunSocket> {
  const socket = await world.openUdp({ local: { ip, port: 0 } });
  closing.push(() => socket.close());
  return attachStun(world, socket);
}
