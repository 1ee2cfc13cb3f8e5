/**
 * What is known of the NATs in front of the node's NICs: measured in the background, kept with the network it belongs
 * to (NIC, address, gateway, external address), measured again when that changes. Nothing waits for it unasked.
 */
import { toP2pdError } from "../errors.ts";
import type { Family } from "../ip.ts";
import type { NatProfile } from "../nat/nat-kind.ts";
import type { Nic, World } from "../net/world.ts";
import { detectNat, type NatDetection } from "../stun/detect-nat.ts";
import type { StunServer } from "../stun/server-url.ts";
import { isContested } from "./default-nic.ts";
import { addressesToAsk } from "./discover-external.ts";
import {
  describeNats,
  describeNicNat,
  type NatFinding,
  type NatReport,
  type NicNatDescription,
  summarise,
} from "./nat-report.ts";
import type { StatusPart } from "./node-api.ts";

export interface NatWatchOptions {
  readonly stunServers: readonly StunServer[];
  /** Every NIC, as the node knows them now. */
  readonly nics: () => readonly Nic[];
  /** Those that connections go by. */
  readonly used: () => readonly Nic[];
  /** The external addresses known behind a NIC address, as they are now. */
  readonly externalOf: (ip: string, family: Family) => readonly string[];
  /** Told when something was measured. */
  readonly changed: () => void;
  /** What else there is to say in words of how this node is reached. */
  readonly advice?: () => readonly string[];
}

const NO_SERVERS = "no stunServers are configured";

interface Place {
  readonly key: string;
  readonly nic: string;
  readonly family: Family;
  readonly ip: string;
  readonly gateway: string;
  readonly device: string | undefined;
}

interface Kept {
  readonly measuredMs: number;
  readonly detection?: NatDetection;
  readonly failure?: string;
}

interface Running {
  readonly done: Promise<void>;
  readonly stop: AbortController;
}

/** A router may get another firmware with nothing else changing. */
const OLDEST_MS = 6 * 3_600_000;
/** Networks that are remembered, for machines that move between them. */
const MOST_KEPT = 32;

export class NatWatch {
  readonly #world: World;
  readonly #options: NatWatchOptions;
  readonly #kept = new Map<string, Kept>();
  readonly #running = new Map<string, Running>();
  /** The last measurement behind each gateway: two at once would disturb each other's samples. */
  readonly #queues = new Map<string, Promise<void>>();
  #isClosed = false;

  constructor(world: World, options: NatWatchOptions) {
    this.#world = world;
    this.#options = options;
  }

