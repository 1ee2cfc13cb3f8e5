/**
 * The routing table of macOS and FreeBSD by sysctl(3), and interface indexes. Octets only; what they mean is
 * in `core/wire/route-messages.ts`. The library is loaded by the first call; elsewhere there is nothing.
 */
import { dlopen, ptr } from "bun:ffi";

const NAMES: Readonly<Record<string, string>> = { darwin: "libSystem.B.dylib", freebsd: "libc.so.7" };
// CTL_NET, PF_ROUTE, protocol 0, every family, NET_RT_DUMP, no flags
const ROUTE_DUMP = [4, 17, 0, 0, 1, 0];
const HEADROOM_BYTES = 4096; // for routes added between the two calls

const SYMBOLS = {
  sysctl: { args: ["ptr", "u32", "ptr", "ptr", "ptr", "usize"], returns: "i32" },
  if_nametoindex: { args: ["cstring"], returns: "u32" },
} as const;

type Library = ReturnType<typeof dlopen<typeof SYMBOLS>>["symbols"];

let library: Library | undefined;

function libc(): Library | undefined {
  const name = NAMES[process.platform];
  if (library === undefined && name !== undefined) library = dlopen(name, SYMBOLS).symbols;
  return library;
}

/** The routing table as routing messages (route(4)); empty where there is no such call. */
export function readRouteTable(): Uint8Array {
  const c = libc();
  if (c === undefined) return new Uint8Array(0);
  const name = ptr(Int32Array.from(ROUTE_DUMP));
  const length = new BigUint64Array(1);
  if (c.sysctl(name, ROUTE_DUMP.length, null, ptr(length), null, 0) !== 0) return new Uint8Array(0);
  const table = new Uint8Array(Number(length[0]) + HEADROOM_BYTES);
  length[0] = BigInt(table.length);
  if (c.sysctl(name, ROUTE_DUMP.length, ptr(table), ptr(length), null, 0) !== 0) return new Uint8Array(0);
  return table.subarray(0, Number(length[0]));
}

/** The index of a NIC; 0 if it has none or the platform has no such call. */
export function interfaceIndex(name: string): number {
  return libc()?.if_nametoindex(ptr(new TextEncoder().encode(`${name}\0`))) ?? 0;
}
