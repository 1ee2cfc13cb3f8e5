/**
 * NICs of Linux by rtnetlink: three dumps (links, addresses, routes) and two route queries, well under a
 * millisecond, without a process or a file. Where netlink is forbidden (some sandboxes) it answers undefined
 * and `nics.ts` takes the portable way.
 */
import { type Family, familyOf, parseIp } from "../ip.ts";
import { closeNetlink, openNetlink, receiveNetlink, sendNetlink } from "../../native/netlink-linux.ts";
import {
  decodeNetlink,
  encodeDump,
  encodeRouteQuery,
  type NetlinkAddress,
  type NetlinkLink,
  type NetlinkMessage,
  type NetlinkRoute,
} from "../wire/netlink.ts";
import { byPreference } from "./address-order.ts";
import { nicKind } from "./nic-kind.ts";
import type { Nic, NicAddress } from "./world.ts";

/** Everything the kernel told in one reading. */
export interface LinuxNetwork {
  readonly messages: readonly NetlinkMessage[];
  /** Index of the NIC that packets to the internet leave by, per family, policy rules included. */
  readonly preferred: Readonly<Partial<Record<Family, number>>>;
}

// Root name servers; nothing is sent to them, the kernel is only asked which way packets would go.
const FAR_AWAY = ["198.41.0.4", "2001:503:ba3e::2:30"] as const;
const RTN_UNICAST = 1;
const LONGEST_DEFAULT = { 4: 1, 6: 3 } as const; // of the parts a default route is split into
const TABLE_MAIN = 254;
const DATAGRAM_BYTES = 65_536; // the kernel fills at most 32 KiB
const DUMP_LIMIT_BYTES = 4_194_304; // default routes come first; a router's full table need not be read
const ATTEMPTS = 3;

let buffer: Uint8Array | undefined;

/** The NICs there are now, by index; undefined where the system has no netlink. */
export function readLinuxNics(): readonly Nic[] | undefined {
  const fd = openNetlink(0);
  if (fd < 0) return undefined;
  try {
    // before the dumps: one that is cut short leaves its rest in the socket
    const preferred: Partial<Record<Family, number>> = {};
    for (const ip of FAR_AWAY) {
      const index = askRoute(fd, ip);
      if (index !== undefined) preferred[familyOf(ip)] = index;
    }
    const messages: NetlinkMessage[] = [];
    for (const what of ["links", "addresses", "routes"] as const) {
      const answer = dump(fd, what);
      if (answer === undefined) return undefined;
      for (const message of answer) messages.push(message);
    }
    return composeNics({ messages, preferred });
  } finally {
    closeNetlink(fd);
  }
}

function dump(fd: number, what: "links" | "addresses" | "routes"): readonly NetlinkMessage[] | undefined {
  let messages: NetlinkMessage[] = [];
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    if (!sendNetlink(fd, encodeDump(what, attempt))) return undefined;
    messages = [];
    let interrupted = false;
    let total = 0;
    while (total < DUMP_LIMIT_BYTES) {
      const datagram = receive(fd);
      if (datagram === undefined) return undefined;
      total += datagram.length;
      const decoded = decodeNetlink(datagram, LONGEST_DEFAULT[6]);
      for (const message of decoded.messages) messages.push(message);
      interrupted ||= decoded.interrupted;
      if (decoded.end === "error") return undefined;
      if (decoded.end === "done") break;
    }
    if (!interrupted || total >= DUMP_LIMIT_BYTES) break; // else the last attempt is taken as it is; a change notice follows anyway
  }
  return messages;
}

function askRoute(fd: number, ip: string): number | undefined {
  if (!sendNetlink(fd, encodeRouteQuery(parseIp(ip) as Uint8Array, 1))) return undefined;
  const datagram = receive(fd);
  if (datagram === undefined) return undefined;
  const [route] = decodeNetlink(datagram).messages;
  return route?.message === "route" && route.type === RTN_UNICAST ? route.hops[0]?.index : undefined;
}

