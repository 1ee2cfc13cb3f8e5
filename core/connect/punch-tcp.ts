/**
 * One side's part of a TCP punch: connects from the planned local ports to the planned remote ones while the other
 * side does the same, takes what comes in on those ports besides, and proves keys on what stands. When, how often, and
 * which connection counts is decided in `punch-tcp-machine.ts`; which ports, in `core/nat/`.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { formatEndpoint } from "../ip.ts";
import type { PunchPart, PunchPlan, PunchShot } from "../nat/punch-plan.ts";
import type { ByteStream, Credentials, SecureStream, Timer, World } from "../net/world.ts";
import { type HeldPorts, holdPorts } from "./held-ports.ts";
import type { PunchCost } from "./punch-cost.ts";
import { MAX_SEARCH_SYNS, MAX_SYNS, PUNCH_TCP_MS } from "./punch-limits.ts";
import {
  createPunchTcpMachine,
  type PunchTcpAction,
  type PunchTcpCounts,
  timeShots,
} from "./punch-tcp-machine.ts";
import type { Note } from "./race.ts";

export interface PunchTcpOptions {
  /** The caller is TLS client and chooses among several connections. */
  readonly role: "caller" | "called";
  readonly method: PunchPlan["method"];
  /** Our part of the plan. A local port of 0 is any. */
  readonly part: PunchPart;
  /** Where the other side's ports are. */
  readonly remoteIp: string;
  readonly localIp: string;
  readonly device?: string | undefined;
  /** The local ports, if they are held already; else they are held for the time of the punch where that can be. */
  readonly ports?: HeldPorts | undefined;
  readonly credentials: Credentials;
  /** Compressed key that the peer must prove. */
  readonly expectedKey: Uint8Array;
  /** About one round trip between the two, where something is known of it: it says when a SYN is taken for lost. */
  readonly rttMs?: number | undefined;
  /** As `PUNCH_TCP_MS` has it unless given. */
  readonly timeoutMs?: number | undefined;
  /** As `MAX_SYNS` and `MAX_SEARCH_SYNS` have it unless given. */
  readonly maxSyns?: number | undefined;
  /** Adds what was sent, when it is over. */
  readonly cost?: PunchCost | undefined;
  readonly signal: AbortSignal;
  readonly note: Note;
}

export interface PunchedTcp extends PunchTcpCounts {
  readonly stream: SecureStream;
  /** About one round trip, in milliseconds. */
  readonly rttMs: number;
  /** Both endpoints of the connection, for people. */
  readonly candidate: string;
}

type PunchTcpWorld = Pick<World, "time" | "randomBytes" | "connectTcp" | "listenTcp" | "secure">;

const DEFAULT_RTT_MS = 150;
/** A timeline is read by people: the first of each kind are told, then they are counted. */
const MAX_NOTES = 12;
const MAX_LISTENERS = 16;

/**
 * Resolves with the one connection that both sides take; every other one is reset, and nothing is left behind. Rejects
 * with `connect-failed`, whose text says what was sent and how it was answered and whose detail has the counts;
 * `aborted`; or `unsupported` where ports cannot be chosen.
 */
export async function punchTcp(world: PunchTcpWorld, options: PunchTcpOptions): Promise<PunchedTcp> {
  const { part, signal, localIp, device } = options;
  const refuseWhenAborted = (): void => {
    if (signal.aborted) throw new P2pdError("aborted", "opening was given up");
  };
  refuseWhenAborted();
  if (part.shots.length === 0) throw new P2pdError("bad-argument", "a punch without a single shot");
  const wanted = [...new Set(part.shots.map(({ localPort }) => localPort))].filter((port) => port !== 0);
  const held =
    options.ports ??
    (await holdPorts(world, { ip: localIp, device, ports: wanted.slice(0, MAX_LISTENERS) }).catch(
      () => undefined,
    ));
  try {
    refuseWhenAborted();
    return await punch(world, options, held);
  } finally {
    held?.onArrival(undefined);
    if (options.ports === undefined) held?.close();
  }
}

