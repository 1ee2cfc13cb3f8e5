/** What a peer may have us do for a relay: how much at a time, and to which addresses. */
import { describe, expect, test } from "bun:test";
import type { OwnNetworks } from "../../../core/connect/plan.ts";
import { RelayAnswers } from "../../../core/connect/relay-answers.ts";
import { refuseRelay } from "../../../core/connect/relay-call.ts";
import { P2pdError } from "../../../core/errors.ts";
import type { Nic, World } from "../../../core/net/world.ts";
import type { Address } from "../../../core/wire/address.ts";
import type { AnswerBody } from "../../../core/wire/signal-message.ts";
import type { SignalRelay } from "../../../core/wire/signal-relay.ts";
import { HandTime, settle } from "../node/memory-stream.ts";

const OWN: OwnNetworks = {
  machine: "AAAAAAAAAAA",
  externals: ["5.44.0.6"],
  nics: [nic("lo", "127.0.0.1", 8), nic("eth0", "192.168.10.2", 24), nic("vpn", "10.9.0.2", 16)],
};

describe("a relayed address that a peer names", () => {
  test.each([
    ["5.44.1.10", "192.168.20.2", "BBBBBBBBBBB", true],
    ["2a01:5a40::7", "192.168.20.2", "BBBBBBBBBBB", true],
    ["192.168.10.9", "192.168.10.3", "BBBBBBBBBBB", true],
    ["192.168.10.9", "192.168.20.3", "BBBBBBBBBBB", false],
    ["10.9.200.1", "10.9.1.1", "BBBBBBBBBBB", true],
    ["10.8.200.1", "10.9.1.1", "BBBBBBBBBBB", false],
    ["127.0.0.1", "192.168.10.3", "BBBBBBBBBBB", false],
    ["127.0.0.1", "192.168.10.2", "AAAAAAAAAAA", true],
    ["169.254.1.1", "192.168.10.3", "BBBBBBBBBBB", false],
    ["224.0.0.1", "192.168.10.3", "BBBBBBBBBBB", false],
    ["0.0.0.0", "192.168.10.3", "BBBBBBBBBBB", false],
    ["::1", "192.168.10.3", "BBBBBBBBBBB", false],
  ])("%s of a peer at %s, machine %s: may be connected to: %p", (ip, peerIp, machine, isAllowed) => {
    const refusal = refuseRelay({ ip, port: 50_000 }, peer(peerIp, machine), OWN);
    expect(refusal === undefined).toBe(isAllowed);
    if (refusal !== undefined) expect(refusal).toContain(ip);
  });
});

describe("relays of peers", () => {
  test("are 4 at a time for one and 64 in all, and a request is taken once", async () => {
    const { answers, answer } = arena();
    const running = Array.from({ length: 4 }, (_, i) => answer("a", `a${i}`));
    expect(answers.refusal("a", "a4")).toContain("too many");
    expect(answers.refusal("b", "a0")).toContain("too many");
    expect(answers.refusal("b", "b0")).toBeUndefined();
    for (let i = 0; i < 60; i++) running.push(answer(`p${i}`, `r${i}`));
    expect(answers.refusal("c", "c0")).toContain("too many");
    answers.stop("a0", "b");
    await settle();
    expect(answers.refusal("c", "c0")).toContain("too many");
    answers.stop("a0", "a");
    await Promise.allSettled([running[0]]);
    expect(answers.refusal("c", "c0")).toBeUndefined();
    expect(answers.refusal("a", "a4")).toBeUndefined();
  });

  test("to private addresses are refused, and nothing is connected", async () => {
    const { answer, replies, connects } = arena();
    await answer("a", "r", { transport: "tcp", at: { ip: "192.168.10.1", port: 22 } });
    expect(replies).toMatchObject([{ accepted: false, code: "refused" }]);
    expect(replies[0]?.text).toContain("192.168.10.1:22 is private");
    expect(connects).toEqual([]);
  });

  test("are refused with the reason where no server of ours serves", async () => {
    const none = arena();
    await none.answer("a", "r", { transport: "udp" });
    expect(none.replies).toMatchObject([{ accepted: false, text: "no TURN servers are configured there" }]);
    const full = arena(() => Promise.reject(new P2pdError("unavailable", "it is full (508)")));
    await full.answer("a", "r", { transport: "udp" });
    expect(full.replies).toMatchObject([{ accepted: false, code: "unavailable" }]);
    expect(full.replies[0]?.text).toContain("it is full (508)");
  });

  test("over UDP are refused where that is blocked and there is no server of our own", async () => {
    const { answer, replies } = arena(undefined, true);
    await answer("a", "r", { transport: "udp", at: { ip: "5.44.1.10", port: 50_000 } });
    expect(replies).toMatchObject([{ accepted: false }]);
    expect(replies[0]?.text).toContain("UDP is blocked there");
  });
});

function arena(open?: () => Promise<never>, isUdpBlocked = false) {
  const connects: unknown[] = [];
  const replies: Omit<AnswerBody, "type" | "request">[] = [];
  const time = new HandTime();
  const world = {
    time,
    randomBytes: (count: number) => new Uint8Array(count),
    openQuic: () => new Promise(() => undefined),
    connectTcp: ({ remote, signal }: { remote: unknown; signal: AbortSignal }) =>
      new Promise((_, reject) => {
        connects.push(remote);
        signal.addEventListener("abort", () => reject(new P2pdError("aborted", "given up")));
      }),
  } as unknown as World;
  const answers = new RelayAnswers({
    world,
    credentials: { privateKeyPem: "", certificatePem: "" },
    source: {
      isAny: open !== undefined,
      open: open ?? (() => Promise.reject(new P2pdError("unavailable", "none"))),
    },
    quic: () => undefined,
    own: () => OWN,
    isUdpBlocked: () => isUdpBlocked,
  });
  const answer = (
    from: string,
    request: string,
    relay: SignalRelay = { transport: "tcp", at: { ip: "5.44.1.10", port: 50_000 } },
  ): Promise<void> =>
    answers.answer(
      {
        from,
        request,
        relay,
        peerKey: new Uint8Array(33),
        peer: peer("192.168.20.2", "BBBBBBBBBBB"),
        note: () => undefined,
        reply: (reply) => replies.push(reply),
        comesFrom: () => undefined,
        accepted: () => Promise.resolve(),
      },
      new AbortController().signal,
    );
  return { answers, answer, replies, connects };
}

function nic(name: string, ip: string, prefixLength: number): Nic {
  return {
    index: 1,
    name,
    kind: name === "lo" ? "loopback" : "physical",
    mac: "00:00:00:00:00:00",
    mtu: 1500,
    up: true,
    addresses: [{ ip, family: 4, prefixLength }],
    gateway: {},
    metric: {},
  };
}

function peer(address: string, machine: string): Address {
  const entry = { index: 0, family: 4, address, port: 1, nat: "unknown", delta: "unknown" } as const;
  return { id: `A${"g".repeat(43)}`, machine, brokers: [], nics: [{ ...entry, deltaValue: 0 }] };
}