  /** Starts to measure what is not known of the networks there are now; lets go of those that are gone. */
  check(): void {
    if (this.#isClosed || this.#options.stunServers.length === 0) return;
    const places = this.#places();
    for (const [key, { stop }] of this.#running) {
      if (!places.some((place) => place.key === key)) stop.abort();
    }
    for (const place of places)
      if (!this.#running.has(place.key) && !this.#isKnown(place)) this.#start(place);
  }

  /** All that is known; with `wait` when nothing is left to measure. */
  async report(wait: boolean): Promise<NatReport> {
    if (wait) await this.settled();
    const report = describeNats(this.findings);
    return { ...report, advice: [...report.advice, ...(this.#options.advice?.() ?? [])] };
  }

  /** Measures everything again, and reports. */
  refresh(): Promise<NatReport> {
    for (const { key } of this.#places()) this.#kept.delete(key);
    return this.report(true);
  }

  /** As `GET /p2p/ifs` shows it; null where nothing is known. */
  ofNic(name: string): NicNatDescription | null {
    return describeNicNat(this.findings.filter(({ nic }) => nic === name));
  }

  /** Resolves when nothing is left to measure. */
  async settled(): Promise<void> {
    this.check();
    while (this.#running.size > 0) await Promise.all([...this.#running.values()].map(({ done }) => done));
  }

  /** What is known of the NAT in front of a NIC address. */
  profileOf(ip: string): NatProfile | undefined {
    const place = this.#placeOf(ip);
    return place === undefined ? undefined : this.#profileAt(place);
  }

  /**
   * As `profileOf`, but while that is being measured waits for it. A router that has another external address only is
   * believed to be the one it was, where the packets of the measurement do not disturb the ports of others.
   */
  async profile(ip: string): Promise<NatProfile | undefined> {
    this.check();
    const place = this.#placeOf(ip);
    const known = place === undefined ? undefined : this.#profileAt(place);
    if (known !== undefined && !isDisturbed(known)) return known;
    if (place !== undefined) await this.#running.get(place.key)?.done;
    return this.profileOf(ip);
  }

  /** One entry for each NIC and family that can be measured. */
  get findings(): readonly NatFinding[] {
    return this.#places().map(({ key, nic, family, ip }) => {
      const { detection, failure = this.#hopeless } = this.#kept.get(key) ?? {};
      return {
        nic,
        family,
        ip,
        ...(detection === undefined ? {} : { detection }),
        ...(failure === undefined ? {} : { failure }),
      };
    });
  }

  get status(): StatusPart {
    const part = "nat";
    if (this.#hopeless !== undefined) return { part, state: "off", detail: NO_SERVERS };
    const { findings } = this;
    const known = findings.flatMap(({ nic, family, detection }) => {
      if (detection?.profile === undefined) return [];
      const { type, delta } = summarise(detection.profile);
      const ports =
        delta.type === "not-applicable"
          ? ""
          : `, ports ${delta.type}${delta.value === 0 ? "" : ` (${delta.value})`}`;
      return [`${nic} by IPv${family}: ${type}${ports}`];
    });
    if (known.length > 0) return { part, state: "up", detail: known.join("; ") };
    if (this.#running.size > 0) return { part, state: "starting", detail: "being measured" };
    const why = findings.find(({ failure }) => failure !== undefined)?.failure ?? "no server answered";
    return { part, state: "down", detail: findings.length === 0 ? "no NIC leads to the internet" : why };
  }

  close(): void {
    this.#isClosed = true;
    for (const { stop } of this.#running.values()) stop.abort();
  }

  /** Why nothing will ever be measured. */
  get #hopeless(): string | undefined {
    return this.#options.stunServers.length === 0 ? NO_SERVERS : undefined;
  }

  #places(): readonly Place[] {
    const all = this.#options.nics();
    return this.#options
      .used()
      .filter(({ kind }) => kind !== "loopback")
      .flatMap((nic) =>
        ([4, 6] as const).flatMap((family) => {
          const [ip] = addressesToAsk(all, nic, family);
          if (ip === undefined) return [];
          const gateway = nic.gateway[family] ?? "";
          const device = isContested(all, family) && nic.metric[family] !== undefined ? nic.name : undefined;
          return [{ key: `${nic.name} ${ip} ${gateway}`, nic: nic.name, family, ip, gateway, device }];
        }),
      );
  }

  /** That of the address, or of another address of the same NIC and family. */
  #placeOf(ip: string): Place | undefined {
    const places = this.#places();
    const nic = this.#options.used().find(({ addresses }) => addresses.some((one) => one.ip === ip));
    const family = nic?.addresses.find((one) => one.ip === ip)?.family;
    return places.find((place) => place.nic === nic?.name && place.family === family);
  }

  /** What was measured, with the external address as it is now. */
  #profileAt({ key, ip, family }: Place): NatProfile | undefined {
    const profile = this.#kept.get(key)?.detection?.profile;
    const [external] = this.#options.externalOf(ip, family);
    const isSame = external === undefined || profile?.external === undefined || external === profile.external;
    return profile === undefined || isSame ? profile : { ...profile, external };
  }

  #isKnown({ key, ip, family }: Place): boolean {
    const kept = this.#kept.get(key);
    if (kept?.detection?.profile === undefined) return false;
    const { external } = kept.detection.profile;
    const [now] = this.#options.externalOf(ip, family);
    const isSame = now === undefined || external === undefined || now === external;
    return isSame && this.#world.time.now() - kept.measuredMs < OLDEST_MS;
  }

  #start(place: Place): void {
    const stop = new AbortController();
    const queue = `${place.family} ${place.gateway}`;
    const done = (this.#queues.get(queue) ?? Promise.resolve())
      .then(() => this.#measure(place, stop.signal))
      .then((kept) => {
        this.#running.delete(place.key);
        if (kept === undefined) return this.check(); // the network may be back already
        this.#keep(place.key, kept);
        this.#options.changed();
      });
    this.#running.set(place.key, { done, stop });
    this.#queues.set(queue, done);
  }

  /** undefined: it was called off. */
  async #measure({ ip, device }: Place, signal: AbortSignal): Promise<Kept | undefined> {
    if (signal.aborted) return undefined;
    const { stunServers } = this.#options;
    try {
      const tied = device === undefined ? {} : { device };
      const detection = await detectNat(this.#world, { localIp: ip, servers: stunServers, signal, ...tied });
      return { measuredMs: this.#world.time.now(), detection };
    } catch (thrown) {
      const { code, message } = toP2pdError(thrown);
      if (code === "aborted") return undefined;
      return { measuredMs: this.#world.time.now(), failure: message };
    }
  }

  #keep(key: string, kept: Kept): void {
    this.#kept.delete(key);
    this.#kept.set(key, kept);
    if (this.#kept.size > MOST_KEPT) this.#kept.delete(this.#kept.keys().next().value as string);
  }
}

/** Whether the next port depends on the mappings that were made before. */
function isDisturbed({ udp, tcp }: NatProfile): boolean {
  return [udp, tcp].some(({ delta }) => delta.type === "independent" || delta.type === "dependent");
}