function punch(
  world: PunchTcpWorld,
  options: PunchTcpOptions,
  held: HeldPorts | undefined,
): Promise<PunchedTcp> {
  const { time } = world;
  const { role, method, part, remoteIp, localIp, device, credentials, expectedKey } = options;
  const timeoutMs = options.timeoutMs ?? PUNCH_TCP_MS[method];
  const { promise, resolve, reject } = Promise.withResolvers<PunchedTcp>();
  const began = time.now();
  const stopping = new AbortController();
  const holes = new Map<number, ByteStream>();
  const rttMs = options.rttMs ?? DEFAULT_RTT_MS;
  const shots = timeShots(role, method, part, rttMs);
  const machine = createPunchTcpMachine(
    {
      role,
      method,
      shots,
      rttMs,
      deadline: began + timeoutMs,
      maxSyns: options.maxSyns ?? (method === "search" ? MAX_SEARCH_SYNS : MAX_SYNS),
    },
    began,
  );
  const notes = new Map<string, number>();
  let nextHole = 0;
  let isOver = false;
  let lastReason = "";
  let timer: Timer | undefined;

  const note = (event: string, detail: string): void => {
    const count = (notes.get(event) ?? 0) + 1;
    notes.set(event, count);
    if (count <= MAX_NOTES)
      options.note(event, count === MAX_NOTES ? `${detail}; more of this kind are only counted` : detail);
  };

  const finish = (settle: () => void): void => {
    if (isOver) return;
    isOver = true;
    timer?.cancel();
    guard.cancel();
    options.signal.removeEventListener("abort", giveUp);
    if (options.cost !== undefined) options.cost.syns += machine.counts.syns;
    settle();
    stopping.abort();
    for (const stream of holes.values()) stream.abort();
  };
  const giveUp = (): void =>
    finish(() => reject(new P2pdError("aborted", "opening was given up", { ...machine.counts })));
  const fail = (why: string): void =>
    finish(() => {
      const text = `${why}: ${summary(machine.counts)}${lastReason === "" ? "" : `; last: ${lastReason}`}`;
      reject(new P2pdError("connect-failed", text, { ...machine.counts }));
    });
  const guard = time.after(timeoutMs, () => fail(`no connection within ${timeoutMs} ms`));

  function step(): void {
    if (isOver) return;
    timer?.cancel();
    for (const action of machine.act(time.now())) perform(action);
    const { hopeless, nextAt } = machine;
    // Who only waits for others to come in goes on.
    if (hopeless !== undefined && (held?.ports.length ?? 0) === 0) return fail(hopeless);
    if (nextAt !== undefined) timer = time.after(Math.max(0, nextAt - time.now()), step);
  }

  function perform(action: PunchTcpAction): void {
    if (action.kind === "connect") void connect(action.shot, action.forMs);
    else if (action.kind === "secure") void secure(action.hole, action.forMs);
    else {
      holes.get(action.hole)?.abort();
      holes.delete(action.hole);
    }
  }

  async function connect(i: number, forMs: number): Promise<void> {
    const { localPort, remotePort } = shots[i] as PunchShot;
    const remote = { ip: remoteIp, port: remotePort };
    const pair = `${localPort} -> ${formatEndpoint(remote)}`;
    const started = time.now();
    note("connecting", pair);
    try {
      const stream = await world.connectTcp({
        remote,
        local: { ip: localIp, port: localPort },
        ...(device === undefined ? {} : { device }),
        shared: true,
        timeoutMs: forMs,
        signal: stopping.signal,
      });
      if (isOver) return stream.abort();
      note("connected", `${pair} in ${(time.now() - started).toFixed(1)} ms`);
      open(stream, i);
    } catch (thrown) {
      if (isOver) return;
      const { code, message } = toP2pdError(thrown);
      if (code === "unsupported") return finish(() => reject(thrown));
      lastReason = message;
      const spentMs = time.now() - started;
      if (code === "timeout") note("unanswered", `${pair} in ${spentMs.toFixed(0)} ms`);
      else note("refused", `${pair} after ${spentMs.toFixed(1)} ms: ${message}`);
      machine.failed(time.now(), i, code);
    }
    step();
  }

  function open(stream: ByteStream, shot?: number): void {
    const hole = nextHole++;
    holes.set(hole, stream);
    machine.opened(time.now(), hole, shot);
  }

  async function secure(hole: number, forMs: number): Promise<void> {
    const raw = holes.get(hole) as ByteStream;
    const candidate = `${formatEndpoint(raw.local)} -> ${formatEndpoint(raw.remote)}/tcp`;
    const started = time.now();
    holes.delete(hole);
    try {
      const stream = await world.secure(raw, {
        role: role === "caller" ? "client" : "server",
        credentials,
        expectedKey,
        timeoutMs: forMs,
        signal: stopping.signal,
      });
      if (isOver) return stream.abort();
      const rttMs = time.now() - started;
      note("authenticated", `${stream.cipher}, ${candidate}; ${summary(machine.counts)}`);
      finish(() => resolve({ stream, rttMs, candidate, ...machine.counts }));
    } catch (thrown) {
      if (isOver) return;
      const { code, message } = toP2pdError(thrown);
      lastReason = message;
      note("wrong", `${candidate}: ${message}`);
      machine.unproved(time.now(), hole, code);
      step();
    }
  }

  options.signal.addEventListener("abort", giveUp, { once: true });
  held?.onArrival((stream) => {
    if (isOver || stream.remote.ip !== remoteIp) return stream.abort();
    note("arrived", `from ${formatEndpoint(stream.remote)} at ${stream.local.port}`);
    const isShot = (shot: PunchShot): boolean =>
      shot.localPort === stream.local.port && shot.remotePort === stream.remote.port;
    const shot = shots.findIndex(isShot);
    open(stream, shot < 0 ? undefined : shot);
    step();
  });
  step();
  return promise;
}

function summary({ attempts, syns, refused, unanswered }: PunchTcpCounts): string {
  return `${syns} SYNs in ${attempts} attempts, ${refused} refused, ${unanswered} unanswered`;
}
