/** When a relay begins at once: for every pair of the matrix as the theory of punching has it. */
import { expect, test } from "bun:test";
import type { PunchPlace } from "../../../core/connect/punch-pairs.ts";
import { doubtOf } from "../../../core/connect/relay-outlook.ts";
import type { NatKind } from "../../../core/nat/nat-kind.ts";
import type { Address, AddressNic } from "../../../core/wire/address.ts";
import { parseConfiguration } from "../../nat/configurations.ts";
import { bestOf, MATRIX } from "../../nat/punch-theory.ts";

const UNBLOCKED = MATRIX.filter((name) => !name.startsWith("blocked"));

for (const a of UNBLOCKED) {
  test(`${a} begins a relay at once towards those alone that it cannot reach without a search`, () => {
    const doubted = UNBLOCKED.filter((b) => doubtOf([place(a)], peer([nic(b)])) !== undefined);
    expect(doubted).toEqual(UNBLOCKED.filter((b) => /–|\*/.test(bestOf(a, b))));
  });
}

test("nothing is doubted of which too little is known, nor where UDP is blocked and TCP may pass", () => {
  const random = place("symmetric/random");
  const { profile: _, ...unmeasured } = random;
  expect(doubtOf([unmeasured], peer([nic("symmetric/random")]))).toBeUndefined();
  expect(doubtOf([random], peer([{ ...nic("symmetric/random"), nat: "unknown" }]))).toBeUndefined();
  expect(doubtOf([random], peer([{ ...nic("symmetric/random"), delta: "unknown" }]))).toBeUndefined();
  expect(doubtOf([], peer([nic("symmetric/random")]))).toBeUndefined();
  for (const name of UNBLOCKED) {
    expect(doubtOf([place("blocked/equal")], peer([nic(name)]))).toBeUndefined();
    expect(doubtOf([place(name)], peer([nic("blocked/equal")]))).toBeUndefined();
  }
});

test("one way that is fair is enough: another NIC, a forwarded port, one network, one external address", () => {
  const [random, hard] = [place("symmetric/random"), nic("symmetric/random")];
  expect(doubtOf([random], peer([hard]))).toBeDefined();
  expect(doubtOf([random, place("restricted/equal")], peer([hard]))).toBeUndefined();
  const forwarded = { ...nic("open-internet/equal"), address: "5.44.0.7" };
  expect(doubtOf([random], peer([forwarded, hard]))).toBeUndefined();
  expect(doubtOf([random], peer([{ ...hard, address: "192.168.10.9" }]))).toBeUndefined();
  expect(doubtOf([random], peer([{ ...hard, external: "5.44.0.6" }]))).toBeUndefined();
});

function place(name: string): PunchPlace {
  const { type, delta, settings } = parseConfiguration(name);
  const { mapping, filtering } = settings.udp;
  const kind: NatKind = {
    type,
    mapping: settings.mode === "nat" ? mapping : "endpoint-independent",
    filtering: settings.mode === "open" ? "endpoint-independent" : filtering,
    delta: { type: delta.kind, value: "step" in delta ? delta.step : 0 },
    portPreservation: false,
    portParity: false,
  };
  return {
    ip: "192.168.10.2",
    prefixLength: 24,
    profile: { external: "5.44.0.6", udp: kind, tcp: kind },
  };
}

function nic(name: string): AddressNic {
  const { type, delta } = parseConfiguration(name);
  return {
    index: 0,
    family: 4,
    external: "5.44.0.7",
    address: "192.168.20.2",
    port: 20_000,
    nat: type,
    delta: delta.kind,
    deltaValue: 0,
  };
}

function peer(nics: readonly AddressNic[]): Address {
  return { id: `A${"g".repeat(43)}`, machine: "AAAAAAAAAAA", brokers: [], nics };
}
