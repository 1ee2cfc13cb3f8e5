/**
 * How long the routers in front of the node keep UDP mappings that carry nothing: measured in the background, one NIC
 * address after another, rarely, and kept with the network that it belongs to.
 */
import { type Endpoint, type Family, familyOf } from "../ip.ts";
import { changesPorts } from "../nat/mapping-life.ts";
import type { NatKind } from "../nat/nat-kind.ts";
import type { World } from "../net/world.ts";
import { measureLife } from "../stun/measure-life.ts";

/** A NIC address, and what is known of the router in front of it. */
export interface LifePlace {
  readonly localIp: string;
  readonly device?: string | undefined;
  readonly external: string;
  readonly kind: NatKind;
}

interface Known {
  /** Milliseconds that a mapping has outlived; undefined: nobody could tell. */
  readonly lifeMs: number | undefined;
  readonly untilMs: number;
}

/** A node that starts has better things to do. */
const START_MS = 5000;
/** As the NAT itself. */
const KEPT_MS = 6 * 3_600_000;
const RETRY_MS = 1_800_000;
const MOST_KEPT = 32;

export class MappingLives {
  readonly #world: World;
  readonly #servers: (family: Family) => Promise<readonly Endpoint[]>;
  readonly #known = new Map<string, Known>();
  #places: readonly LifePlace[] = [];
  #running: { readonly name: string; readonly stop: AbortController } | undefined;
  #isClosed = false;

  constructor(world: World, servers: (family: Family) => Promise<readonly Endpoint[]>) {
    this.#world = world;
    this.#servers = servers;
  }

  /** Measures what is not known of these places, which are all there are now. */
  measure(places: readonly LifePlace[]): void {
    this.#places = places.filter(({ kind }) => isMeasured(kind));
    const isThere = this.#places.some((place) => nameOf(place) === this.#running?.name);
    if (!isThere) this.#running?.stop.abort();
    this.#next();
  }

  /** The longest silence that a mapping of a NIC address is known to outlive, in milliseconds. */
  lifeOf(localIp: string): number | undefined {
    const place = this.#places.find((one) => one.localIp === localIp);
    return place === undefined ? undefined : this.#known.get(nameOf(place))?.lifeMs;
  }

  close(): void {
    this.#isClosed = true;
    this.#running?.stop.abort();
  }

  #next(): void {
    if (this.#running !== undefined || this.#isClosed) return;
    const now = this.#world.time.now();
    const isDue = (place: LifePlace): boolean => (this.#known.get(nameOf(place))?.untilMs ?? 0) <= now;
    const place = this.#places.find(isDue);
    if (place === undefined) return;
    const running = { name: nameOf(place), stop: new AbortController() };
    this.#running = running;
    const begin = (): void =>
      void this.#measure(place, running.stop.signal).then((known) => {
        this.#running = undefined;
        if (known !== undefined) this.#keep(running.name, known);
        this.#next();
      });
    this.#world.time.after(START_MS, begin, { background: true });
  }

  /** undefined: it was called off. */
  async #measure(place: LifePlace, signal: AbortSignal): Promise<Known | undefined> {
    const { localIp, device, kind } = place;
    const { time } = this.#world;
    if (signal.aborted) return undefined;
    for (const server of await this.#servers(familyOf(localIp))) {
      try {
        const asked = { localIp, device, server, changesPorts: changesPorts(kind), signal };
        const lifeMs = await measureLife(this.#world, asked);
        if (lifeMs !== undefined) return { lifeMs, untilMs: time.now() + KEPT_MS };
      } catch {
        // This server fell silent, or the network went; the next one, or the next time, may tell.
        if (signal.aborted) return undefined;
      }
    }
    return { lifeMs: undefined, untilMs: time.now() + RETRY_MS };
  }

  #keep(name: string, known: Known): void {
    this.#known.delete(name);
    this.#known.set(name, known);
    if (this.#known.size > MOST_KEPT) this.#known.delete(this.#known.keys().next().value as string);
  }
}

/** Where the next port depends on the last packet of this host, measuring would spoil punches. */
function isMeasured({ type, delta }: NatKind): boolean {
  return type !== "open-internet" && type !== "blocked" && delta.type !== "dependent";
}

function nameOf({ localIp, device = "", external }: LifePlace): string {
  return `${localIp} ${device} ${external}`;
}
