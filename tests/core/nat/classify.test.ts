/** What a router is, from what servers saw: agreement of many, and what no single one may bring about. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { agreedAddress, classifyNat } from "../../../core/nat/classify.ts";
import type { NatKind, NatProfile } from "../../../core/nat/nat-kind.ts";
import type { Hearing, NatObservations, ServerView } from "../../../core/nat/observations.ts";

const LOCAL = { ip: "192.168.1.7", port: 5000 };
const PUBLIC_LOCAL = { ip: "5.46.1.7", port: 5000 };
const EXTERNAL = "5.44.10.10";
const LIE = "5.47.6.6";
const NONE: NatObservations = { local: LOCAL, views: [] };
const LOCAL_PORTS = [100, 101, 700, 701, 300, 301, 900, 901, 500, 501];

describe("type", () => {
  const cases: readonly [name: string, views: readonly ServerView[], expected: Partial<NatKind>][] = [
    [
      "an answer from the other address: full cone",
      [view(1, { fromOtherAddress: "heard" })],
      { type: "full-cone" },
    ],
    [
      "from the other port alone: restricted",
      [view(1, { fromOtherAddress: "silent", fromOtherPort: "heard" })],
      { type: "restricted", filtering: "address-dependent" },
    ],
    [
      "from neither: port-restricted",
      [view(1, { fromOtherAddress: "silent", fromOtherPort: "silent" })],
      { type: "port-restricted", filtering: "address-and-port-dependent" },
    ],
    [
      "one that hears is proof although others are silent",
      [
        view(1, { fromOtherAddress: "silent" }),
        view(2, { fromOtherAddress: "heard" }),
        view(3, { fromOtherAddress: "silent" }),
      ],
      { type: "full-cone" },
    ],
    [
      "servers that ignore CHANGE-REQUEST leave filtering unknown, and the NAT port-restricted",
      [view(1, { fromOtherAddress: "ignored", fromOtherPort: "ignored" }), view(2, {})],
      { type: "port-restricted", filtering: "unknown" },
    ],
    [
      "an answer from the other port says nothing of other addresses where none was asked",
      [view(1, { fromOtherAddress: "ignored", fromOtherPort: "heard" })],
      { type: "port-restricted", filtering: "unknown" },
    ],
    [
      "another port for another port of one server: symmetric",
      [view(1, {}, { near: 6001 })],
      { type: "symmetric", mapping: "address-and-port-dependent" },
    ],
    [
      "another port for another address alone: symmetric, address-dependent",
      [view(1, {}, { far: 6001 })],
      { type: "symmetric", mapping: "address-dependent" },
    ],
    [
      "two servers that name one endpoint are proof of a cone, though a third sees others",
      [view(1, {}), view(2, {}), view(3, {}, { near: 6001, far: 6002 })],
      { mapping: "endpoint-independent" },
    ],
    [
      "two servers with one address each that name different ports: symmetric",
      [single(1, 6000), single(2, 6001)],
      { type: "symmetric", mapping: "address-and-port-dependent" },
    ],
    [
      "one server with one address tells nothing of mapping, which is taken for strict",
      [single(1, 6000)],
      { type: "symmetric", mapping: "unknown" },
    ],
  ];
  test.each(cases)("%s", (_, views, expected) => {
    expect(classify({ local: LOCAL, views }).udp).toMatchObject(expected);
  });

  test("no UDP although TCP is answered: blocked", () => {
    const { udp, tcp } = classify(NONE, { local: LOCAL, views: [view(1, {})] });
    expect(udp).toMatchObject({ type: "blocked", mapping: "unknown", delta: { type: "not-applicable" } });
    expect(tcp).toMatchObject({ type: "port-restricted", filtering: "unknown", delta: { type: "equal" } });
    expect(tcp.inferred).toBeUndefined();
  });

  test("no answer at all tells nothing", () => {
    expect(classifyNat(NONE, NONE)).toBeUndefined();
  });

  test("the local endpoint seen unchanged is no NAT; open only where something uninvited came in", () => {
    const same = (heard: Hearing): NatObservations => ({
      local: PUBLIC_LOCAL,
      views: [1, 2].map((n) => untranslated(n, heard)),
    });
    expect(classify(same("heard")).udp).toMatchObject({
      type: "open-internet",
      delta: { type: "not-applicable" },
    });
    expect(classify(same("silent")).udp.type).toBe("symmetric-firewall");
    expect(classify(same("ignored")).udp.type).toBe("symmetric-firewall");
  });
});

describe("lies", () => {
  test("a server that names another address than most is not believed in anything, though heard", () => {
    const liar = view(3, { fromOtherAddress: "heard" }, { ip: LIE, near: 1, far: 2, shift: 9 });
    const { external, udp } = classify({ local: LOCAL, views: [liar, view(1, {}), view(2, {})] });
    expect(external).toBe(EXTERNAL);
    expect(udp).toMatchObject({
      mapping: "endpoint-independent",
      delta: { type: "equal" },
      range: [100, 901],
    });
    expect(udp.type).toBe("full-cone"); // what came through the filter came through, whoever sent it
  });

  test("one that sees the same port for all local ports contradicts itself", () => {
    const stuck = { ...view(2, {}, { ip: LIE }), samples: samples(() => 666) };
    const { external, udp } = classify({ local: LOCAL, views: [view(1, {}, { near: 6001 }), stuck] });
    expect(external).toBe(EXTERNAL);
    expect(udp).toMatchObject({ type: "symmetric", delta: { type: "equal" } });
  });

  test("one that says nothing was translated does not make a NAT open", () => {
    const flatterer = { ...view(3, { fromOtherAddress: "heard" }), seen: untranslated(3, "heard").seen };
    const views = [view(1, {}), view(2, {}), flatterer];
    expect(classify({ local: PUBLIC_LOCAL, views }).udp.type).not.toBe("open-internet");
  });

  test("of two that disagree the one that names our own public address is believed", () => {
    const views = [view(1, {}, { ip: LIE }), untranslated(2, "silent")];
    const { external, udp } = classify({ local: PUBLIC_LOCAL, views });
    expect({ external, type: udp.type }).toEqual({ external: PUBLIC_LOCAL.ip, type: "symmetric-firewall" });
    expect(agreedAddress([view(1, {}, { ip: LIE }), view(2, {})], LOCAL.ip)).toBeUndefined();
  });

  test("of two deltas with one vote each a rule is believed before chance, and equal before other rules", () => {
    const chance = view(2, {}, { shift: (port) => 10_000 + ((port * 7919) % 50_000) });
    const both = (other: ServerView) => classify({ local: LOCAL, views: [other, view(1, {})] }).udp.delta;
    expect(both(chance)).toEqual({ type: "equal", value: 0 });
    expect(both(view(2, {}, { shift: 5 }))).toEqual({ type: "equal", value: 0 });
  });

  test("a server whose second address is listed as another server has one voice", () => {
    const other = { ip: "5.44.1.2", port: 3479 };
    const liars = [{ ...single(1, 6000, LIE), other }, single(2, 6000, LIE)];
    expect(agreedAddress([...liars, view(3, {}), view(4, {})], LOCAL.ip)).toBe(EXTERNAL);
    expect(agreedAddress([...liars, view(3, {})], LOCAL.ip)).toBeUndefined();
  });

  test("whatever servers say, nothing is open or full cone unless something was heard", () => {
    fc.assert(
      fc.property(
        fc.array(anyView(), { maxLength: 6 }),
        fc.array(anyView(), { maxLength: 6 }),
        (one, two) => {
          const profile = classifyNat({ local: LOCAL, views: one }, { local: LOCAL, views: two });
          const wasHeard = [...one, ...two].some(({ fromOtherAddress }) => fromOtherAddress === "heard");
          for (const kind of profile === undefined ? [] : [profile.udp, profile.tcp]) {
            if (!wasHeard) expect(["open-internet", "full-cone"]).not.toContain(kind.type);
          }
        },
      ),
    );
  });
});

describe("TCP", () => {
  const udp = (hearing: Partial<ServerView>): NatObservations => ({
    local: LOCAL,
    views: [view(1, hearing), view(2, {})],
  });
  const tcp = (options: ViewOptions = {}): NatObservations => ({
    local: LOCAL,
    views: [view(1, {}, options), view(2, {}, options)],
  });

  test("filters as UDP does where both map alike, and says that this was inferred", () => {
    const { tcp: kind } = classify(udp({ fromOtherAddress: "heard" }), tcp());
    expect(kind).toMatchObject({
      type: "full-cone",
      filtering: "endpoint-independent",
      inferred: "filtering",
    });
  });

  test("is taken for strict where the router picks its ports otherwise", () => {
    const { tcp: kind } = classify(udp({ fromOtherAddress: "heard" }), tcp({ shift: 40 }));
    expect(kind).toMatchObject({
      type: "port-restricted",
      filtering: "unknown",
      delta: { type: "preserving", value: 40 },
    });
  });

  test("is UDP's kind where no server speaks it", () => {
    const { tcp: kind } = classify(udp({ fromOtherAddress: "heard" }), NONE);
    expect(kind).toMatchObject({ type: "full-cone", inferred: "all" });
  });

  test("maps as UDP does where one server with one address spoke it", () => {
    const { tcp: kind } = classify(udp({ fromOtherAddress: "heard" }), {
      local: LOCAL,
      views: [{ ...single(1, 6000), samples: samples((port) => port) }],
    });
    expect(kind).toMatchObject({ type: "full-cone", mapping: "endpoint-independent", inferred: "behaviour" });
  });
});

test("TCP is UDP's kind where servers took too few connections to tell how ports are picked", () => {
  const few = [1, 2].map((n) => ({ ...view(n, {}), samples: view(n, {}).samples.slice(0, 2) }));
  const udp = { local: LOCAL, views: [view(1, { fromOtherAddress: "silent", fromOtherPort: "heard" })] };
  const { tcp } = classify(udp, { local: LOCAL, views: few });
  expect(tcp).toMatchObject({ type: "restricted", delta: { type: "equal" }, inferred: "all" });
});

test("parity is reported where all ports keep it, range as far as it was seen, hairpinning where it was tested", () => {
  const even = classify({ local: LOCAL, views: [view(1, {}, { shift: 4000 })], hairpinned: true }).udp;
  expect(even).toMatchObject({
    portParity: true,
    portPreservation: false,
    range: [4100, 4901],
    hairpinning: true,
  });
  const odd = classify({ local: LOCAL, views: [view(1, {}, { shift: 4001 })] }).udp;
  expect(odd.portParity).toBe(false);
  expect(odd.hairpinning).toBeUndefined();
});

interface ViewOptions {
  /** External port that the server's other port, and its other address, see. */
  readonly near?: number;
  readonly far?: number;
  readonly ip?: string;
  /** External minus local port of the samples, or a rule. */
  readonly shift?: number | ((port: number) => number);
}

