import { expect, test } from "bun:test";
import {
  type Attempt,
  type AttemptContext,
  type Path,
  race,
  type Reserve,
  type Strategy,
  type Won,
} from "../../../core/connect/race.ts";
import { P2pdError } from "../../../core/errors.ts";
import type { SecureStream } from "../../../core/net/world.ts";
import { HandTime, memoryStreams, settle } from "../node/memory-stream.ts";
import { failure } from "../node/node-steps.ts";

test("attempts of a lane start one after another, lanes at once", async () => {
  const { time, begun, start } = arena();
  void failure(
    start([
      [attempt("a", 100), attempt("b", 100)],
      [attempt("c", 0), attempt("d", 50)],
    ]),
  );
  await settle();
  expect(begun).toEqual(["a", "c", "d"]);
  time.advance(100);
  await settle();
  expect(begun).toEqual(["a", "c", "d", "b"]);
});

test("the first path wins; the others are stopped and closed, and no timer stays", async () => {
  const { time, begun, start } = arena();
  const [slow, fast] = [attempt("slow", 0), attempt("fast", 100)];
  const won = start([[slow, fast, attempt("later", 100)]]);
  await settle();
  fast.succeed();
  expect((await won).path.candidate).toBe("fast");
  expect(slow.context?.signal.aborted).toBe(true);
  const late = slow.succeed();
  await settle();
  expect(late.isClosed).toBe(true);
  time.advance(1000);
  expect(time.pending).toBe(0);
  expect(begun).toEqual(["slow", "fast"]);
});

test("the next one starts at once when the one before it fails", async () => {
  const { begun, start } = arena();
  const a = attempt("a", 100);
  void failure(start([[a, attempt("b", 100)]]));
  await settle();
  a.fail("refused");
  await settle();
  expect(begun).toEqual(["a", "b"]);
});

test("when all have failed, each is named with its reason", async () => {
  const { start, notes } = arena();
  const [a, b] = [attempt("a", 0), attempt("b", 0)];
  const lost = failure(start([[a, b]]));
  await settle();
  a.fail("no answer");
  b.fail("another key");
  expect((await lost).detail["attempts"]).toEqual([
    { strategy: "direct", candidate: "a", reason: "no answer" },
    { strategy: "direct", candidate: "b", reason: "another key" },
  ]);
  expect(notes).toEqual(["a failed no answer", "b failed another key"]);
  expect((await failure(arena().start([]))).code).toBe("connect-failed");
});

test("it waits for lanes that are still being found out, and does not mind when none come", async () => {
  const { begun, start } = arena();
  const a = attempt("a", 0);
  const found = Promise.withResolvers<readonly (readonly Attempt[])[]>();
  const none = Promise.reject<readonly (readonly Attempt[])[]>(new Error("nothing found"));
  const won = start([[a]], { more: [found.promise, none] });
  await settle();
  a.fail("refused");
  await settle();
  const late = attempt("late", 0);
  found.resolve([[late]]);
  await settle();
  expect(begun).toEqual(["a", "late"]);
  late.succeed();
  expect((await won).path.candidate).toBe("late");
});

test("an attempt that never ends does not outlast the deadline", async () => {
  const { time, start } = arena();
  const lost = failure(start([[attempt("silent", 0)]]));
  await settle();
  time.advance(1100);
  expect((await lost).detail["attempts"]).toEqual([
    { strategy: "direct", candidate: "silent", reason: "no result within 1000 ms" },
  ]);
});

test("given up, it stops everything and says so", async () => {
  const { time, start } = arena();
  const control = new AbortController();
  const a = attempt("a", 100);
  const lost = failure(start([[a, attempt("b", 0)]], { signal: control.signal }));
  await settle();
  control.abort();
  expect((await lost).code).toBe("aborted");
  expect(a.context?.signal.aborted).toBe(true);
  time.advance(2000);
  expect(time.pending).toBe(0);
  expect((await failure(start([[attempt("c", 0)]], { signal: control.signal }))).code).toBe("aborted");
});

test("a reserve begins when its time has come, and not before", async () => {
  const { time, begun, notes, start } = arena();
  const reserve = { lane: [attempt("relay", 0, "relay")], afterMs: 200, soon: never };
  void failure(start([[attempt("a", 0)]], { reserve }));
  await settle();
  time.advance(199);
  await settle();
  expect(begun).toEqual(["a"]);
  time.advance(1);
  await settle();
  expect(begun).toEqual(["a", "relay"]);
  expect(notes).toEqual(["begins no path within 200 ms"]);
});

