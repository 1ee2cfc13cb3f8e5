/**
 * The forwarded ports of one place, for as long as the node runs: searched for, kept alive, made anew after the
 * router restarted, and ended with it. When to do what is decided in `upkeep.ts`.
 */
import { P2pdError } from "../errors.ts";
import type { Timer, World } from "../net/world.ts";
import { findRouter, mapFor, type Outcomes } from "./find-router.ts";
import type { Mapping, Place, PortmapCounters, Protocol, RouterClient, Wish } from "./mapping.ts";
import { createNatPmpClient } from "./nat-pmp.ts";
import { createPcpClient } from "./pcp.ts";
import { createUpkeep, searchDelayMs, type Upkeep } from "./upkeep.ts";
import { createUpnpClient } from "./upnp.ts";

/** How long the end of a node waits for routers to forget. */
const END_MS = 900;

export interface ForwardingOptions {
  readonly place: Place;
  readonly wishes: readonly Wish[];
  /** What an earlier run left at this gateway. */
  readonly leftovers: readonly Mapping[];
  readonly counters: PortmapCounters;
  /** Told after any change of what the fields below say. */
  readonly changed: () => void;
}

export class Forwarding {
  readonly place: Place;
  readonly #world: World;
  readonly #options: ForwardingOptions;
  readonly #ending = new AbortController();
  #client: RouterClient | undefined;
  #mappings: readonly Mapping[] = [];
  /** Mappings that may stand on the router although nobody counts on them. */
  #earlier: readonly Mapping[];
  #outcomes: Outcomes = {};
  #upkeep: Upkeep | undefined;
  #timer: Timer | undefined;
  #failures = 0;
  #hadMapping = false;
  #isSearching = false;
  #isBusy = false;
  #firstMappedMs: number | undefined;
  #routerIp: string | undefined;
  #lacksAddress = false;
  #work: Promise<void> = Promise.resolve();
  readonly #beganMs: number;

  constructor(world: World, options: ForwardingOptions) {
    this.#world = world;
    this.#options = options;
    this.place = options.place;
    this.#earlier = options.leftovers;
    this.#beganMs = world.time.now();
    this.#begin(() => this.#search());
  }

  /** What the router holds for us now. */
  get mappings(): readonly Mapping[] {
    return this.#mappings;
  }

  /** What it may hold, to be remembered in case this process dies. */
  get onRouter(): readonly Mapping[] {
    return this.#mappings.length > 0 ? this.#mappings : this.#earlier;
  }

  get isSearching(): boolean {
    return this.#isSearching;
  }

  get outcomes(): Outcomes {
    return this.#outcomes;
  }

  /** The router's external address, told with a mapping or while it refused one. */
  get externalIp(): string | undefined {
    return this.#mappings.find(({ externalIp }) => externalIp !== undefined)?.externalIp ?? this.#routerIp;
  }

  /** Whether the router refused because it has no public address itself. */
  get lacksAddress(): boolean {
    return this.#lacksAddress;
  }

  /** Milliseconds from the start to the first mapping. */
  get mappedAfterMs(): number | undefined {
    return this.#firstMappedMs;
  }

