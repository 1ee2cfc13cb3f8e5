/**
 * What the node knows of its networks: the NICs it uses and, learnt in the background, their external addresses.
 * Nothing waits for it: silent servers are asked again at rising intervals, a change of NICs starts it anew.
 */
import { P2pdError } from "../errors.ts";
import { type Family, scopeOf } from "../ip.ts";
import type { Nic, Timer, World } from "../net/world.ts";
import { createTokenBucket, type TokenBucket } from "../signal/token-bucket.ts";
import type { StunServer } from "../stun/server-url.ts";
import { Interface } from "./interface.ts";
import type { StatusPart } from "./node-api.ts";

const FIRST_RETRY_MS = 5000;
const LAST_RETRY_MS = 300_000;
/** An external address may change with no NIC changing. */
const REFRESH_MS = 600_000;
/** Signs that it has changed are followed at once, and in the long run so often. */
const RECHECK_MS = 5000;
/** One change may give three signs: a dead path, a dead broker, a broker that is back. */
const RECHECK_BURST = 6;
/** A round under way that began so shortly ago will do. */
const RECENT_MS = 250;
/** Systems tell of one change in several steps. */
const SETTLE_MS = 100;

export interface NetworkOptions {
  readonly stunServers: readonly StunServer[];
  /** Names of the NICs to use; absent: all that have a route. */
  readonly interfaces?: readonly string[];
  /** Told when a NIC address that had an external address is seen under another one. */
  readonly moved?: () => void;
  /** Told whenever an external address became known or the NICs changed, and whether `moved` follows. */
  readonly changed: (hasMoved: boolean) => void;
}

export class Network {
  readonly #world: World;
  readonly #options: NetworkOptions;
  readonly #stopWatching: () => void;
  #interfaces: readonly Interface[];
  #round = new AbortController();
  #settling: Timer | undefined;
  #timer: Timer | undefined;
  #recheck: Timer | undefined;
  #isAsking = false;
  #beganMs = Number.NEGATIVE_INFINITY;
  readonly #rechecks: TokenBucket;
  #retryMs = FIRST_RETRY_MS;
  #stun: StatusPart = { part: "stun", state: "starting", detail: "not asked yet" };

