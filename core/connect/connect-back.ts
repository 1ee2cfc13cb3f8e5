/**
 * The other side of the reverse strategy: a peer asked us to connect to it. Bounded, so that nobody can use us to
 * knock at doors of others: few at a time for each peer, few endpoints, a short time.
 */
import { P2pdError } from "../errors.ts";
import { scopeOf } from "../ip.ts";
import type { Credentials, QuicEndpoint, World } from "../net/world.ts";
import type { Address } from "../wire/address.ts";
import { directLane } from "./direct.ts";
import { pause } from "./pause.ts";
import { type OwnNetworks, planDirect } from "./plan.ts";
import { type FailedAttempt, type Path, race } from "./race.ts";
import { CONNECT_BACK_TIMEOUT_MS } from "./reverse.ts";

/** At a time, for one peer and for all. */
const MAX_OF_PEER = 4;
const MAX_AT_ONCE = 64;

export interface ConnectBackOptions {
  readonly own: OwnNetworks;
  readonly credentials: Credentials;
  readonly quic?: QuicEndpoint | undefined;
  /** How often a path over QUIC shows a sign of life, in milliseconds. */
  readonly keepAliveMs?: number;
  readonly transport?: "tcp" | "udp" | undefined;
  /** So long it waits: where any packet changes the port of the next, a punch goes first. */
  readonly delayMs?: number | undefined;
  readonly signal: AbortSignal;
}

export class ConnectBack {
  readonly #world: World;
  readonly #underWay = new Map<string, number>();
  #all = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** Why a peer's request is not taken up now; undefined: it is. */
  refusal(peerId: string): string | undefined {
    if ((this.#underWay.get(peerId) ?? 0) >= MAX_OF_PEER || this.#all >= MAX_AT_ONCE)
      return "too many requests of this kind are under way";
    return undefined;
  }

  /**
   * Connects to the peer at its address. Rejects with `connect-failed`, whose text names every endpoint that was
   * tried, or `aborted`.
   */
  async connect(peer: Address, peerKey: Uint8Array, options: ConnectBackOptions): Promise<Path> {
    const { own, credentials, quic, keepAliveMs, transport, signal, delayMs = 0 } = options;
    this.#count(peer.id, 1);
    try {
      await pause(this.#world, delayMs, signal);
      const has: readonly ("tcp" | "udp")[] = quic === undefined ? ["tcp"] : ["tcp", "udp"];
      const transports = has.filter((one) => transport === undefined || one === transport);
      // A line that names our machine proves nothing, and what listens on loopback is for this machine alone.
      const candidates = planDirect(peer, own, transports).filter(
        ({ endpoint }) => scopeOf(endpoint.ip) !== "loopback",
      );
      const lane = directLane(this.#world, candidates, {
        strategy: "reverse",
        credentials,
        expectedKey: peerKey,
        quic,
        keepAliveMs,
      });
      const note = (): void => undefined;
      const { path } = await race(this.#world.time, {
        lanes: [lane],
        timeoutMs: CONNECT_BACK_TIMEOUT_MS,
        signal,
        note,
      });
      return path;
    } catch (thrown) {
      throw withReasons(thrown);
    } finally {
      this.#count(peer.id, -1);
    }
  }

  #count(peerId: string, change: number): void {
    const now = (this.#underWay.get(peerId) ?? 0) + change;
    this.#all += change;
    if (now === 0) this.#underWay.delete(peerId);
    else this.#underWay.set(peerId, now);
  }
}

function withReasons(thrown: unknown): unknown {
  if (!(thrown instanceof P2pdError) || thrown.code !== "connect-failed") return thrown;
  const attempts = (thrown.detail["attempts"] as readonly FailedAttempt[] | undefined) ?? [];
  const reasons = attempts.map(({ candidate, reason }) => `${candidate}: ${reason}`);
  const text =
    reasons.length === 0 ? "no endpoint of your address can be reached from here" : reasons.join("; ");
  return new P2pdError("connect-failed", text, thrown.detail, { cause: thrown });
}