  /** Milliseconds until the next renewal; undefined without one. */
  renewsInMs(): number | undefined {
    const at = this.#upkeep?.renewAtMs;
    return at === undefined || !Number.isFinite(at) ? undefined : Math.max(0, at - this.#world.time.now());
  }

  /** Asks anew at once; resolves when that has been answered or given up. */
  async refresh(): Promise<void> {
    if (!this.#isBusy) {
      this.#timer?.cancel();
      this.#begin(() => (this.#client === undefined ? this.#search() : this.#renew()));
    }
    await this.#work;
  }

  /** Ends the mappings, for at most `END_MS`. With `keep` they are left to expire: the network they belong to is gone. */
  async close(keep = false): Promise<void> {
    if (this.#ending.signal.aborted) return;
    this.#ending.abort();
    this.#timer?.cancel();
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const timer = this.#world.time.after(END_MS, resolve, { background: true });
    await Promise.race([late, this.#end(keep)]);
    timer.cancel();
    this.#client?.close();
  }

  async #end(keep: boolean): Promise<void> {
    await this.#work;
    const client = this.#client;
    if (client === undefined || keep) return;
    const ended = await Promise.allSettled(this.#mappings.map((mapping) => client.unmap(mapping)));
    this.#earlier = this.#mappings.filter((_, i) => ended[i]?.status === "rejected");
    this.#mappings = [];
  }

  /** One piece of work at a time; when it ends, the next is due by the clock. */
  #begin(work: () => Promise<void>): void {
    this.#isBusy = true;
    this.#work = work().finally(() => {
      this.#isBusy = false;
      if (!this.#ending.signal.aborted) this.#schedule();
    });
  }

  #schedule(): void {
    const now = this.#world.time.now();
    if (this.#upkeep === undefined) {
      return this.#later(searchDelayMs(this.#failures, this.#hadMapping), () => this.#search());
    }
    const step = this.#upkeep.next(now);
    if (step.do === "wait") this.#later(step.wakeAtMs - now, async () => undefined);
    else if (step.do === "check") this.#begin(() => this.#check());
    else if (step.do === "renew") this.#begin(() => this.#renew());
    else this.#begin(() => this.#searchAgain());
  }

  #later(delayMs: number, work: () => Promise<void>): void {
    this.#timer = this.#world.time.after(Math.max(0, delayMs), () => this.#begin(work), { background: true });
  }

  /** What it had stays on show until the search has ended. */
  async #searchAgain(): Promise<void> {
    this.#client?.close();
    this.#client = undefined;
    this.#upkeep = undefined;
    this.#earlier = this.#mappings;
    this.#failures = 0;
    await this.#search();
  }

  async #search(): Promise<void> {
    const { place, wishes, changed } = this.#options;
    this.#isSearching = true;
    this.#outcomes = {};
    const clients = this.#clients();
    const note = (protocol: Protocol, outcome: string): void => {
      this.#outcomes = { ...this.#outcomes, [protocol]: outcome };
    };
    try {
      const suggested = this.#earlier.filter(({ gateway }) => gateway === place.gateway);
      const { signal } = this.#ending;
      const { client, mappings } = await findRouter(clients, wishes, suggested, note, signal);
      this.#client = client;
      this.#failures = 0;
      this.#hadMapping = true;
      this.#lacksAddress = false;
      this.#firstMappedMs ??= this.#world.time.now() - this.#beganMs;
      this.#granted(mappings);
      this.#earlier = [];
    } catch {
      // Why is among the outcomes.
      this.#failures++;
      this.#mappings = [];
      this.#lacksAddress = clients.some(({ lacksAddress }) => lacksAddress);
      this.#routerIp = clients.find(({ externalIp }) => externalIp !== undefined)?.externalIp;
    }
    this.#isSearching = false;
    changed();
  }

  async #renew(): Promise<void> {
    const client = this.#client;
    if (client === undefined) return;
    try {
      const { wishes } = this.#options;
      const { mappings } = await mapFor(client, wishes, this.#mappings, this.#ending.signal);
      this.#granted(mappings);
      this.#options.changed();
    } catch {
      // The router may be on its way up again; the machine decides how long that is waited for.
      this.#upkeep?.unrenewed(this.#world.time.now());
    }
  }

  async #check(): Promise<void> {
    try {
      const isIntact = await this.#client?.isIntact(this.#mappings);
      this.#upkeep?.checked(this.#world.time.now(), isIntact === true);
    } catch (thrown) {
      if (!(thrown instanceof P2pdError)) throw thrown;
      this.#upkeep?.unchecked(this.#world.time.now());
    }
  }

  #granted(mappings: readonly Mapping[]): void {
    this.#mappings = mappings;
    const lifetimes = mappings.map(({ lifetimeSeconds }) => lifetimeSeconds).filter((life) => life > 0);
    const shortest = lifetimes.length === 0 ? 0 : Math.min(...lifetimes);
    const now = this.#world.time.now();
    if (this.#upkeep === undefined) this.#upkeep = createUpkeep(now, shortest);
    else this.#upkeep.renewed(now, shortest);
  }

  #clients(): readonly RouterClient[] {
    const { place, counters } = this.#options;
    const makers = [createPcpClient, ...(place.family === 4 ? [createNatPmpClient] : []), createUpnpClient];
    return makers.map((create) => create(this.#world, place, counters));
  }
}