  constructor(world: World, options: NetworkOptions) {
    this.#world = world;
    this.#options = options;
    this.#rechecks = createTokenBucket(1000 / RECHECK_MS, RECHECK_BURST, world.time.now());
    this.#interfaces = Interface.list(world);
    this.#stopWatching = world.watchNics(() => {
      this.#settling?.cancel();
      this.#settling = world.time.after(SETTLE_MS, () => this.#nicsChanged(), { background: true });
    });
    this.#later(0, () => void this.#discover());
  }

  /** Every NIC there is. */
  get interfaces(): readonly Interface[] {
    return this.#interfaces;
  }

  /** The NICs that connections go by. */
  get used(): readonly Interface[] {
    return usedInterfaces(this.#interfaces, this.#options.interfaces);
  }

  get status(): StatusPart {
    return this.#stun;
  }

  /** The first known external address behind a NIC address. */
  externalOf(ip: string, family: Family): readonly string[] {
    return this.#interfaces
      .flatMap((nic) => nic.routes(family))
      .filter(({ nicIps }) => nicIps.some((range) => range.ip === ip))
      .flatMap(({ extIps }) => extIps.map((range) => range.ip));
  }

  /** All known external addresses. */
  get externals(): readonly string[] {
    return this.#interfaces.flatMap((nic) => externalsOf(nic));
  }

  /** Asks for the external addresses anew, at once where that was not done often: they may have changed. */
  recheck(): void {
    if (this.#recheck !== undefined) return;
    const { time } = this.#world;
    const now = time.now();
    if (this.#isAsking && now - this.#beganMs < RECENT_MS) return;
    if (this.#rechecks.take(now)) {
      void this.#discover();
      return;
    }
    const later = (): void => {
      this.#recheck = undefined;
      this.recheck();
    };
    this.#recheck = time.after(RECHECK_MS, later, { background: true });
  }

  close(): void {
    this.#stopWatching();
    this.#settling?.cancel();
    this.#recheck?.cancel();
    this.#timer?.cancel();
    this.#round.abort();
  }

  #nicsChanged(): void {
    this.#retryMs = FIRST_RETRY_MS;
    this.#interfaces = Interface.list(this.#world, this.#interfaces);
    this.#options.changed(false);
    void this.#discover();
  }

  #later(delayMs: number, act: () => void): void {
    this.#timer?.cancel();
    this.#timer = this.#world.time.after(delayMs, act, { background: true });
  }

  async #discover(): Promise<void> {
    this.#round.abort();
    this.#round = new AbortController();
    this.#beganMs = this.#world.time.now();
    const { signal } = this.#round;
    const { stunServers } = this.#options;
    if (stunServers.length === 0) {
      this.#stun = { part: "stun", state: "off", detail: "no stunServers are configured" };
      return;
    }
    const asked = this.used.filter(({ nic }) => nic.kind !== "loopback");
    const before = asked.map((nic) => nic.seen);
    if (asked.length === 0) {
      this.#stun = { part: "stun", state: "down", detail: "no NIC but loopback is up; waiting for one" };
      return;
    }
    this.#isAsking = true;
    try {
      await Promise.all(asked.map((nic) => nic.discover({ stunServers, signal })));
    } catch (thrown) {
      if (!(thrown instanceof P2pdError)) throw thrown;
      if (thrown.code === "aborted") return;
      this.#stun = { part: "stun", state: "down", detail: thrown.message };
    }
    if (signal.aborted) return;
    this.#isAsking = false;
    const known = asked.flatMap((nic) => externalsOf(nic).map((ip) => `${nic.name} is seen as ${ip}`));
    const isKnown = asked.some(({ isSilent }) => !isSilent);
    const delayMs = isKnown ? REFRESH_MS : this.#retryMs;
    this.#retryMs = isKnown ? FIRST_RETRY_MS : Math.min(2 * this.#retryMs, LAST_RETRY_MS);
    this.#stun = isKnown
      ? { part: "stun", state: "up", detail: known.join(", ") }
      : {
          part: "stun",
          state: "down",
          detail: [
            `none of ${stunServers.length} servers answered; next try in ${delayMs / 1000} s`,
            ...known.map((text) => `${text} when one last did`),
          ].join("; "),
        };
    const isMoved = asked.some((nic, i) => hasMoved(before[i] ?? new Map(), nic.seen));
    this.#options.changed(isMoved);
    if (isMoved) this.#options.moved?.();
    this.#later(delayMs, () => void this.#discover());
  }
}

function hasMoved(before: ReadonlyMap<string, string>, now: ReadonlyMap<string, string>): boolean {
  return [...before].some(([ip, external]) => now.get(ip) !== external);
}

function externalsOf(nic: Interface): readonly string[] {
  return ([4, 6] as const).flatMap((family) =>
    nic.routes(family).flatMap(({ extIps }) => extIps.map(({ ip }) => ip)),
  );
}

/** Those named; else those with a default route; else those in some network; else loopback. */
export function usedInterfaces(all: readonly Interface[], names?: readonly string[]): readonly Interface[] {
  if (names !== undefined) return all.filter(({ name }) => names.includes(name));
  const up = all.filter(({ nic }) => nic.up && hasAddress(nic));
  const choices = [
    up.filter(({ nic }) => nic.kind !== "loopback" && (nic.metric[4] ?? nic.metric[6]) !== undefined),
    up.filter(({ nic }) => !["loopback", "bridge", "container"].includes(nic.kind)),
    up.filter(({ nic }) => nic.kind !== "loopback"),
  ];
  return choices.find((choice) => choice.length > 0) ?? up;
}

function hasAddress(nic: Nic): boolean {
  return nic.addresses.some(({ ip }) => scopeOf(ip) !== "link-local");
}
