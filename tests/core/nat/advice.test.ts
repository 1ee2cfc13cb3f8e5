/** The advice: what each kind of NAT means for its owner, and what would improve it. */
import { expect, test } from "bun:test";
import { adviseNat } from "../../../core/nat/advice.ts";
import type { DeltaType, NatKind, NatType } from "../../../core/nat/nat-kind.ts";

const cases: readonly [NatType, DeltaType, readonly RegExp[]][] = [
  ["open-internet", "not-applicable", [/open to the internet/, /Every peer .* can connect directly to you/]],
  ["symmetric-firewall", "not-applicable", [/a firewall lets in only answers/, /search of a few seconds/]],
  [
    "full-cone",
    "equal",
    [/external ports equal local ones/, /Direct with every peer/, /forward the node's port/],
  ],
  ["restricted", "independent", [/the last one - 3/, /Direct with every peer/]],
  ["port-restricted", "preserving", [/local ones - 3/, /symmetric peers of random ports after a search/]],
  ["symmetric", "dependent", [/go on by - 3/, /your next port can be predicted/]],
  ["symmetric", "random", [/at random/, /only a relay works/, /endpoint-independent mapping/]],
];

test.each(cases)("%s with ports %p", (type, delta, expected) => {
  const text = adviseNat([{ nic: "eth0", family: 4, profile: both(kind(type, delta)) }]).join("\n");
  expect(text).toStartWith("eth0, IPv4, seen as 5.44.10.10: ");
  for (const words of expected) expect(text).toMatch(words);
  expect(text).not.toMatch(/undefined|NaN/);
});

test("UDP that is blocked is told beside TCP, with what would help", () => {
  const profile = {
    external: "5.44.10.10",
    udp: kind("blocked", "not-applicable"),
    tcp: kind("port-restricted", "equal"),
  };
  const text = adviseNat([{ nic: "eth0", family: 4, profile }]).join("\n");
  expect(text).toContain("UDP: blocked; TCP: a port-restricted NAT");
  expect(text).toContain("UDP does not pass here");
  expect(text).toContain("Allowing outgoing UDP");
});

test("nothing that is open already is advised, and nothing is said of nothing", () => {
  expect(adviseNat([])).toEqual([]);
  const profile = both(kind("open-internet", "not-applicable"));
  expect(adviseNat([{ nic: "eth0", family: 6, profile }])).toHaveLength(2);
});

function both(one: NatKind) {
  return { external: "5.44.10.10", udp: one, tcp: one };
}

function kind(type: NatType, delta: DeltaType): NatKind {
  const mapping = type === "symmetric" ? "address-and-port-dependent" : "endpoint-independent";
  const value = ["preserving", "independent", "dependent"].includes(delta) ? -3 : 0;
  return {
    type,
    mapping,
    filtering: "unknown",
    delta: { type: delta, value },
    portPreservation: delta === "equal",
    portParity: false,
  };
}
