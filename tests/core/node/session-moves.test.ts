/** Sessions whose paths break and are exchanged: what the two ends notice, agree on and refuse. */
import { describe, expect, test } from "bun:test";
import { P2pdError } from "../../../core/errors.ts";
import { readOpening } from "../../../core/node/opening.ts";
import { Session } from "../../../core/node/session.ts";
import { FRAME_HEADER_LENGTH } from "../../../core/wire/session-frame.ts";
import {
  decodeResumed,
  encodeNotResumed,
  encodeResume,
  INITIAL_WINDOW,
  type Resume,
} from "../../../core/wire/session-positions.ts";
import { settle } from "./event-time.ts";
import { frailPath } from "./frail-path.ts";
import { type Pair, receive, SESSION_ID, sessionPair, text } from "./session-pair.ts";

test("a session moves to another path with nothing interrupted, and drops the old one", async () => {
  const { time, dialer, acceptor, path, move } = await sessionPair();
  dialer.session.send(text("one"));
  await time.run(5);
  const { path: next, done } = move("dialer");
  dialer.session.send(text("two"));
  acceptor.session.send(text("back"));
  await time.run(100);
  await done;
  dialer.session.send(text("three"));
  await time.run(100);
  expect(acceptor.received.log).toEqual(["one", "two", "three"]);
  expect(dialer.received.log).toEqual(["back"]);
  expect([dialer.told, acceptor.told]).toEqual([["moved after 0"], ["moved after 0"]]);
  expect(dialer.session.path).toBe(next.ends[0]);
  expect(dialer.session.rttMs).toBe(20);
  const before = path.written;
  dialer.session.send(text("x"));
  expect(path.written).toEqual(before);
});

test("what was sent and lost with a path comes on the next one, by whichever side begins it", async () => {
  for (const by of ["dialer", "acceptor"] as const) {
    const { time, dialer, acceptor, path, move } = await sessionPair();
    dialer.session.send(text("lost"));
    acceptor.session.send(text("lost too"));
    path.cut();
    await time.run(2000);
    expect([dialer.session.isInterrupted, acceptor.session.isInterrupted]).toEqual([true, true]);
    dialer.session.send(text("meanwhile"));
    const { done } = move(by);
    await time.run(100);
    await done;
    expect(acceptor.received.log).toEqual(["lost", "meanwhile"]);
    expect(dialer.received.log).toEqual(["lost too"]);
    expect(dialer.told).toEqual([
      "interrupted: the path was cut",
      `moved after ${by === "dialer" ? 2020 : 2010}`,
    ]);
  }
});

test("a long message that is cut in its middle goes on at the octet that is missing", async () => {
  const { time, dialer, acceptor, path, move } = await sessionPair({ pieceOctets: 10_000 });
  const long = Uint8Array.from({ length: 200_000 }, (_, i) => i % 251);
  const { written } = path;
  path.cut(123_456);
  dialer.session.send(long);
  await time.run(50);
  expect(dialer.session.isInterrupted).toBe(true);
  const before = acceptor.received.octets().length;
  expect(before).toBe(123_456 - FRAME_HEADER_LENGTH);
  const { path: next } = move("dialer");
  await time.run(200);
  expect(Buffer.compare(acceptor.received.octets(), long)).toBe(0);
  expect(next.written[0]).toBeLessThan(200_000 - before + 100);
  expect(path.written[0]).toBeGreaterThan(written[0]);
});

test("a short message is never cut, however often it is sent again", async () => {
  const { time, dialer, acceptor, path, move } = await sessionPair({ pieceOctets: 7 });
  path.cut(40);
  dialer.session.send(text("a message of more than forty octets altogether"));
  await time.run(50);
  expect(acceptor.received.log).toEqual([]);
  const { path: next } = move("dialer");
  next.cut(200);
  dialer.session.send(text("x".repeat(300)));
  await time.run(100);
  move("acceptor");
  await time.run(100);
  expect(acceptor.received.log).toEqual(["a message of more than forty octets altogether", "x".repeat(300)]);
});

