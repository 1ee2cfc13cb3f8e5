/**
 * The node's TURN servers: allocations on whichever answers first, by UDP and where that does not pass by TCP, and
 * what is known of each. A first allocation at the start, given back at once, tells what is wrong with a server before
 * it is needed, and learns the nonce that saves the next one a round trip.
 */
import type { RelaySource } from "../connect/relay-hold.ts";
import { P2pdError, toP2pdError } from "../errors.ts";
import { type Family, familyOf, scopeOf } from "../ip.ts";
import type { World } from "../net/world.ts";
import { openNearestTurn, type OpenTurn, type TurnTry } from "../turn/open-turn.ts";
import type { Signature } from "../turn/turn-login.ts";
import { defaultNic, isContested } from "./default-nic.ts";
import { addressesToAsk } from "./discover-external.ts";
import type { Network } from "./network.ts";
import type { StatusPart } from "./node-api.ts";
import type { TurnServer } from "./node-config.ts";

export interface TurnServersOptions {
  readonly turnServers: readonly TurnServer[];
  /** Whether relays are allowed at all. */
  readonly isAllowed: boolean;
  readonly network: Pick<Network, "used">;
  /** Whether UDP is known to be blocked here. */
  readonly isUdpBlocked: () => boolean;
}

/** What is known of one server by one transport. */
interface Known {
  state: StatusPart["state"];
  text: string;
}

/** So long an answer over UDP is waited for before TCP is tried beside it. */
const TCP_AFTER_MS = 300;
/** Names of servers are looked up again after this. */
const LOOKED_UP_MS = 600_000;
const GIVE_BACK_MS = 1000;

export class TurnServers implements RelaySource {
  readonly #world: World;
  readonly #options: TurnServersOptions;
  readonly #learnt = new Map<string, Signature>();
  readonly #known = new Map<TurnServer, Known>();
  readonly #names = new Map<string, { readonly atMs: number; readonly ips: readonly string[] }>();
  /** What is being asked for, and what was given. */
  readonly #opening = new Set<Promise<unknown>>();
  readonly #held = new Set<OpenTurn>();

  constructor(world: World, options: TurnServersOptions) {
    this.#world = world;
    this.#options = options;
  }

  get isAny(): boolean {
    return this.#options.turnServers.length > 0;
  }

  /** Makes an allocation and gives it back, on each server. */
  check(): void {
    if (!this.#options.isAllowed) return;
    for (const server of this.#options.turnServers) {
      const checking = this.#open("udp", 4, [server]).then(
        (turn) => turn.close(),
        () => undefined,
      );
      this.#follow(checking);
    }
  }

  open(relayed: "tcp" | "udp", family: Family): Promise<OpenTurn> {
    const opening = this.#open(relayed, family, this.#options.turnServers);
    this.#follow(opening);
    return opening;
  }