test("a reserve begins when the others have failed, when they are doubted, or at once where its time is 0", async () => {
  const failed = arena();
  const a = attempt("a", 0);
  const lane = (): readonly TestAttempt[] => [attempt("relay", 0, "relay")];
  void failure(failed.start([[a]], { reserve: { lane: lane(), afterMs: 200, soon: never } }));
  await settle();
  a.fail("refused");
  await settle();
  expect(failed.begun).toEqual(["a", "relay"]);

  const doubted = arena();
  const soon = Promise.resolve("both random");
  void failure(doubted.start([[attempt("a", 0)]], { reserve: { lane: lane(), afterMs: 200, soon } }));
  await settle();
  expect(doubted.begun).toEqual(["a", "relay"]);
  expect(doubted.notes).toEqual(["begins both random"]);

  const first = arena();
  void failure(first.start([[attempt("a", 0)]], { reserve: { lane: lane(), afterMs: 0, soon: never } }));
  expect(first.begun).toEqual(["a", "relay"]);

  const alone = arena();
  void failure(alone.start([], { reserve: { lane: lane(), afterMs: 200, soon: never } }));
  expect(alone.begun).toEqual(["relay"]);
});

test("behind a relayed path the others go on: the first of them is told later, other relays are stopped", async () => {
  const { time, start } = arena();
  const [direct, relayed, other] = [
    attempt("direct", 0),
    attempt("relay", 0, "relay"),
    attempt("other", 0, "relay"),
  ];
  const won = start([[direct]], { reserve: { lane: [relayed, other], afterMs: 0, soon: never } });
  await settle();
  relayed.succeed();
  const { path, later } = await won;
  expect(path.candidate).toBe("relay");
  expect(other.context?.signal.aborted).toBe(true);
  expect(direct.context?.signal.aborted).toBe(false);
  const late = other.succeed();
  await settle();
  expect(late.isClosed).toBe(true);
  direct.succeed();
  expect((await later)?.candidate).toBe("direct");
  time.advance(2000);
  expect(time.pending).toBe(0);
});

test("behind a relayed path that nothing follows, it says so: all failed, given up, or too late", async () => {
  for (const end of ["fail", "abort", "time"] as const) {
    const { time, start } = arena();
    const control = new AbortController();
    const [direct, relayed] = [attempt("direct", 0), attempt("relay", 0, "relay")];
    const reserve = { lane: [relayed], afterMs: 0, soon: never };
    const won = start([[direct]], { reserve, signal: control.signal });
    await settle();
    relayed.succeed();
    const { later } = await won;
    const ended = failure(later as Promise<Path>);
    if (end === "fail") direct.fail("refused");
    else if (end === "abort") control.abort();
    else time.advance(1100);
    expect((await ended).code).toBe(end === "abort" ? "aborted" : "connect-failed");
    expect(time.pending).toBe(0);
  }
});

const never = new Promise<string>(() => undefined);

interface TestAttempt extends Attempt {
  context?: AttemptContext;
  succeed(): { readonly isClosed: boolean };
  fail(why: string): void;
  onBegin?: () => void;
}

function attempt(candidate: string, leadMs: number, strategy: Strategy = "direct"): TestAttempt {
  const outcome = Promise.withResolvers<Path>();
  const self: TestAttempt = {
    strategy,
    candidate,
    leadMs,
    run(context) {
      self.context = context;
      self.onBegin?.();
      return outcome.promise;
    },
    succeed() {
      const [stream] = memoryStreams();
      const secure: SecureStream = Object.assign(stream, { peerKey: new Uint8Array(33), cipher: "" });
      outcome.resolve({ strategy, transport: "tcp", candidate, stream: secure, rttMs: 1 });
      return stream;
    },
    fail: (why) => outcome.reject(new P2pdError("refused", why)),
  };
  return self;
}

function arena() {
  const time = new HandTime();
  const begun: string[] = [];
  const notes: string[] = [];
  const watch = (lanes: readonly (readonly Attempt[])[]): void => {
    for (const one of lanes.flat() as TestAttempt[]) one.onBegin = () => begun.push(one.candidate);
  };
  const start = (
    lanes: readonly (readonly TestAttempt[])[],
    options: {
      more?: readonly Promise<readonly (readonly Attempt[])[]>[];
      reserve?: Reserve;
      signal?: AbortSignal;
    } = {},
  ): Promise<Won> => {
    watch(lanes);
    watch([options.reserve?.lane ?? []]);
    for (const coming of options.more ?? []) coming.then(watch, () => undefined);
    return race(time, {
      lanes,
      ...options,
      timeoutMs: 1000,
      note: (_strategy, candidate, event, detail) => notes.push(`${candidate} ${event} ${detail}`.trim()),
    });
  };
  return { time, begun, notes, start };
}
