/**
 * Finds UPnP devices by SSDP: asks the group and, as many hosts' firewalls drop what a group's members answer, the
 * gateway itself. Says where descriptions lie; only ones in the LAN, at the host that answered.
 */
import { P2pdError } from "../errors.ts";
import { canonicalIp, type Endpoint, inPrefix, scopeOf } from "../ip.ts";
import type { UdpSocket, World } from "../net/world.ts";
import { decodeSsdpAnswer, encodeSsdpSearch, SSDP_GROUP4, SSDP_GROUP6, SSDP_PORT } from "../wire/ssdp.ts";
import type { Place, PortmapCounters } from "./mapping.ts";

/** A description in the LAN. */
export interface Location {
  readonly at: Endpoint;
  /** With query. */
  readonly path: string;
  readonly isGateway: boolean;
}

const DEVICE = "urn:schemas-upnp-org:device:InternetGatewayDevice";
const TARGETS = [`${DEVICE}:1`, `${DEVICE}:2`, "upnp:rootdevice"] as const;
/** When the question is sent, in milliseconds: datagrams to a group get lost. */
const SEND_AT_MS = [0, 400, 1200];
const MAX_LOCATIONS = 8;

/**
 * Searches until `signal` fires; `found` hears of each location once. Rejects if there is no socket to ask from.
 */
export async function searchUpnp(
  world: World,
  place: Place,
  counters: PortmapCounters,
  found: (location: Location) => void,
  signal: AbortSignal,
): Promise<void> {
  const seen = new Set<string>();
  const socket = await openSocket(world, place);
  socket.attach({
    message(bytes, from) {
      const answer = decodeSsdpAnswer(bytes);
      const location = answer === undefined ? undefined : locationOf(answer.location, from.ip, place);
      // Other devices than the gateway are believed to be one only where they say so.
      const isWanted = location?.isGateway === true || answer?.target.startsWith(DEVICE) === true;
      if (location === undefined || !isWanted || seen.size >= MAX_LOCATIONS) {
        counters.ignored++;
        return;
      }
      counters.answered++;
      const key = `${location.at.ip} ${location.at.port} ${location.path}`;
      if (seen.has(key)) return;
      seen.add(key);
      found(location);
    },
  });
  const group = place.family === 4 ? SSDP_GROUP4 : SSDP_GROUP6;
  const send = (): void => {
    for (const ip of [place.gateway, group]) {
      for (const target of TARGETS) {
        // A group is not asked for every device there is.
        if (ip === group && target === "upnp:rootdevice") continue;
        const to = { ip, port: SSDP_PORT };
        counters.sent++;
        socket.send(encodeSsdpSearch(to, target), to);
      }
    }
  };
  const timers = SEND_AT_MS.map((delayMs) => world.time.after(delayMs, send, { background: true }));
  const { promise, resolve } = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => resolve(), { once: true });
  if (!signal.aborted) await promise;
  for (const timer of timers) timer.cancel();
  socket.close();
}

/** A URL as an endpoint and a path, if it is of the LAN and of the host that named it; undefined else. */
export function locationOf(url: string, from: string, place: Place): Location | undefined {
  if (!isInLan(from, place)) return undefined;
  // A zone means something to whoever wrote it only.
  const parsed = URL.parse(url.replace(/%[^\]/]*\]/, "]"));
  if (parsed === null || parsed.protocol !== "http:" || parsed.username !== "") return undefined;
  const ip = canonicalIp(parsed.hostname.replaceAll(/[[\]]/g, ""));
  if (ip === undefined || !isInLan(ip, place)) return undefined;
  // Over IPv6 a router answers from one of its addresses and names another.
  if (place.family === 4 && ip !== from) return undefined;
  const port = parsed.port === "" ? 80 : Number(parsed.port);
  const isGateway = from === place.gateway || ip === place.gateway;
  return { at: { ip, port }, path: `${parsed.pathname}${parsed.search}`, isGateway };
}

function isInLan(ip: string, { gateway, ip: own, prefixLength }: Place): boolean {
  return (
    ip === gateway || inPrefix(ip, own, prefixLength) || (ip.includes(":") && scopeOf(ip) === "link-local")
  );
}

async function openSocket(world: World, place: Place): Promise<UdpSocket> {
  const local = { ip: place.ip, port: 0 };
  // Without a NIC an IPv6 group has no place.
  const device = place.family === 6 ? place.nic : place.device;
  try {
    return await world.openUdp({ local, ...(device === undefined ? {} : { device }) });
  } catch (thrown) {
    if (!(thrown instanceof P2pdError) || device === undefined || place.device !== undefined) throw thrown;
    return world.openUdp({ local });
  }
}