test("while there is no path a session takes what fits its bound, then asks to wait, and drains afterwards", async () => {
  const { time, dialer, path, move } = await sessionPair();
  path.cut();
  await settle();
  expect(dialer.session.send(new Uint8Array(60_000))).toBe(true);
  expect(dialer.session.send(new Uint8Array(60_000))).toBe(false);
  expect(dialer.session.pendingBytes).toBe(120_000);
  move("dialer");
  await time.run(200);
  expect(dialer.received.log).toEqual(["drain"]);
  expect(dialer.session.pendingBytes).toBe(0);
});

test("a path that falls silent while an answer is owed is noticed within 5 s; idle, within 20 s", async () => {
  for (const [isIdle, limitMs] of [
    [false, 5000],
    [true, 20_000],
  ] as const) {
    const { time, dialer, path } = await sessionPair();
    await time.run(3000);
    path.silence();
    if (!isIdle) dialer.session.send(text("anybody?"));
    await time.run(limitMs);
    expect(dialer.told).toEqual(["doubted", "interrupted: nothing was heard of the peer any more"]);
  }
});

test("a silent path that is heard again goes on where it was", async () => {
  const { time, dialer, acceptor, path } = await sessionPair();
  path.silence();
  dialer.session.send(text("one"));
  await time.run(8000);
  expect(dialer.session.isInterrupted).toBe(true);
  dialer.session.send(text("two"));
  path.heal();
  await time.run(1000);
  expect(dialer.told[2]).toMatch(/^restored after [0-9.]+$/);
  expect(acceptor.received.log).toEqual(["one", "two"]);
  expect(dialer.session.isInterrupted).toBe(false);
});

test("a path that is only doubted is replaced before anything is lost, and an answer that is late ends the doubt", async () => {
  const { time, dialer, path, move } = await sessionPair();
  path.silence();
  dialer.session.send(text("one"));
  await time.run(1100);
  expect(dialer.told).toEqual(["doubted"]);
  path.heal();
  await time.run(500);
  expect(dialer.told).toEqual(["doubted", "restored after 0"]);
  path.silence();
  dialer.session.send(text("two"));
  await time.run(1100);
  move("dialer");
  await time.run(100);
  expect(dialer.told[2]).toBe("doubted");
  expect(dialer.told[3]).toMatch(/^moved after 1[0-9]{3}$/);
});

test("a probe finds out within a second and a half", async () => {
  const { time, dialer, path } = await sessionPair();
  dialer.session.probe();
  await time.run(1499);
  expect(dialer.told).toEqual([]);
  path.silence();
  dialer.session.probe();
  await time.run(1501);
  expect(dialer.session.isInterrupted).toBe(true);
});

test("an idle session costs a PING and a PONG each 15 s, by one of the two", async () => {
  const { time, path } = await sessionPair();
  const before = path.written[0] + path.written[1];
  await time.run(150_000);
  const spent = path.written[0] + path.written[1] - before;
  expect(spent).toBeGreaterThanOrEqual(9 * 2 * FRAME_HEADER_LENGTH);
  expect(spent).toBeLessThanOrEqual(20 * 2 * FRAME_HEADER_LENGTH);
});

test("a reader that takes nothing does not make its path look dead", async () => {
  const { time, dialer, acceptor } = await sessionPair();
  acceptor.session.pause();
  for (let i = 0; i < 100; i++) {
    dialer.session.send(new Uint8Array(10_000));
    await time.run(1);
  }
  expect(dialer.session.pendingBytes).toBe(1_000_000 - INITIAL_WINDOW + (INITIAL_WINDOW % 10_000));
  await time.run(60_000);
  expect([dialer.told, acceptor.told]).toEqual([[], []]);
  expect(acceptor.received.log).toEqual([]);
  acceptor.session.resume();
  await time.run(1000);
  expect(acceptor.received.octets().length).toBe(1_000_000);
});

test("nobody finds another path: the session ends after its time, and says why", async () => {
  const { time, dialer, acceptor, path } = await sessionPair({ resumeForMs: 10_000 });
  path.cut();
  await time.run(9999);
  expect(dialer.received.log).toEqual([]);
  await time.run(2);
  expect(dialer.received.error).toMatchObject({
    code: "closed",
    message: "the path to the peer broke (the path was cut), and no other was found within 10 s",
  });
  expect(acceptor.received.log).toEqual(["close"]);
  expect(dialer.told).toEqual(["interrupted: the path was cut", "over"]);
  await Promise.all([dialer.session.closed, acceptor.session.closed]);
  await time.run(1000);
  expect(time.pending).toBe(0);
});

