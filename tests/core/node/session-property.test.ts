/**
 * Sessions under random misfortune, in virtual time: both sides write and pause as they like while paths are cut or fall
 * silent at random octets and are replaced by either side or both at once, and hostile RESUMEs come in between. Each
 * octet arrives once and in order, FIN is told, and neither side holds more than its bounds.
 */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { readOpening } from "../../../core/node/opening.ts";
import type { Session } from "../../../core/node/session.ts";
import { WHOLE_DATA_LENGTH } from "../../../core/wire/session-frame.ts";
import { encodeResume } from "../../../core/wire/session-positions.ts";
import type { EventTime } from "./event-time.ts";
import { type FrailPath, frailPath } from "./frail-path.ts";
import { SESSION_ID, sessionPair, type Side } from "./session-pair.ts";

type Who = "dialer" | "acceptor";
type Step =
  | { readonly do: "write"; readonly who: Who; readonly length: number }
  | { readonly do: "pause" | "resume" | "end" | "probe"; readonly who: Who }
  | { readonly do: "cut" | "silence" | "heal"; readonly after: number }
  | {
      readonly do: "move";
      readonly who: Who | "both";
      readonly delayMs: number;
      readonly dies: number | null;
    }
  | { readonly do: "intrude"; readonly who: Who; readonly received: number }
  | { readonly do: "wait"; readonly ms: number };

const who = fc.constantFrom<Who>("dialer", "acceptor");
const octets = fc.oneof(fc.nat(60), fc.nat(20_000), fc.nat(500_000));
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("write" as const),
      who,
      length: fc.oneof(
        fc.integer({ min: 1, max: 40 }),
        fc.constantFrom(WHOLE_DATA_LENGTH, WHOLE_DATA_LENGTH + 1),
        fc.integer({ min: 1, max: 400_000 }),
      ),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("pause" as const, "resume" as const), who }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("end" as const, "probe" as const), who }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constantFrom("cut" as const, "silence" as const, "heal" as const),
      after: octets,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("move" as const),
      who: fc.oneof(who, fc.constant("both" as const)),
      delayMs: fc.integer({ min: 1, max: 300 }),
      dies: fc.oneof(fc.constant(null), octets),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant("intrude" as const), who, received: fc.nat(1_000_000) }),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.nat(3000) }) },
);

/** One side, what it has sent and what of the other's has come. */
interface Talker {
  readonly side: Side;
  sent: number;
  received: number;
  isWriting: boolean;
  hasEnded: boolean;
  /** Lengths of short messages that were sent, in order; each must come as it is. */
  readonly shorts: number[];
}

