import { expect, test } from "bun:test";
import { explainAddress } from "../../../core/wire/explain-address.ts";
import vectors from "../../vectors/address.json" with { type: "json" };

test("every field of every vector is explained in words of its own kind", () => {
  for (const { line } of vectors) {
    for (const { meaning, position, text } of explainAddress(line)) {
      expect(meaning.length).toBeGreaterThan(3);
      expect(line.slice(position - 1).startsWith(text)).toBe(true);
    }
  }
});

test("what is unknown is said to be unknown", () => {
  const fields = explainAddress(vectors[2]?.line ?? "");
  const meaning = (name: string) => fields.find((field) => field.name === name)?.meaning;
  expect(meaning("nic 1 external")).toContain("not known");
  expect(meaning("nic 1 nat")).toContain("not known");
  expect(meaning("nic 2 nat")).toContain("symmetric-firewall");
  expect(meaning("broker 1 scheme")).toContain("WebSocket and TLS");
  expect(meaning("broker 1 path")).toContain("/mqtt/v1");
  expect(meaning("broker 2 port")).toBe("the broker's port");
  expect(meaning("nic 1 port")).toContain("TCP and UDP");
});

test("a malformed line is refused as by the decoder", () => {
  expect(() => explainAddress("p2pd9~x")).toThrow("version at character 1");
});