test("without a keeper the end of the path is that of the session", async () => {
  const { time, dialer, path } = await sessionPair({ resumeForMs: 0 });
  path.cut();
  await time.run(10);
  expect(dialer.received.error).toMatchObject({ code: "closed", message: "the path was cut" });
});

test("both ends in order across a break: FIN and its acknowledgement are made good too", async () => {
  const { time, dialer, acceptor, path, move } = await sessionPair();
  path.silence();
  dialer.session.send(text("last"));
  dialer.session.end();
  acceptor.session.end();
  await time.run(5000);
  move("acceptor");
  await time.run(1000);
  expect(acceptor.received.log).toEqual(["last", "end", "close"]);
  expect(dialer.received.log).toEqual(["end", "close"]);
  expect([dialer.received.error, acceptor.received.error]).toEqual([undefined, undefined]);
  await Promise.all([dialer.session.closed, acceptor.session.closed]);
  await time.run(10_000);
  expect(time.pending).toBe(0);
});

describe("a peer that knows the session no more", () => {
  test("has been restarted, if it had not ended: an error", async () => {
    const pair = await sessionPair();
    pair.path.cut();
    await moveToStranger(pair);
    expect(pair.dialer.received.error).toMatchObject({
      code: "closed",
      message: expect.stringContaining("it was restarted"),
    });
  });

  test("has ended in order, if both had said so and only its last word was lost", async () => {
    const pair = await sessionPair();
    const { time, dialer, acceptor, path } = pair;
    acceptor.session.end();
    await time.run(100);
    path.silence(FRAME_HEADER_LENGTH);
    dialer.session.end();
    await time.run(5000);
    expect([acceptor.session.isOver, dialer.session.isInterrupted]).toEqual([true, true]);
    await moveToStranger(pair);
    expect(dialer.received.log).toEqual(["end", "close"]);
    expect(dialer.received.error).toBeUndefined();
  });
});

describe("RESUME is refused", () => {
  test("as stale when it is older than the path that is in use", async () => {
    const { time, acceptor, move } = await sessionPair();
    await Promise.all([move("dialer").done, time.run(100)]);
    expect(await verdictOn(acceptor.session, time, { epoch: 1 })).toBe("stale");
    expect(acceptor.session.isOver).toBe(false);
  });

  test("as busy by a dialer whose own is under way", async () => {
    const { time, dialer } = await sessionPair();
    const own = frailPath(time);
    const moving = dialer.session.moveTo(own.ends[0]).catch((error: unknown) => error);
    expect(await verdictOn(dialer.session, time, { epoch: 1 })).toBe("busy");
    await time.run(5000);
    expect(await moving).toMatchObject({ code: "timeout" });
  });

  test("as unknown by a session that is over", async () => {
    const { time, dialer } = await sessionPair();
    dialer.session.abort();
    expect(await verdictOn(dialer.session, time, { epoch: 1 })).toBe("unknown");
  });

  test("with the end of the session when it claims octets that were never sent", async () => {
    const { time, dialer } = await sessionPair();
    await verdictOn(dialer.session, time, { epoch: 1, received: 5 });
    expect(dialer.session.isOver).toBe(true);
    await time.run(2000);
    expect(dialer.received.error?.code).toBe("protocol");
  });
});

test("both begin at once: the dialer's path is taken, the acceptor's given up", async () => {
  const { time, dialer, acceptor, path, move } = await sessionPair();
  path.cut();
  dialer.session.send(text("there"));
  acceptor.session.send(text("back"));
  const [mine, theirs] = [move("dialer"), move("acceptor")];
  const given = theirs.done.catch((error: unknown) => error);
  await time.run(200);
  await mine.done;
  expect((await given) as P2pdError).toMatchObject({ name: "P2pdError" });
  expect(dialer.session.path).toBe(mine.path.ends[0]);
  expect(acceptor.received.log).toEqual(["there"]);
  expect(dialer.received.log).toEqual(["back"]);
});