test("every octet arrives once and in order, and both ends are told, whatever becomes of the paths", async () => {
  let moves = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 8, maxLength: 60, size: "max" }),
      fc.constantFrom(333, 65_536),
      fc.integer({ min: 1, max: 150 }),
      async (steps, pieceOctets, delayMs) => {
        const pair = await sessionPair({ pieceOctets, delayMs, resumeForMs: 3_600_000 });
        const { time } = pair;
        const talkers = { dialer: talker(pair.dialer), acceptor: talker(pair.acceptor) };
        listen(talkers.dialer, talkers.acceptor);
        listen(talkers.acceptor, talkers.dialer);
        const paths: FrailPath[] = [pair.path];
        for (const one of steps) {
          await act(one);
          checkBounds(talkers);
        }
        for (const each of Object.values(talkers)) {
          each.side.session.resume();
          if (!each.hasEnded) each.side.session.end();
          each.hasEnded = true;
        }
        // The network is good from now on; a keeper would try from time to time.
        for (let tries = 0; tries < 40 && !isDone(talkers); tries++) {
          for (const by of ["dialer", "acceptor"] as const)
            if (talkers[by].side.session.isInterrupted) begin(by, delayMs);
          await time.run(6000);
        }
        for (const each of Object.values(talkers)) {
          expect(each.side.received.error).toBeUndefined();
          expect(each.side.received.log.slice(-2)).toEqual(["end", "close"]);
        }
        expect(talkers.dialer.received).toBe(talkers.acceptor.sent);
        expect(talkers.acceptor.received).toBe(talkers.dialer.sent);
        await Promise.all([pair.dialer.session.closed, pair.acceptor.session.closed]);
        await time.run(20_000);
        expect(time.pending).toBe(0);

        function begin(by: Who, pathDelayMs: number): FrailPath {
          const { path, done } = pair.move(by, { delayMs: pathDelayMs });
          done.then(
            () => moves++,
            () => undefined,
          );
          paths.push(path);
          return path;
        }

        async function act(one: Step): Promise<void> {
          if (one.do === "wait") await time.run(one.ms);
          else if (one.do === "write") write(talkers[one.who], one.length);
          else if (one.do === "pause") talkers[one.who].side.session.pause();
          else if (one.do === "resume") talkers[one.who].side.session.resume();
          else if (one.do === "probe") talkers[one.who].side.session.probe();
          else if (one.do === "end") {
            talkers[one.who].side.session.end();
            talkers[one.who].hasEnded = true;
          } else if (one.do === "move") {
            const sides: readonly Who[] = one.who === "both" ? ["dialer", "acceptor"] : [one.who];
            for (const by of sides) {
              const path = begin(by, one.delayMs);
              if (one.dies !== null) path.cut(one.dies);
            }
          } else if (one.do === "intrude") await intrude(time, talkers[one.who].side.session, one.received);
          else if ("after" in one) {
            if (one.do === "heal") for (const path of paths) path.heal();
            else paths.at(-1)?.[one.do](one.after);
          }
        }
      },
    ),
    { numRuns: 300 },
  );
  expect(moves).toBeGreaterThan(500);
}, 60_000);

function talker(side: Side): Talker {
  return { side, sent: 0, received: 0, isWriting: true, hasEnded: false, shorts: [] };
}

/** Writes what no bound forbids: who is told to wait waits. */
function write(from: Talker, length: number): void {
  if (!from.isWriting || from.hasEnded) return;
  const start = from.sent;
  from.sent += length;
  if (length <= WHOLE_DATA_LENGTH) from.shorts.push(length);
  const bytes = Uint8Array.from({ length }, (_, i) => (start + i) % 251);
  from.isWriting = from.side.session.send(bytes);
}

function listen(own: Talker, other: Talker): void {
  const { session, received } = own.side;
  session.attach({
    message(bytes) {
      for (const octet of bytes)
        if (octet !== own.received++ % 251) throw new Error("an octet is out of place");
      if (bytes.length <= WHOLE_DATA_LENGTH && bytes.length === other.shorts[0]) other.shorts.shift();
    },
    drain: () => {
      own.isWriting = true;
    },
    end: () => received.log.push("end"),
    close(error) {
      received.log.push("close");
      received.error = error;
    },
  });
}

function checkBounds(talkers: Readonly<Record<Who, Talker>>): void {
  // Its own bound and the one piece that crossed it; what was sent once may have to be sent again.
  const most = 64 * 1024 + 400_000 + 8 * 1024 * 1024;
  for (const { side } of Object.values(talkers)) expect(side.session.pendingBytes).toBeLessThan(most);
}

function isDone({ dialer, acceptor }: Readonly<Record<Who, Talker>>): boolean {
  return [dialer, acceptor].every(({ side }) => side.received.log.at(-1) === "close");
}

/** A path of the peer's that is older than the session's: whatever its RESUME says, it is refused. */
async function intrude(time: EventTime, session: Session, received: number): Promise<void> {
  const { ends } = frailPath(time, { delayMs: 1 });
  const opened = readOpening(ends[1].stream, time);
  ends[0].stream.write(encodeResume({ session: SESSION_ID, epoch: 0, received, limit: received }));
  await time.run(5);
  const { opening, stream } = await opened;
  if (opening.type === "resume") session.takeOver({ ...ends[1], stream }, opening.resume);
  ends[0].stream.abort();
}