  /** Gives back what servers gave, as far as that can be done in a second: a node that goes leaves nothing on them. */
  async giveBack(): Promise<void> {
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const timer = this.#world.time.after(GIVE_BACK_MS, resolve, { background: true });
    const all = async (): Promise<void> => {
      await Promise.allSettled(this.#opening);
      await Promise.allSettled([...this.#held].map((turn) => turn.close()));
    };
    await Promise.race([all(), late]);
    timer.cancel();
  }

  /** One part for each server, without its password. */
  status(): readonly StatusPart[] {
    const { turnServers, isAllowed } = this.#options;
    if (!isAllowed)
      return [{ part: "relay", state: "off", detail: "relay=never, or not among the strategies" }];
    if (turnServers.length === 0) {
      const detail = "no turnServers are configured; a peer's server may still relay";
      return [{ part: "relay", state: "off", detail }];
    }
    return turnServers.map((server) => {
      const { state, text } = this.#known.get(server) ?? { state: "starting", text: "not asked yet" };
      const part = `turn ${server.host}:${server.port}/${server.transport}`;
      return { part, state, detail: `user ${server.username}; ${text}` };
    });
  }

  #follow(what: Promise<unknown>): void {
    this.#opening.add(what);
    what.then(
      () => this.#opening.delete(what),
      () => this.#opening.delete(what),
    );
  }

  async #open(relayed: "tcp" | "udp", family: Family, servers: readonly TurnServer[]): Promise<OpenTurn> {
    const { time } = this.#world;
    const began = time.now();
    const tries = (await Promise.all(servers.map((server) => this.#triesOf(server, relayed)))).flat();
    const serving = new Set<TurnServer>();
    const note = (how: TurnTry, outcome: OpenTurn | P2pdError): void => {
      const server = tries.find((one) => one.how === how)?.server;
      if (server === undefined) return;
      const link = how.transport.toUpperCase();
      if (!(outcome instanceof P2pdError)) {
        const ms = (time.now() - began).toFixed(0);
        serving.add(server);
        this.#known.set(server, { state: "up", text: `relays over ${link}, last allocated in ${ms} ms` });
      } else if (!serving.has(server)) {
        this.#known.set(server, { state: "down", text: `over ${link}: ${outcome.message}` });
      }
    };
    const world = { ...this.#world, lookup: (host: string, of?: Family) => this.#lookUp(host, of) };
    const options = { relayed, families: [family], learnt: this.#learnt };
    try {
      const hows = tries.map(({ how }) => how);
      return this.#hold(await openNearestTurn(world, hows, options, note));
    } catch (thrown) {
      const { code, message, detail } = toP2pdError(thrown);
      throw new P2pdError(code, `no TURN server relays: ${message}`, detail, { cause: thrown });
    }
  }

  #hold(turn: OpenTurn): OpenTurn {
    const held: OpenTurn = {
      ...turn,
      close: () => {
        this.#held.delete(held);
        return turn.close();
      },
    };
    this.#held.add(held);
    return held;
  }

  /** By UDP and, where that may not pass, TCP beside it; TCP allocations need a connection. */
  async #triesOf(
    server: TurnServer,
    relayed: "tcp" | "udp",
  ): Promise<readonly { readonly server: TurnServer; readonly how: TurnTry }[]> {
    const from = await this.#from(server);
    const over = (transport: TurnServer["transport"], afterMs = 0) => ({
      server,
      how: { ...server, transport, afterMs, from },
    });
    if (server.transport !== "udp") return [over(server.transport)];
    if (relayed === "tcp" || this.#options.isUdpBlocked()) return [over("tcp")];
    return [over("udp"), over("tcp", TCP_AFTER_MS)];
  }

  /** The address and NIC to leave from: of the default NIC, by IPv4 where the server has that. */
  async #from({ host }: TurnServer): Promise<{ localIp?: string; device?: string }> {
    const ips = await this.#lookUp(host).catch(() => []);
    const all = this.#world.nics();
    // A server on this machine is reached from wherever the system chooses.
    if (ips.some((ip) => scopeOf(ip) === "loopback")) return {};
    const used = this.#options.network.used.map(({ nic }) => nic);
    for (const family of [4, 6] as const) {
      const nic = defaultNic(used, family);
      const localIp = nic === undefined ? undefined : addressesToAsk(all, nic, family)[0];
      if (nic === undefined || localIp === undefined || ips.every((ip) => familyOf(ip) !== family)) continue;
      return isContested(all, family) ? { localIp, device: nic.name } : { localIp };
    }
    return {};
  }

  /** Remembers, so that no allocation waits for a name. */
  async #lookUp(host: string, family?: Family): Promise<readonly string[]> {
    const now = this.#world.time.now();
    const known = this.#names.get(host);
    const isFresh = known !== undefined && now - known.atMs < LOOKED_UP_MS;
    const ips = isFresh ? known.ips : await this.#world.lookup(host);
    if (!isFresh) this.#names.set(host, { atMs: now, ips });
    return ips.filter((ip) => family === undefined || familyOf(ip) === family);
  }
}
