/** Two ends of a session over frail paths, what each receives, and keepers that write down what they are told. */
import type { Path } from "../../../core/connect/race.ts";
import type { P2pdError } from "../../../core/errors.ts";
import { readOpening } from "../../../core/node/opening.ts";
import { Session, type SessionKeeper } from "../../../core/node/session.ts";
import { EventTime, settle } from "./event-time.ts";
import { type FrailOptions, type FrailPath, frailPath } from "./frail-path.ts";

export const SESSION_ID = "AAECAwQFBgcICQoLDA0ODw";

export interface Side {
  readonly session: Session;
  readonly received: Received;
  /** What the keeper was told. */
  readonly told: string[];
}

export interface Received {
  /** Everything in order: messages as text (long ones as their length), `end`, `drain`, `close`. */
  readonly log: string[];
  readonly octets: () => Uint8Array;
  error: P2pdError | undefined;
}

export interface Pair {
  readonly time: EventTime;
  readonly dialer: Side;
  readonly acceptor: Side;
  readonly path: FrailPath;
  /** A new path between the two; `by` says which side begins on it. Resolves as its `moveTo` does. */
  readonly move: (
    by: "dialer" | "acceptor",
    options?: FrailOptions,
  ) => { readonly path: FrailPath; readonly done: Promise<void> };
}

export interface PairOptions extends FrailOptions {
  /** 0: nobody keeps the session. 60,000 by default. */
  readonly resumeForMs?: number;
}

/** Both have greeted, and are attached to. */
export async function sessionPair(options: PairOptions = {}): Promise<Pair> {
  const time = new EventTime();
  const { resumeForMs = 60_000, delayMs = 10 } = options;
  const meetMs = 10 * delayMs;
  const path = frailPath(time, options);
  const near = new Session({ role: "dialer", time, id: SESSION_ID, path: path.ends[0] });
  near.greet();
  const opened = readOpening(path.ends[1].stream, time);
  await time.run(meetMs);
  const { opening, stream } = await opened;
  if (opening.type !== "hello") throw new Error(`${opening.type} came first`);
  const far = new Session({
    role: "acceptor",
    time,
    id: opening.hello.session,
    path: { ...path.ends[1], stream },
  });
  far.welcome();
  await time.run(meetMs);
  const dialer = side(near, resumeForMs);
  const acceptor = side(far, resumeForMs);
  await settle();
  return {
    time,
    dialer,
    acceptor,
    path,
    move(by, other) {
      const next = frailPath(time, { ...options, ...other });
      const [own, theirs] = by === "dialer" ? [dialer, acceptor] : [acceptor, dialer];
      void answer(time, theirs.session, next.ends[1]);
      return { path: next, done: own.session.moveTo(next.ends[0]) };
    },
  };
}

/** As a node does with a path on which a peer speaks first. */
async function answer(time: EventTime, session: Session, path: Path): Promise<void> {
  const opened = await readOpening(path.stream, time).catch(() => undefined);
  if (opened?.opening.type === "resume")
    session.takeOver({ ...path, stream: opened.stream }, opened.opening.resume);
}

function side(session: Session, resumeForMs: number): Side {
  const told: string[] = [];
  const keeper: SessionKeeper = {
    doubted: () => told.push("doubted"),
    interrupted: (_, why) => told.push(`interrupted: ${why.message}`),
    restored: (_, ms) => told.push(`restored after ${ms}`),
    moved: (_, ms) => told.push(`moved after ${ms}`),
    over: () => told.push("over"),
  };
  if (resumeForMs > 0) session.keep(keeper, resumeForMs);
  return { session, received: receive(session), told };
}

export function receive(session: Session, onMessage = (): void => undefined): Received {
  const pieces: Uint8Array[] = [];
  const received: Received = {
    log: [],
    octets: () => new Uint8Array(Buffer.concat(pieces)),
    error: undefined,
  };
  session.attach({
    message(bytes) {
      pieces.push(bytes.slice());
      received.log.push(bytes.length > 1000 ? String(bytes.length) : new TextDecoder().decode(bytes));
      onMessage();
    },
    drain: () => received.log.push("drain"),
    end: () => received.log.push("end"),
    close(error) {
      received.log.push("close");
      received.error = error;
    },
  });
  return received;
}

export function text(message: string): Uint8Array {
  return new TextEncoder().encode(message);
}
