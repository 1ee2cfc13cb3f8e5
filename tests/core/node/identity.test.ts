import { afterEach, describe, expect, test } from "bun:test";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { chmodSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createRealWorld } from "../../../core/net/real-world.ts";
import { lockDirectory } from "../../../core/node/directory-lock.ts";
import { idOfKey, keyOfId, openIdentity } from "../../../core/node/identity.ts";
import { isNodeId } from "../../../core/wire/address.ts";
import { stopAll, temporaryDirectory } from "./start-node.ts";

const world = createRealWorld();
const isRoot = process.getuid?.() === 0;
afterEach(stopAll);

test("a new directory gets a key for its owner alone, and the same node comes back from it", () => {
  const directory = join(temporaryDirectory(), "a", "b");
  const first = openIdentity(directory, world);
  expect(statSync(directory).mode & 0o777).toBe(0o700);
  expect(statSync(join(directory, "node-key.pem")).mode & 0o777).toBe(0o600);
  expect(isNodeId(first.id)).toBe(true);
  expect(keyOfId(first.id)).toEqual(first.publicKey);
  expect(idOfKey(first.publicKey)).toBe(first.id);
  first.release();
  const second = openIdentity(directory, world);
  expect([second.id, second.machineId]).toEqual([first.id, first.machineId]);
  second.release();
  expect(readdirSync(directory)).toEqual(["node-key.pem"]);
});

test("the certificate is one that others read: signed by the key it carries, without an end", () => {
  const identity = openIdentity(temporaryDirectory(), world);
  const certificate = new X509Certificate(identity.credentials.certificatePem);
  expect(certificate.verify(certificate.publicKey)).toBe(true);
  expect(certificate.subject).toBe("CN=p2pd node");
  expect(certificate.issuer).toBe(certificate.subject);
  expect(new Date(certificate.validTo).getUTCFullYear()).toBe(9999);
  const jwk = certificate.publicKey.export({ format: "jwk" });
  expect(Buffer.from(identity.publicKey.subarray(1)).toString("base64url")).toBe(String(jwk.x));
  expect(certificate.checkPrivateKey(createPrivateKey(identity.credentials.privateKeyPem))).toBe(true);
  identity.release();
});

test("the machine id is one for all directories, and does not show the system's own", () => {
  const [a, b] = [openIdentity(temporaryDirectory(), world), openIdentity(temporaryDirectory(), world)];
  expect(a.machineId).toBe(b.machineId);
  expect(a.machineId).toMatch(/^[A-Za-z0-9_-]{11}$/);
  expect(a.id).not.toBe(b.id);
  a.release();
  b.release();
});

describe("a key file that is not usable is named and left alone", () => {
  const cases = {
    "text that is no key": "hello",
    "an empty file": "",
    "a key on another curve":
      "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n",
  };
  for (const [name, content] of Object.entries(cases)) {
    test(name, () => {
      const directory = temporaryDirectory();
      const path = join(directory, "node-key.pem");
      writeFileSync(path, content);
      const error = thrownBy(() => openIdentity(directory, world));
      expect(error).toMatchObject({ code: "corrupt-file", detail: { path } });
      expect(String(error)).toContain("P-256 private key as PKCS #8");
      expect(readFileSync(path, "latin1")).toBe(content);
      expect(existsSync(join(directory, "node.lock"))).toBe(false);
    });
  }
});

test("a key that others could read is closed to them", () => {
  const directory = temporaryDirectory();
  openIdentity(directory, world).release();
  chmodSync(join(directory, "node-key.pem"), 0o644);
  openIdentity(directory, world).release();
  expect(statSync(join(directory, "node-key.pem")).mode & 0o777).toBe(0o600);
});

test("a path that is a file, or lies under one, is a clear configuration error", () => {
  const file = join(temporaryDirectory(), "file");
  writeFileSync(file, "");
  for (const directory of [file, join(file, "below")]) {
    expect(thrownBy(() => openIdentity(directory, world))).toMatchObject({ code: "configuration" });
  }
});

test("a key that is a directory is a clear configuration error", () => {
  const directory = temporaryDirectory();
  openIdentity(join(directory, "node-key.pem"), world).release();
  expect(thrownBy(() => openIdentity(directory, world))).toMatchObject({
    code: "configuration",
    message: expect.stringContaining("cannot be read"),
  });
});

test("a directory that may not be written to is a clear configuration error", () => {
  if (isRoot) {
    // Root may write everywhere but into what the kernel shows.
    expect(thrownBy(() => openIdentity("/proc/p2pd", world))).toMatchObject({ code: "configuration" });
    return;
  }
  const directory = temporaryDirectory();
  chmodSync(directory, 0o500);
  expect(thrownBy(() => openIdentity(directory, world))).toMatchObject({ code: "configuration" });
  chmodSync(directory, 0o700);
});

describe("one node per directory", () => {
  test("a second one in this process is told the process", () => {
    const directory = temporaryDirectory();
    const first = openIdentity(directory, world);
    expect(thrownBy(() => openIdentity(`${directory}/.`, world))).toMatchObject({
      code: "configuration",
      detail: { pid: process.pid },
    });
    first.release();
    openIdentity(directory, world).release();
  });

  test("a second one in another process is told the first one's number, and a dead one's lock is taken over", async () => {
    const directory = temporaryDirectory();
    const holder = Bun.spawn([process.execPath, join(import.meta.dir, "hold-identity.ts"), directory], {
      stdin: "pipe",
      stdout: "pipe",
    });
    const reader = holder.stdout.getReader();
    await reader.read();
    const error = thrownBy(() => openIdentity(directory, world));
    expect(error).toMatchObject({ code: "configuration", detail: { pid: holder.pid } });
    expect(String(error)).toContain(`process ${holder.pid}`);
    holder.kill("SIGKILL");
    await holder.exited;
    expect(existsSync(join(directory, "node.lock"))).toBe(true);
    openIdentity(directory, world).release();
  });

  test("a process that ends by itself leaves no lock", async () => {
    const directory = temporaryDirectory();
    const holder = Bun.spawn([process.execPath, join(import.meta.dir, "hold-identity.ts"), directory], {
      stdin: "pipe",
      stdout: "pipe",
    });
    await holder.stdout.getReader().read();
    void holder.stdin.end();
    expect(await holder.exited).toBe(0);
    expect(existsSync(join(directory, "node.lock"))).toBe(false);
  });

  test("locks of processes that are no more are taken over: unreadable, of a reused number, of our own number", () => {
    for (const content of ["", "garbage", `${process.pid} 1\n`, `${process.ppid} 1\n`, "2147483646 5\n"]) {
      const directory = temporaryDirectory();
      writeFileSync(join(directory, "node.lock"), content);
      openIdentity(directory, world).release();
      expect(readdirSync(directory)).toEqual(["node-key.pem"]);
    }
  });
});

test("a directory that is not there cannot be locked, and the error names it", () => {
  expect(thrownBy(() => lockDirectory("/nowhere/at/all", world))).toMatchObject({
    code: "configuration",
    message: expect.stringContaining("/nowhere/at/all cannot be written to"),
  });
});

test("text that is no id gives no key", () => {
  for (const text of ["", "abc", "A".repeat(44), "!".repeat(44)]) expect(keyOfId(text)).toBeUndefined();
});

function thrownBy(act: () => unknown): unknown {
  try {
    act();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}
