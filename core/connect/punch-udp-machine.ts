/**
 * When one side of a UDP punch sends what, from which of its sockets, and when a socket becomes the port of a QUIC
 * path: a machine with no socket and no clock. Whoever runs it passes the time and what was heard, and does what it
 * says.
 *
 * Where both know the ports, the caller's QUIC handshake is its first packet, and the called side only opens its filter
 * before it listens. Else both sides send probes. Whoever hears one knows that the hole lets packets through both ways,
 * as its own filter was opened towards the very port that it heard from. It echoes; the called side, having echoed,
 * listens there; the caller, having echoed, connects a moment later. So the caller nominates, and nothing more is said.
 */
import { ANY_PORT, type PunchPart, type PunchPlan, UNKNOWN_PORT } from "../nat/punch-plan.ts";
import { PUNCH_MS, SEARCH_PACE_MS } from "./punch-limits.ts";

export type UdpPunchAction =
  /** `number` is the shot's. */
  | {
      readonly act: "send";
      readonly slot: number;
      readonly to: number;
      readonly kind: "probe" | "echo";
      readonly number: number;
    }
  /** Give the slot's port to a QUIC endpoint, which listens, or connects to the other side's port `to`. */
  | { readonly act: "listen"; readonly slot: number }
  | { readonly act: "connect"; readonly slot: number; readonly to: number; readonly afterMs: number }
  /** Take it back for probes. */
  | { readonly act: "reopen"; readonly slot: number };

export interface UdpPunchStep {
  readonly actions: readonly UdpPunchAction[];
  /** Come back then; absent: the punch is over. */
  readonly wakeAtMs?: number;
}

export interface UdpPunchMachineOptions {
  readonly role: "caller" | "called";
  readonly method: PunchPlan["method"];
  /** Of this side. */
  readonly part: PunchPart;
  /** Of the other. */
  readonly other: PunchPart;
  readonly maxPackets: number;
  /** The method's time unless that is shorter. */
  readonly maxMs?: number;
}

/** One socket; those of `ANY_PORT` are opened when they first send. */
interface Slot {
  readonly localPort: number;
  state: "probing" | "listening" | "connecting";
  /** When listening, or connecting, is given up. */
  untilMs: number;
}

/** Times of rounds of probes: often while the other side starts, then rarely. */
const ROUNDS_MS = [0, 50, 100, 150, 200, 300, 450, 700, 1000, 1400, 1900, 2500, 3200];
/** Known ports: so long for the handshake, with two Initials lost; then probes tell what is wrong. */
const FIRST_CONNECT_MS = 1500;
const FIRST_LISTEN_MS = 1600;
const CONNECT_MS = 2500;
const LISTEN_MS = 1500;
/** The called side hears us, closes a socket and opens an endpoint in this time. */
const CHANGE_OVER_MS = 15;
/** What a late timer, or a connection that failed, held up is not sent at once. */
const MAX_BURST = 8;
/** What is lost alone costs nothing when it was sent twice. */
const TWICE = [0, 1] as const;

export class UdpPunchMachine {
  readonly #options: UdpPunchMachineOptions;
  readonly slots: readonly Slot[];
  readonly #slotOfShot: readonly number[];
  readonly #beganMs: number;
  readonly #search: boolean;
  readonly #direct: boolean;
  #probesFromMs: number;
  #round = 0;
  /** Shots of a search that were sent. */
  #cursor = 0;
  #started = false;
  #sent = 0;

