/**
 * The UPnP client of one place: forwarded ports by WANIPConnection 1 and 2 and WANPPPConnection, pin holes by
 * WANIPv6FirewallControl. Knows the ways in which routers differ; finding them is `upnp-search.ts`.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { canonicalIp, scopeOf } from "../ip.ts";
import type { World } from "../net/world.ts";
import {
  LIFETIME_SECONDS,
  type Mapping,
  type Place,
  type PortmapCounters,
  type RouterClient,
  type Wish,
} from "./mapping.ts";
import { openUpnpDevice, type UpnpDevice } from "./upnp-device.ts";
import { type Location, searchUpnp } from "./upnp-search.ts";

/** How long the gateway is waited for before another device of the LAN is believed. */
const GATEWAY_LEAD_MS = 1200;
const SEARCH_MS = 2500;
const PORT_TRIES = 6;
const FIRST_OTHER_PORT = 20_000;
const OTHER_PORTS = 40_000;

/** Error numbers of WANIPConnection. */
const INVALID_ARGS = 402;
const ACTION_FAILED = 501;
const NO_SUCH_ENTRY: readonly number[] = [704, 713, 714];
const CONFLICTS: readonly number[] = [718, 728];
const SAME_PORTS_REQUIRED = 724;
const ONLY_PERMANENT = 725;
const UNKNOWN_ACTIONS: readonly number[] = [401, 602];

