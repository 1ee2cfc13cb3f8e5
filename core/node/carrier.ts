/**
 * Which path carries a session: the current one, one that is to follow it, or none for a while. A switch is agreed on the
 * new path, RESUME by the side that has it and RESUMED by the other, and the old one stays in use until then. What is
 * sent where after a switch is the session's business; who finds a new path, the keeper's.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import type { Path } from "../connect/race.ts";
import type { Time, Timer } from "../net/world.ts";
import type { ControlType, Hello } from "../wire/session-frame.ts";
import {
  type Credit,
  decodeResumed,
  encodeNotResumed,
  encodeResume,
  encodeResumed,
  type Resume,
  type Resumed,
  type Verdict,
} from "../wire/session-positions.ts";
import { part } from "./opening.ts";
import { SessionPath } from "./session-path.ts";

/** How long the peer may take to answer RESUME. */
const RESUME_TIMEOUT_MS = 5000;

/** The session, as its carrier sees it. */
export interface Carried {
  /** Of the current path. */
  data(bytes: Uint8Array): void;
  control(type: ControlType, payload: Uint8Array): void;
  /** The current path takes more. */
  drain(): void;
  /** What came makes no sense, or its receiver failed. */
  failed(error: P2pdError): void;
  /** What this side has, and allows. */
  credit(): Credit;
  /** The other side has said what it has. Returns where DATA begins on the next path. Throws `protocol`. */
  agree(theirs: Credit): number;
  /** Another path is the current one: DATA begins at `from` there, and the peer was told `told`. Throws `protocol`. */
  switched(from: number, told: Credit): void;
  /** There is no path: what is not acknowledged has to be sent again. */
  lost(): void;
  /** The session cannot go on. */
  over(error: P2pdError): void;
  /** The path was lost, and the peer knows the session no more. */
  forgotten(): void;
  /** A path's stream is gone; after the end the last of them matters. */
  gone(): void;
  doubted(): void;
  interrupted(why: P2pdError): void;
  restored(interruptedMs: number): void;
  moved(interruptedMs: number): void;
}

export interface CarrierOptions {
  readonly id: string;
  readonly role: "dialer" | "acceptor";
  readonly time: Time;
  readonly path: Path;
  readonly mode: Hello["mode"] | undefined;
}

/** A path whose RESUME is not answered yet. */
interface Candidate {
  readonly link: SessionPath;
  readonly epoch: number;
  /** What RESUME said. */
  readonly credit: Credit;
  readonly beganAt: number;
  readonly timer: Timer;
  readonly resolve: () => void;
  readonly reject: (error: P2pdError) => void;
}

interface Interruption {
  readonly at: number;
  readonly why: P2pdError;
  readonly timer: Timer;
  isTold: boolean;
}

export class Carrier {
  readonly #options: CarrierOptions;
  readonly #carried: Carried;
  readonly #links = new Set<SessionPath>();
  #path: Path;
  #current: SessionPath | undefined;
  #candidate: Candidate | undefined;
  #interruption: Interruption | undefined;
  /** Of the last RESUME that was accepted, and of the last that this side sent. */
  #epoch = 0;
  #tried = 0;
  #resumeForMs = 0;
  #isOver = false;

  /** Takes over the path's stream; nothing is read before `start`. */
  constructor(options: CarrierOptions, carried: Carried) {
    this.#options = options;
    this.#carried = carried;
    this.#path = options.path;
    this.#current = this.#link(options.path);
  }

  start(): void {
    this.#current?.start();
  }

  /** The path that carries the session, or that did last. */
  get path(): Path {
    return this.#path;
  }

  get current(): SessionPath | undefined {
    return this.#current;
  }

  get isInterrupted(): boolean {
    return this.#interruption !== undefined;
  }