test("a new path that fails before the peer has agreed leaves the old one in use", async () => {
  const { time, dialer, acceptor, move } = await sessionPair();
  const { path: next, done } = move("dialer");
  const failed = done.catch((error: unknown) => error);
  next.cut();
  await time.run(10);
  expect(await failed).toMatchObject({ code: "closed" });
  dialer.session.send(text("still here"));
  await time.run(100);
  expect(acceptor.received.log).toEqual(["still here"]);
  expect(dialer.told).toEqual([]);
});

test("a session that moves already is not moved elsewhere, and one that is over not at all", async () => {
  const { time, dialer, move } = await sessionPair();
  const first = move("dialer");
  expect(await dialer.session.moveTo(frailPath(time).ends[0]).catch((error: unknown) => error)).toMatchObject(
    { code: "aborted" },
  );
  await time.run(100);
  await first.done;
  dialer.session.abort();
  expect(await dialer.session.moveTo(frailPath(time).ends[0]).catch((error: unknown) => error)).toMatchObject(
    { code: "closed" },
  );
});

test("an abort while a path is sought reaches the keeper, and leaves nothing behind", async () => {
  const { time, dialer, path } = await sessionPair();
  path.cut();
  const moving = dialer.session.moveTo(frailPath(time).ends[0]).catch((error: unknown) => error);
  dialer.session.abort(new P2pdError("aborted", "enough"));
  await settle();
  expect(await moving).toMatchObject({ code: "aborted" });
  expect(dialer.told.at(-1)).toBe("over");
  expect(dialer.received.error?.message).toBe("enough");
});

test("a session of datagrams takes no path without them", async () => {
  const { time } = await sessionPair();
  const [path] = frailPath(time).ends;
  const session = new Session({ role: "acceptor", time, id: SESSION_ID, path, mode: "datagrams" });
  receive(session);
  expect(await session.moveTo(frailPath(time).ends[0]).catch((error: unknown) => error)).toMatchObject({
    code: "unsupported",
  });
  expect(await verdictOn(session, time, { epoch: 1 })).toBe("unsuitable");
});

test("the cost of acknowledgements is below one percent of what is carried", async () => {
  const { time, dialer, acceptor, path } = await sessionPair({ capacity: 1 << 20, pieceOctets: 65_536 });
  const octets = 32 << 20;
  const before = path.written;
  for (let sent = 0; sent < octets; sent += 65_536) {
    dialer.session.send(new Uint8Array(65_536));
    await time.run(1);
  }
  await time.run(2000);
  expect(acceptor.received.octets().length).toBe(octets);
  const there = path.written[0] - before[0] - octets;
  const back = path.written[1] - before[1];
  console.log(`session cost: ${there} octets of framing and ${back} of acknowledgements for ${octets}`);
  expect((there + back) / octets).toBeLessThan(0.01);
  expect(dialer.session.pendingBytes).toBe(0);
});

/** A hostile or late RESUME, and the answer to it. */
async function verdictOn(session: Session, time: Pair["time"], resume: Partial<Resume>): Promise<string> {
  const { ends } = frailPath(time);
  let verdict = "none";
  ends[0].stream.attach({
    data: (bytes) => {
      verdict = decodeResumed(bytes.subarray(FRAME_HEADER_LENGTH)).verdict;
    },
    drain: () => undefined,
    end: () => undefined,
    close: () => undefined,
  });
  ends[0].stream.write(encodeResume({ session: SESSION_ID, epoch: 1, received: 0, limit: 0, ...resume }));
  const opened = readOpening(ends[1].stream, time);
  await time.run(20);
  const { opening, stream } = await opened;
  if (opening.type === "resume") session.takeOver({ ...ends[1], stream }, opening.resume);
  await time.run(20);
  return verdict;
}

/** Moves the dialer to a path at whose other end nobody knows the session. */
async function moveToStranger({ time, dialer }: Pair): Promise<void> {
  const path = frailPath(time);
  const moving = dialer.session.moveTo(path.ends[0]).catch((error: unknown) => error);
  const opened = readOpening(path.ends[1].stream, time);
  await time.run(20);
  (await opened).stream.write(encodeNotResumed("unknown"));
  await time.run(20);
  await moving;
}