/** A server that saw the local port as 6000, whatever it was asked from. */
function view(
  server: number,
  hearing: Partial<Pick<ServerView, "fromOtherAddress" | "fromOtherPort">>,
  { near = 6000, far = 6000, ip = EXTERNAL, shift = 0 }: ViewOptions = {},
): ServerView {
  const endpoint = { ip: `5.44.1.${server}`, port: 3478 };
  const other = { ip: `5.44.2.${server}`, port: 3479 };
  return {
    endpoint,
    other,
    seen: [
      { remote: endpoint, mapped: { ip, port: 6000 } },
      { remote: { ip: endpoint.ip, port: 3479 }, mapped: { ip, port: near } },
      { remote: other, mapped: { ip, port: far } },
    ],
    samples: samples(typeof shift === "number" ? (port) => port + shift : shift),
    fromOtherAddress: "untested",
    fromOtherPort: "untested",
    ...hearing,
  };
}

function single(server: number, port: number, ip = EXTERNAL): ServerView {
  const { other: _, ...rest } = view(server, {}, { ip });
  return { ...rest, seen: [{ remote: rest.endpoint, mapped: { ip, port } }], samples: [] };
}

function untranslated(server: number, fromOtherAddress: Hearing): ServerView {
  const plain = view(server, { fromOtherAddress });
  return { ...plain, seen: plain.seen.map(({ remote }) => ({ remote, mapped: PUBLIC_LOCAL })), samples: [] };
}

function samples(external: (port: number) => number): ServerView["samples"] {
  return LOCAL_PORTS.map((localPort, position) => ({
    position,
    localPort,
    externalPort: external(localPort),
  }));
}

function anyView(): fc.Arbitrary<ServerView> {
  const port = fc.integer({ min: 1, max: 65_535 });
  const endpoint = fc.record({
    ip: fc.constantFrom(LOCAL.ip, EXTERNAL, LIE, "5.44.1.1"),
    port: fc.constantFrom(5000, 6000),
  });
  const hearing = fc.constantFrom<Hearing>("heard", "silent", "ignored", "untested");
  return fc.record({
    endpoint,
    seen: fc.array(fc.record({ remote: endpoint, mapped: endpoint }), { maxLength: 4 }),
    samples: fc.array(fc.record({ position: port, localPort: port, externalPort: port }), { maxLength: 12 }),
    fromOtherAddress: hearing,
    fromOtherPort: hearing,
  });
}

function classify(udp: NatObservations, tcp: NatObservations = NONE): NatProfile {
  const profile = classifyNat(udp, tcp);
  if (profile === undefined) throw new Error("nothing was found out");
  return profile;
}