export function createUpnpClient(world: World, place: Place, counters: PortmapCounters): RouterClient {
  const ending = new AbortController();
  let device: UpnpDevice | undefined;
  let externalIp: string | undefined;
  let lacksAddress = false;

  function router(): UpnpDevice {
    if (device === undefined) throw new P2pdError("unavailable", "no UPnP router was found");
    return device;
  }

  async function askExternal(of: UpnpDevice, signal?: AbortSignal): Promise<string | undefined> {
    const values = await of.call("GetExternalIPAddress", [], signal === undefined ? {} : { signal });
    const ip = canonicalIp(values["NewExternalIPAddress"] ?? "");
    return ip === undefined || scopeOf(ip) === "unspecified" ? undefined : ip;
  }

  /** Whether a service may be used: it is connected, or its firewall can be opened. */
  async function judge(candidate: UpnpDevice, signal: AbortSignal): Promise<void> {
    if (place.family === 6) {
      const status = await candidate.call("GetFirewallStatus", [], { signal });
      if (status["InboundPinholeAllowed"] === "0" && status["FirewallEnabled"] !== "0")
        throw new P2pdError("refused", "the router's owner allows no pin holes");
      return;
    }
    externalIp = await askExternal(candidate, signal);
    lacksAddress = externalIp === undefined;
    if (lacksAddress) throw new P2pdError("refused", "the router tells no external address of its own");
  }

  async function tryLocation(location: Location, signal: AbortSignal): Promise<UpnpDevice> {
    let reason: unknown;
    for (const candidate of await openUpnpDevice(world, place, location, counters, signal)) {
      try {
        await judge(candidate, signal);
        return candidate;
      } catch (thrown) {
        reason = thrown;
      }
    }
    throw toP2pdError(reason);
  }

  async function search(outer: AbortSignal): Promise<UpnpDevice> {
    const { promise, resolve, reject } = Promise.withResolvers<UpnpDevice>();
    const searching = new AbortController();
    const signal = AbortSignal.any([outer, ending.signal, searching.signal]);
    const reasons: string[] = [];
    const others: Location[] = [];
    const look = (location: Location): void => {
      tryLocation(location, signal).then(resolve, (thrown: unknown) => {
        reasons.push(toP2pdError(thrown).message);
      });
    };
    let believesAll = false;
    const timers = [
      world.time.after(
        GATEWAY_LEAD_MS,
        () => {
          believesAll = true;
          for (const location of others) look(location);
        },
        { background: true },
      ),
      world.time.after(
        SEARCH_MS,
        () => {
          const text = reasons[0] ?? `no device answered a search within ${SEARCH_MS} ms`;
          reject(new P2pdError(reasons.length === 0 ? "timeout" : "refused", text));
        },
        { background: true },
      ),
    ];
    signal.addEventListener("abort", () => reject(new P2pdError("aborted", "the search was called off")), {
      once: true,
    });
    const found = (location: Location): void => {
      if (location.isGateway || believesAll) look(location);
      else others.push(location);
    };
    searchUpnp(world, place, counters, found, signal).catch(reject);
    try {
      return await promise;
    } finally {
      for (const timer of timers) timer.cancel();
      searching.abort();
    }
  }

  const describe = (wish: Wish, externalPort: number, lifetimeSeconds: number): Mapping => ({
    protocol: "upnp",
    gateway: place.gateway,
    transport: wish.transport,
    internalIp: place.ip,
    internalPort: wish.internalPort,
    externalPort,
    lifetimeSeconds,
    ...(externalIp === undefined ? {} : { externalIp }),
  });

  /** Whose a port is on the router: ours, another's, or nobody's. */
  async function ownerOf(wish: Wish, port: number): Promise<"ours" | "another" | "nobody"> {
    try {
      const entry = await router().call("GetSpecificPortMappingEntry", entryOf(wish.transport, port));
      const isOurs =
        canonicalIp(entry["NewInternalClient"] ?? "") === place.ip &&
        Number(entry["NewInternalPort"]) === wish.internalPort;
      return isOurs ? "ours" : "another";
    } catch (thrown) {
      if (NO_SUCH_ENTRY.includes(codeOf(thrown))) return "nobody";
      throw thrown;
    }
  }

  function add(action: string, wish: Wish, port: number, lifetime: number): Promise<Record<string, string>> {
    return router().call(action, [
      ...entryOf(wish.transport, port),
      ["NewInternalPort", wish.internalPort],
      ["NewInternalClient", place.ip],
      ["NewEnabled", 1],
      ["NewPortMappingDescription", "P2PD"],
      ["NewLeaseDuration", lifetime],
    ]);
  }

  async function mapPort(wish: Wish, wanted: number): Promise<Mapping> {
    let port = wanted;
    let lifetime = LIFETIME_SECONDS;
    let action = router().service === "WANIPConnection:2" ? "AddAnyPortMapping" : "AddPortMapping";
    let reason: unknown;
    for (let attempt = 0; attempt < PORT_TRIES; attempt++) {
      try {
        const values = await add(action, wish, port, lifetime);
        const reserved = Number(values["NewReservedPort"] ?? port);
        if (!(Number.isInteger(reserved) && reserved > 0 && reserved < 65536))
          throw new P2pdError("protocol", "the router reserved no port");
        return describe(wish, reserved, lifetime);
      } catch (thrown) {
        reason = thrown;
        const code = codeOf(thrown);
        if (UNKNOWN_ACTIONS.includes(code) && action !== "AddPortMapping") action = "AddPortMapping";
        else if ([ONLY_PERMANENT, INVALID_ARGS, ACTION_FAILED].includes(code) && lifetime !== 0) lifetime = 0;
        else if (code === SAME_PORTS_REQUIRED && port !== wish.internalPort) port = wish.internalPort;
        else if (CONFLICTS.includes(code)) port = await afterConflict(wish, port);
        else throw thrown;
      }
    }
    throw toP2pdError(reason);
  }

  /** Some routers refuse to renew; an entry of ours is ended first. Another's is left alone. */
  async function afterConflict(wish: Wish, port: number): Promise<number> {
    if ((await ownerOf(wish, port)) === "ours") {
      await router().call("DeletePortMapping", entryOf(wish.transport, port));
      return port;
    }
    const chance = Buffer.from(world.randomBytes(4)).readUInt32BE(0);
    return FIRST_OTHER_PORT + (chance % OTHER_PORTS);
  }

  async function openPinhole(wish: Wish, earlier: Mapping | undefined): Promise<Mapping> {
    if (earlier?.pinhole !== undefined) {
      try {
        await router().call("UpdatePinhole", [
          ["UniqueID", earlier.pinhole],
          ["NewLeaseTime", LIFETIME_SECONDS],
        ]);
        return { ...earlier, lifetimeSeconds: LIFETIME_SECONDS };
      } catch (thrown) {
        // It is gone, or the number is another's since the router restarted: a new one is opened.
        if (codeOf(thrown) === 0) throw thrown;
      }
    }
    const values = await router().call("AddPinhole", [
      ["RemoteHost", ""],
      ["RemotePort", 0],
      ["InternalClient", place.ip],
      ["InternalPort", wish.internalPort],
      ["Protocol", wish.transport === "tcp" ? 6 : 17],
      ["LeaseTime", LIFETIME_SECONDS],
    ]);
    const id = Number(values["UniqueID"]);
    if (!(Number.isInteger(id) && id >= 0 && id < 65536))
      throw new P2pdError("protocol", "the router opened a pin hole without a number");
    return { ...describe(wish, wish.internalPort, LIFETIME_SECONDS), externalIp: place.ip, pinhole: id };
  }

  return {
    protocol: "upnp",
    get externalIp() {
      return externalIp;
    },
    get lacksAddress() {
      return lacksAddress;
    },
    async reach(signal) {
      device ??= await search(signal);
    },
    async map(wish, earlier) {
      const kept = earlier?.protocol === "upnp" ? earlier : undefined;
      if (place.family === 6) return openPinhole(wish, kept);
      const mapping = await mapPort(wish, earlier?.externalPort ?? wish.externalPort);
      externalIp = await askExternal(router());
      return { ...mapping, ...(externalIp === undefined ? {} : { externalIp }) };
    },
    async unmap(mapping) {
      device ??= await search(ending.signal);
      const options = { timeoutMs: 800 };
      if (mapping.pinhole !== undefined) {
        await router().call("DeletePinhole", [["UniqueID", mapping.pinhole]], options);
        return;
      }
      if ((await ownerOf(mapping, mapping.externalPort)) !== "ours") return;
      await router().call("DeletePortMapping", entryOf(mapping.transport, mapping.externalPort), options);
    },
    async isIntact(mappings) {
      const [first] = mappings;
      if (first === undefined) return true;
      try {
        if (first.pinhole !== undefined) {
          await router().call("GetPinholePackets", [["UniqueID", first.pinhole]]);
          return true;
        }
        const before = externalIp;
        externalIp = await askExternal(router());
        return externalIp === before && (await ownerOf(first, first.externalPort)) === "ours";
      } catch (thrown) {
        if (NO_SUCH_ENTRY.includes(codeOf(thrown))) return false;
        throw thrown;
      }
    },
    close: () => ending.abort(),
  };
}

function entryOf(transport: string, port: number): readonly (readonly [string, string | number])[] {
  return [
    ["NewRemoteHost", ""],
    ["NewExternalPort", port],
    ["NewProtocol", transport.toUpperCase()],
  ];
}

/** The number of a router's refusal; 0 for anything else. */
function codeOf(thrown: unknown): number {
  const code = thrown instanceof P2pdError ? thrown.detail["code"] : undefined;
  return typeof code === "number" ? code : 0;
}