  /** Nothing is heard by the current path, if there is one at all. */
  get #isLost(): boolean {
    return this.isInterrupted || this.#current?.silentSince !== undefined;
  }

  /** No stream is left. */
  get isGone(): boolean {
    return this.#links.size === 0;
  }

  /** From now on a lost path is waited for; 0: it is the end, as it was until now. */
  resumeFor(durationMs: number): void {
    this.#resumeForMs = durationMs;
  }

  /** See `Session.moveTo`. */
  moveTo(path: Path): Promise<void> {
    const refusal = this.#whyNotMove(path);
    if (refusal !== undefined) {
      path.stream.abort(refusal);
      return Promise.reject(refusal);
    }
    const { time, id } = this.#options;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const link = this.#link(path);
    const credit = this.#carried.credit();
    const epoch = Math.max(this.#epoch, this.#tried) + 1;
    this.#tried = epoch;
    const late = (): void => this.#fail(new P2pdError("timeout", "the peer did not answer RESUME"));
    const timer = time.after(RESUME_TIMEOUT_MS, late, { background: true });
    this.#candidate = { link, epoch, credit, beganAt: time.now(), timer, resolve, reject };
    link.write(encodeResume({ session: id, epoch, ...credit }));
    link.start();
    return promise;
  }

  /** See `Session.takeOver`. */
  takeOver(path: Path, resume: Resume): void {
    const verdict = this.#judge(path, resume);
    if (verdict !== "accepted") {
      part(path.stream, this.#options.time, encodeNotResumed(verdict));
      return;
    }
    const own = this.#candidate;
    this.#candidate = undefined;
    this.#epoch = resume.epoch;
    const link = this.#link(path);
    this.#guarded(() => {
      const from = this.#carried.agree(resume);
      const credit = this.#carried.credit();
      link.write(encodeResumed({ verdict, from, ...credit }));
      this.#switch(link, credit.received, credit);
    });
    link.start();
    if (own !== undefined) giveUp(own, new P2pdError("aborted", "the peer's own path went first"));
  }

  /** The current path is known to be lost. */
  interrupt(why: P2pdError): void {
    const link = this.#current;
    if (link === undefined || this.#isOver) return;
    link.abort(why);
    this.#lose(why);
  }

  /** The session is over: lets go of everything, the current path after what is pending and at most `lingerMs`. */
  leave(error: P2pdError | undefined, lingerMs: number): void {
    this.#isOver = true;
    this.#endInterruption();
    const own = this.#candidate;
    this.#candidate = undefined;
    if (own !== undefined) giveUp(own, error ?? new P2pdError("closed", "the session has ended"));
    for (const link of this.#links) {
      if (lingerMs > 0 && link === this.#current) link.leave(lingerMs);
      else link.abort(error);
    }
  }

  #whyNotMove(path: Path): P2pdError | undefined {
    if (this.#isOver) return new P2pdError("closed", "the session is over");
    if (this.#candidate !== undefined) return new P2pdError("aborted", "the session moves already");
    if (this.#fits(path)) return undefined;
    return new P2pdError("unsupported", `${path.candidate} carries no datagrams`);
  }

  #judge(path: Path, { epoch }: Resume): Verdict {
    if (this.#isOver) return "unknown";
    if (epoch <= this.#epoch) return "stale";
    if (this.#options.role === "dialer" && this.#candidate !== undefined) return "busy";
    return this.#fits(path) ? "accepted" : "unsuitable";
  }

  #fits({ stream }: Path): boolean {
    return this.#options.mode !== "datagrams" || "sendDatagram" in stream;
  }

  #link(path: Path): SessionPath {
    const carried = this.#carried;
    const isCurrent = (): boolean => link === this.#current;
    const link: SessionPath = new SessionPath(path, this.#options.time, {
      data(bytes) {
        if (!isCurrent()) throw new P2pdError("protocol", "DATA came where RESUMED was due");
        carried.data(bytes);
      },
      control: (type, payload) => {
        if (isCurrent()) carried.control(type, payload);
        else this.#answered(type, payload);
      },
      drain() {
        if (isCurrent()) carried.drain();
      },
      silent: (how) => {
        if (isCurrent()) this.#silent(how);
      },
      failed: (error) => {
        if (isCurrent()) carried.failed(error);
        else this.#fail(error);
      },
      ended: (error) => {
        const why = error?.message ?? "the connection to the peer ended without a goodbye";
        const lost = new P2pdError("closed", why, {}, { cause: error });
        if (isCurrent()) this.#lose(lost);
        else this.#fail(lost);
      },
      closed: () => {
        this.#links.delete(link);
        carried.gone();
      },
    });
    this.#links.add(link);
    return link;
  }

  /** A frame on the candidate's path. */
  #answered(type: ControlType, payload: Uint8Array): void {
    const candidate = this.#candidate;
    if (candidate === undefined) return;
    if (type !== "resumed")
      throw new P2pdError("protocol", `${type.toUpperCase()} came where RESUMED was due`);
    const answer = decodeResumed(payload);
    const { verdict } = answer;
    if (verdict === "accepted") this.#accepted(candidate, answer);
    else if (verdict === "unknown" && this.#isLost) this.#carried.forgotten();
    else this.#fail(new P2pdError("refused", `the peer refused the path: ${verdict}`));
  }

  #accepted({ link, epoch, credit, beganAt, timer, resolve }: Candidate, answer: Resumed): void {
    timer.cancel();
    this.#candidate = undefined;
    this.#epoch = epoch;
    link.measured(this.#options.time.now() - beganAt);
    this.#guarded(() => {
      if (this.#carried.agree(answer) !== answer.received)
        throw new P2pdError("protocol", "the peer has less than it had said to have");
      this.#switch(link, answer.from, credit);
    });
    resolve();
  }

  #switch(link: SessionPath, from: number, told: Credit): void {
    const old = this.#current;
    const interruptedMs = this.#endInterruption();
    this.#current = link;
    this.#path = link.path;
    old?.abort();
    this.#carried.switched(from, told);
    this.#carried.moved(interruptedMs);
  }

  /** The candidate came to nothing. */
  #fail(error: P2pdError): void {
    const candidate = this.#candidate;
    if (candidate === undefined) return;
    this.#candidate = undefined;
    giveUp(candidate, error);
    this.#tellInterruption();
  }

  #silent(how: "doubtful" | "dead" | "over"): void {
    // Where nothing can follow a path, its own stream is the judge of its end.
    if (this.#resumeForMs === 0) return;
    if (how === "doubtful") this.#carried.doubted();
    else if (how === "over")
      this.#carried.restored(this.#interruption === undefined ? 0 : this.#endInterruption());
    else this.#interrupt(new P2pdError("timeout", "nothing was heard of the peer any more"));
  }

  #lose(why: P2pdError): void {
    this.#current = undefined;
    this.#carried.lost();
    if (this.#resumeForMs === 0) this.#carried.over(why);
    else this.#interrupt(why);
  }

  #interrupt(why: P2pdError): void {
    if (this.#interruption !== undefined) return;
    const { time } = this.#options;
    const forMs = this.#resumeForMs;
    const end = (): void => {
      const text = `the path to the peer broke (${why.message}), and no other was found within ${forMs / 1000} s`;
      this.#carried.over(new P2pdError("closed", text, {}, { cause: why }));
    };
    this.#interruption = {
      at: this.#current?.silentSince ?? time.now(),
      why,
      timer: time.after(forMs, end, { background: true }),
      isTold: false,
    };
    this.#tellInterruption();
  }

  /** A candidate under way may make it good before anybody needs to know. */
  #tellInterruption(): void {
    const interruption = this.#interruption;
    if (interruption === undefined || interruption.isTold || this.#candidate !== undefined) return;
    interruption.isTold = true;
    this.#carried.interrupted(interruption.why);
  }

  /** How long it was, or the silence before it, in milliseconds; 0 where there was none. */
  #endInterruption(): number {
    const interruption = this.#interruption;
    const since = interruption?.at ?? this.#current?.silentSince;
    interruption?.timer.cancel();
    this.#interruption = undefined;
    return since === undefined ? 0 : this.#options.time.now() - since;
  }

  #guarded(act: () => void): void {
    try {
      act();
    } catch (thrown) {
      this.#carried.failed(toP2pdError(thrown, "protocol"));
    }
  }
}

function giveUp({ link, timer, reject }: Candidate, error: P2pdError): void {
  timer.cancel();
  link.abort(error);
  reject(error);
}
