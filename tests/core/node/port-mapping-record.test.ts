/** The record of forwarded ports: what a run leaves for the next, and what it makes of damaged files. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PortMappingRecord } from "../../../core/node/port-mapping-record.ts";
import type { Mapping } from "../../../core/portmap/mapping.ts";

const port = {
  gateway: "192.168.1.1",
  transport: "tcp",
  internalIp: "192.168.1.5",
  internalPort: 20_000,
  externalPort: 20_000,
  lifetimeSeconds: 7200,
} as const;
const mapping: Mapping = { ...port, protocol: "pcp", nonce: "0102030405060708090a0b0c" };
const permanent: Mapping = { ...port, protocol: "upnp", gateway: "10.0.0.1", lifetimeSeconds: 0 };
const place = { gateway: "192.168.1.1", ip: "192.168.1.5" };
const elsewhere = { gateway: "10.0.0.1", ip: "192.168.1.5" };

let directory = "";
const file = (): string => join(directory, "port-mappings.json");
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "p2pd-record-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

test("what one run noted the next one finds, at the same gateway and address only", () => {
  new PortMappingRecord(directory, 0).put([place], [mapping], 0);
  const next = new PortMappingRecord(directory, 1000);
  expect(next.at(place.gateway, place.ip)).toEqual([mapping]);
  expect(next.at("192.168.1.254", place.ip)).toEqual([]);
  expect(statSync(file()).mode & 0o777).toBe(0o600);
});

test("a place that is gone keeps its entries until they expire; a permanent one 30 days", () => {
  const record = new PortMappingRecord(directory, 0);
  record.put([elsewhere], [permanent], 0);
  record.put([place], [mapping], 0);
  expect(record.at("10.0.0.1", place.ip)).toEqual([permanent]);
  const later = new PortMappingRecord(directory, 7_300_000);
  expect(later.at(place.gateway, place.ip)).toEqual([]);
  expect(later.at("10.0.0.1", place.ip)).toEqual([permanent]);
  expect(new PortMappingRecord(directory, 31 * 86_400_000).at("10.0.0.1", place.ip)).toEqual([]);
});

test("when nothing is left the file goes", () => {
  const record = new PortMappingRecord(directory, 0);
  record.put([place], [mapping], 0);
  expect(JSON.parse(readFileSync(file(), "utf8"))).toHaveLength(1);
  record.put([place], [], 10);
  expect(existsSync(file())).toBe(false);
});

test.each([
  "",
  "{",
  "null",
  "{}",
  "[1, null, []]",
  '[{"untilMs": 1e15, "mapping": {"protocol": "magic"}}]',
  JSON.stringify([{ untilMs: 1e15, mapping: { ...mapping, nonce: "short" } }]),
  JSON.stringify([{ untilMs: 1e15, mapping: { ...mapping, externalPort: 0 } }]),
  JSON.stringify([{ untilMs: 1e15, mapping: { ...mapping, gateway: "router.local" } }]),
])("a record of %p is begun anew", (text) => {
  writeFileSync(file(), text);
  expect(new PortMappingRecord(directory, 0).at(place.gateway, place.ip)).toEqual([]);
});

test("a record that cannot be written says which file", () => {
  const record = new PortMappingRecord(join(directory, "nowhere"), 0);
  expect(() => record.put([place], [mapping], 0)).toThrow("port-mappings.json cannot be written");
});