  constructor(options: UdpPunchMachineOptions, nowMs: number) {
    const { method, part, other, role } = options;
    const slots: Slot[] = [];
    const byPort = new Map<number, number>();
    this.#slotOfShot = part.shots.map(({ localPort }) => {
      const known = localPort === ANY_PORT ? undefined : byPort.get(localPort);
      if (known !== undefined) return known;
      slots.push({ localPort, state: "probing", untilMs: 0 });
      byPort.set(localPort, slots.length - 1);
      return slots.length - 1;
    });
    this.#options = options;
    this.slots = slots;
    this.#beganMs = nowMs;
    this.#probesFromMs = nowMs;
    this.#search = method === "search";
    const calledPart = role === "called" ? part : other;
    this.#direct = method === "certain" && calledPart.appearsAs[0] !== UNKNOWN_PORT;
  }

  /** Datagrams so far. */
  get sent(): number {
    return this.#sent;
  }

  /** What is due. */
  advance(nowMs: number): UdpPunchStep {
    const actions: UdpPunchAction[] = [];
    if (!this.#started) {
      this.#started = true;
      if (this.#direct) this.#goDirect(nowMs, actions);
    }
    this.slots.forEach((slot, i) => {
      if (slot.state !== "probing" && nowMs >= slot.untilMs) this.#resume(i, nowMs, actions);
    });
    if (nowMs - this.#beganMs >= this.#lifeMs) return { actions };
    if (!this.slots.some(({ state }) => state === "connecting")) this.#probe(nowMs, actions);
    return { actions, wakeAtMs: this.#wakeAt(nowMs) };
  }

  /** An authentic datagram of the other side came to a slot. */
  heard(nowMs: number, i: number, from: number, kind: "probe" | "echo"): readonly UdpPunchAction[] {
    const slot = this.slots[i];
    const actions: UdpPunchAction[] = [];
    if (slot === undefined || slot.state !== "probing") return actions;
    if (this.#options.role === "called") {
      for (const _ of TWICE) this.#send(i, from, "echo", 0, actions);
      slot.state = "listening";
      slot.untilMs = nowMs + LISTEN_MS;
      actions.push({ act: "listen", slot: i });
    } else if (!this.slots.some(({ state }) => state === "connecting")) {
      // One who hears this and not yet our probe has to change over before our handshake comes.
      if (kind === "probe") for (const _ of TWICE) this.#send(i, from, "echo", 0, actions);
      slot.state = "connecting";
      slot.untilMs = nowMs + CONNECT_MS;
      actions.push({ act: "connect", slot: i, to: from, afterMs: kind === "probe" ? CHANGE_OVER_MS : 0 });
    }
    return actions;
  }

  /** A connection from a slot failed before its time. */
  failed(nowMs: number, i: number): readonly UdpPunchAction[] {
    const actions: UdpPunchAction[] = [];
    if (this.slots[i]?.state === "connecting") this.#resume(i, nowMs, actions);
    return actions;
  }

  get #lifeMs(): number {
    const { method, maxMs = Number.POSITIVE_INFINITY } = this.#options;
    return Math.min(PUNCH_MS[method], maxMs);
  }

  #goDirect(nowMs: number, actions: UdpPunchAction[]): void {
    const { role, part } = this.#options;
    const to = part.shots[0]?.remotePort ?? 0;
    const [slot] = this.slots;
    if (slot === undefined) return;
    if (role === "called") {
      for (const _ of TWICE) this.#send(0, to, "probe", 0, actions);
      slot.state = "listening";
      slot.untilMs = nowMs + FIRST_LISTEN_MS;
      actions.push({ act: "listen", slot: 0 });
    } else {
      slot.state = "connecting";
      slot.untilMs = nowMs + FIRST_CONNECT_MS;
      actions.push({ act: "connect", slot: 0, to, afterMs: 0 });
    }
    this.#probesFromMs = slot.untilMs;
  }

  #resume(i: number, nowMs: number, actions: UdpPunchAction[]): void {
    const slot = this.slots[i] as Slot;
    slot.state = "probing";
    actions.push({ act: "reopen", slot: i });
    if (this.#search) return;
    this.#round = 0;
    this.#probesFromMs = nowMs;
  }

  #probe(nowMs: number, actions: UdpPunchAction[]): void {
    const { shots } = this.#options.part;
    if (this.#search) {
      const elapsed = Math.floor((nowMs - this.#beganMs) / SEARCH_PACE_MS) + 1;
      const due = Math.min(elapsed, this.#cursor + MAX_BURST, shots.length);
      for (; this.#cursor < due; this.#cursor++) this.#shoot(this.#cursor, actions);
      return;
    }
    const begun = nowMs - this.#probesFromMs;
    if (begun < 0) return;
    let isDue = false;
    while (this.#round < ROUNDS_MS.length && (ROUNDS_MS[this.#round] as number) <= begun) {
      this.#round++;
      isDue = true;
    }
    if (isDue) for (let i = 0; i < shots.length; i++) this.#shoot(i, actions);
  }

  #shoot(i: number, actions: UdpPunchAction[]): void {
    const slot = this.#slotOfShot[i] as number;
    const to = this.#options.part.shots[i]?.remotePort as number;
    if (this.slots[slot]?.state === "probing") this.#send(slot, to, "probe", i, actions);
  }

  #send(slot: number, to: number, kind: "probe" | "echo", number: number, actions: UdpPunchAction[]): void {
    if (to <= 0 || this.#sent >= this.#options.maxPackets) return;
    this.#sent++;
    actions.push({ act: "send", slot, to, kind, number });
  }

  #wakeAt(nowMs: number): number {
    const times = this.slots.filter(({ state }) => state !== "probing").map(({ untilMs }) => untilMs);
    times.push(this.#beganMs + this.#lifeMs);
    const { shots } = this.#options.part;
    if (this.#search) {
      // A few at a time: timers are coarse.
      if (this.#cursor < shots.length) times.push(nowMs + 4 * SEARCH_PACE_MS);
    } else if (this.#round < ROUNDS_MS.length) {
      times.push(this.#probesFromMs + (ROUNDS_MS[this.#round] as number));
    }
    return Math.max(nowMs + 1, Math.min(...times));
  }
}
