import { afterEach, describe, expect, test } from "bun:test";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Peers } from "../../../core/node/peers.ts";
import { ask, failure } from "./node-steps.ts";
import { startNode, stopAll, temporaryDirectory } from "./start-node.ts";

afterEach(stopAll);
const ID = "AgECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";

describe("the address book", () => {
  test("is kept in the data directory, for its owner alone", () => {
    const directory = temporaryDirectory();
    const line = `p2pd1~${ID}~AAECAwQFBgc~-~-`;
    const book = new Peers(directory);
    expect(book.put("friend", ID)).toEqual({ name: "friend", id: ID });
    expect(book.put("by-line", line)).toEqual({ name: "by-line", id: ID, address: line });
    expect(statSync(join(directory, "peers.json")).mode & 0o777).toBe(0o600);
    const again = new Peers(directory);
    expect(again.list().map(({ name }) => name)).toEqual(["by-line", "friend"]);
    expect(again.nameOf(ID)).toBe("by-line");
    again.delete("by-line");
    expect(new Peers(directory).list()).toEqual([{ name: "friend", id: ID }]);
  });

  test("refuses names and addresses that make no sense, and stays as it was", () => {
    const directory = temporaryDirectory();
    const book = new Peers(directory);
    for (const name of ["", "a b", "x".repeat(65), ID]) expect(() => book.put(name, ID)).toThrow("the name");
    for (const name of ["self", "..", "all"]) expect(() => book.put(name, ID)).toThrow("reserved");
    expect(() => book.put("friend", "nonsense")).toThrow("address");
    expect(() => book.delete("x".repeat(100))).toThrow("the address book has no");
    expect(book.list()).toEqual([]);
  });

  test("that is damaged is named with its path", () => {
    const directory = temporaryDirectory();
    for (const text of ["{", "[1]", '{"a b": "x"}', `{"friend": "nonsense"}`]) {
      writeFileSync(join(directory, "peers.json"), text);
      expect(() => new Peers(directory)).toThrow(`the address book ${directory}/peers.json is not usable`);
      expect(readFileSync(join(directory, "peers.json"), "utf8")).toBe(text);
    }
  });
});

test("a name of the book may be opened, and the connection shows it", async () => {
  const [a, b] = [await startNode(), await startNode()];
  a.putPeer("friend", b.address());
  const con = await a.open("con", "friend");
  expect(con.peer).toEqual({ id: b.id, name: "friend" });
  expect(await ask(con, "ECHO x")).toBe("x");
  a.deletePeer("friend");
  expect(con.peer).toEqual({ id: b.id });
  a.putPeer("fiend", b.id);
  expect(await failure(a.open("con2", "friend"))).toMatchObject({
    code: "no-such-peer",
    message: expect.stringContaining("did you mean fiend?"),
  });
});
