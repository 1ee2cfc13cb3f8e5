import { expect, test } from "bun:test";
import { linux } from "../../native/linux.ts";
import { macos } from "../../native/macos.ts";
import { decodeSocketAddress, encodeSocketAddress } from "../../native/socket-address.ts";
import { nativeSockets, platformOf, SystemCallError } from "../../native/sockets.ts";

const hasCalls = process.platform === "linux" || process.platform === "darwin";
const four = { octets: Uint8Array.of(192, 0, 2, 1), port: 0x1234, scope: 0 };
const six = { octets: new Uint8Array(16).fill(0xfe), port: 65535, scope: 7 };

test("a socket address is laid out as each platform has it, and reads back", () => {
  const hex = (bytes: Uint8Array): string => bytes.toHex();
  expect(hex(encodeSocketAddress(linux, four))).toBe("02001234c00002010000000000000000");
  expect(hex(encodeSocketAddress(macos, four))).toBe("10021234c00002010000000000000000");
  expect(hex(encodeSocketAddress(linux, six))).toBe(`0a00ffff00000000${"fe".repeat(16)}07000000`);
  expect(hex(encodeSocketAddress(macos, six))).toBe(`1c1effff00000000${"fe".repeat(16)}07000000`);
  for (const platform of [linux, macos]) {
    for (const address of [four, six]) {
      expect(decodeSocketAddress(platform, encodeSocketAddress(platform, address))).toEqual(address);
    }
    expect(decodeSocketAddress(platform, new Uint8Array(28))).toBeUndefined();
  }
});

test("a platform without system calls is named, with what is missing", () => {
  for (const name of ["win32", "freebsd"]) expect(() => platformOf(name)).toThrow(name);
});

test.skipIf(!hasCalls)("a call that the system refuses throws with the name of the error", () => {
  const native = nativeSockets();
  const refused = (call: () => unknown): string => {
    try {
      call();
    } catch (thrown) {
      if (thrown instanceof SystemCallError) return `${thrown.call} ${thrown.code}`;
    }
    return "";
  };
  const fd = native.openStream(4);
  native.bind(fd, { octets: Uint8Array.of(127, 0, 0, 1), port: 0, scope: 0 });
  const { port } = native.localAddress(fd);
  native.listen(fd, 1);
  const other = native.openStream(4);
  const taken = { octets: Uint8Array.of(127, 0, 0, 1), port, scope: 0 };
  expect(refused(() => native.bind(other, taken))).toBe("bind EADDRINUSE");
  expect(refused(() => native.remoteAddress(other))).toBe("getpeername ENOTCONN");
  expect(native.takeError(other)).toBe("");
  native.resetOnClose(other);
  native.close(other);
  native.close(fd);
  expect(native.indexOfDevice("nonesuch0")).toBe(0);
});
