/**
 * The first frame on a path that a peer may speak on first: HELLO begins a session, ANSWER says which request brought
 * the peer here, RESUME goes on with a session that another path has lost. Read here, apart from sessions, so that who
 * accepts can tell these apart; the path is handed on as if nothing but that frame had been read.
 */
import type { PunchCost } from "../connect/punch-cost.ts";
import type { Path } from "../connect/race.ts";
import { P2pdError, toP2pdError } from "../errors.ts";
import type { ByteStream, StreamHandlers, Time } from "../net/world.ts";
import {
  type Answer,
  type ControlType,
  decodeAnswer,
  decodeHello,
  encodeReset,
  FrameDecoder,
  type Hello,
} from "../wire/session-frame.ts";
import { decodeResume, type Resume } from "../wire/session-positions.ts";
import type { TimelineEntry } from "./node-api.ts";

/** How long a peer may take for its greeting. */
export const GREETING_TIMEOUT_MS = 10_000;
/** How long a path that is let go waits for the last frame on it to be taken. */
const PART_LINGER_MS = 1000;

export type Opening =
  | { readonly type: "hello"; readonly hello: Hello }
  | { readonly type: "answer"; readonly answer: Answer }
  | { readonly type: "resume"; readonly resume: Resume };

/** A path on which a peer speaks first. */
export interface Arrival {
  readonly path: Path;
  /** When it was accepted, or asked for, as `Time.now()` told it. */
  readonly beganAt: number;
  /** What led to it, where we had a part in that. */
  readonly timeline?: readonly TimelineEntry[];
  /** Of the punch that it came by. */
  readonly cost?: PunchCost;
}

export interface Opened<S> {
  readonly opening: Opening;
  /** The path behind the first frame; nothing of it is delivered before somebody attaches. */
  readonly stream: S;
}

/**
 * Reads the first frame of a path that nobody has attached to. Rejects with `protocol`, `timeout` (10 s by default) or
 * `closed`; the path is then closed.
 */
export function readOpening<S extends ByteStream>(
  stream: S,
  time: Time,
  timeoutMs: number = GREETING_TIMEOUT_MS,
): Promise<Opened<S>> {
  const { promise, resolve, reject } = Promise.withResolvers<Opened<S>>();
  let opening: Opening | undefined;
  /** What came after the first frame and before the next receiver. */
  let early: Uint8Array[] = [];
  let isEnded = false;
  let closed: { readonly error: P2pdError | undefined } | undefined;

  const fail = (error: P2pdError): void => {
    timer.cancel();
    reject(error);
    part(stream, time, encodeReset({ code: error.code, text: error.message }));
  };
  const timer = time.after(
    timeoutMs,
    () => fail(new P2pdError("timeout", `the peer did not greet within ${timeoutMs} ms`)),
    { background: true },
  );
  const decoder = new FrameDecoder({
    control(type, payload) {
      opening = decodeOpening(type, payload);
      decoder.stop();
    },
    data() {
      throw new P2pdError("protocol", "DATA came before the greeting");
    },
  });
  stream.attach({
    data(bytes) {
      if (opening !== undefined) {
        early.push(bytes);
        return;
      }
      try {
        const rest = decoder.push(bytes);
        if (rest.length > 0) early.push(rest);
      } catch (thrown) {
        return fail(toP2pdError(thrown, "protocol"));
      }
      if (opening === undefined) return;
      timer.cancel();
      stream.pause();
      resolve({ opening, stream: unread() });
    },
    drain: () => undefined,
    end() {
      if (opening === undefined) fail(new P2pdError("closed", "the peer left before its greeting"));
      else isEnded = true;
    },
    close(error) {
      closed = { error };
      if (opening === undefined) fail(new P2pdError("closed", error?.message ?? "the peer left"));
    },
  });
  return promise;

  function unread(): S {
    const attach = (handlers: StreamHandlers): void => {
      stream.attach(handlers);
      const waiting = early;
      early = [];
      for (const bytes of waiting) handlers.data(bytes);
      if (isEnded) handlers.end();
      const { error } = closed ?? {};
      if (closed !== undefined) queueMicrotask(() => handlers.close(error));
      else stream.resume();
    };
    return Object.assign(Object.create(stream) as S, { attach });
  }
}

/** Sends a last frame on a path that nobody needs any more and lets it go. */
export function part(stream: ByteStream, time: Time, frame?: Uint8Array, lingerMs = PART_LINGER_MS): void {
  const linger = time.after(lingerMs, () => stream.abort(), { background: true });
  stream.attach({
    data: () => undefined,
    drain: () => undefined,
    end: () => undefined,
    close: () => linger.cancel(),
  });
  stream.resume();
  if (frame !== undefined) stream.write(frame);
  stream.end();
}

function decodeOpening(type: ControlType, payload: Uint8Array): Opening {
  if (type === "hello") return { type, hello: decodeHello(payload) };
  if (type === "answer") return { type, answer: decodeAnswer(payload) };
  if (type === "resume") return { type, resume: decodeResume(payload) };
  throw new P2pdError("protocol", `${type.toUpperCase()} came where a greeting was due`);
}