function receive(fd: number): Uint8Array | undefined {
  buffer ??= new Uint8Array(DATAGRAM_BYTES);
  const length = receiveNetlink(fd, buffer);
  return length < 0 ? undefined : buffer.subarray(0, length);
}

/** NICs, by index, from what the kernel told. Addresses that must not be used (yet, or any more) are left out. */
export function composeNics({ messages, preferred }: LinuxNetwork): readonly Nic[] {
  const links = messages.filter((message): message is NetlinkLink => message.message === "link");
  const addresses = messages.filter((message): message is NetlinkAddress => message.message === "address");
  const defaults = defaultRoutes(messages, preferred);
  return links
    .toSorted((a, b) => a.index - b.index)
    .map((link) => {
      const own = defaults.get(link.index) ?? { gateway: {}, metric: {} };
      return {
        index: link.index,
        name: link.name,
        kind: nicKind({
          name: link.name,
          loopback: (link.flags & IFF.loopback) !== 0,
          driver: link.kind,
          enslaved: link.master !== 0,
          hasDefault: Object.keys(own.metric).length > 0,
          hardware: link.hardware,
        }),
        mac: link.mac,
        mtu: link.mtu,
        up: (link.flags & IFF.up) !== 0 && (link.flags & IFF.running) !== 0,
        addresses: addresses
          .filter((address) => address.index === link.index)
          .flatMap(usableAddress)
          .sort(byPreference),
        gateway: own.gateway,
        metric: own.metric,
      };
    });
}

const IFF = { up: 1, loopback: 8, running: 64 } as const;
const IFA = { temporary: 1, optimistic: 4, dadFailed: 8, deprecated: 32, tentative: 64 } as const;

function usableAddress({ family, ip, prefixLength, flags }: NetlinkAddress): NicAddress[] {
  if (family === 4) return [{ ip, family, prefixLength }];
  if ((flags & (IFA.dadFailed | IFA.deprecated)) !== 0) return [];
  if ((flags & IFA.tentative) !== 0 && (flags & IFA.optimistic) === 0) return [];
  const temporary = (flags & IFA.temporary) !== 0;
  return [temporary ? { ip, family, prefixLength, temporary } : { ip, family, prefixLength }];
}

interface Defaults {
  readonly gateway: Partial<Record<Family, string>>;
  readonly metric: Partial<Record<Family, number>>;
}

/**
 * Default routes by NIC. VPNs split them in two or more (0.0.0.0/1 and 128.0.0.0/1, 2000::/3) or put them
 * into tables of their own, so such count as well; the NIC that the kernel prefers then gets the lowest
 * metric, whatever the tables say.
 */
function defaultRoutes(
  messages: readonly NetlinkMessage[],
  preferred: LinuxNetwork["preferred"],
): Map<number, Defaults> {
  const found = new Map<number, Defaults>();
  for (const message of messages) {
    if (message.message !== "route" || !isDefault(message)) continue;
    for (const { index, gateway } of message.hops) {
      const own = found.get(index) ?? { gateway: {}, metric: {} };
      found.set(index, own);
      const metric = message.metric + (message.table === TABLE_MAIN ? 0 : 2 ** 32);
      const known = own.metric[message.family];
      if (known !== undefined && known <= metric) continue;
      own.metric[message.family] = metric;
      own.gateway[message.family] = gateway;
    }
  }
  for (const family of [4, 6] as const) {
    const best = found.get(preferred[family] ?? -1);
    const lowest = Math.min(...Array.from(found.values(), ({ metric }) => metric[family] ?? Infinity));
    if (best?.metric[family] !== undefined && best.metric[family] > lowest) best.metric[family] = lowest - 1;
  }
  return found;
}

function isDefault({ type, family, prefixLength }: NetlinkRoute): boolean {
  return type === RTN_UNICAST && prefixLength <= LONGEST_DEFAULT[family];
}
