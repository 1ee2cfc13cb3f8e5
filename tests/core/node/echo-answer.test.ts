import { expect, test } from "bun:test";
import { P2pdError } from "../../../core/errors.ts";
import type { Channel, ChannelHandlers } from "../../../core/node/channel.ts";
import { answerEcho, echoUntilTaken } from "../../../core/node/echo-answer.ts";

test("ECHO is answered and nothing else is, with backpressure and to the end", () => {
  const far = recorder();
  answerEcho(far.channel);
  far.say("ECHO one");
  far.say("ECHO");
  far.say("other");
  far.isFull = true;
  far.say("ECHO two");
  far.handlers().drain();
  far.handlers().end();
  far.handlers().close();
  expect(far.log).toEqual(["send one", "send two", "pause", "resume", "end"]);
});

test("until it is taken a channel answers ECHO and keeps the rest for its taker; then it keeps out of the way", () => {
  const far = recorder();
  const channel = echoUntilTaken(far.channel);
  const got: string[] = [];
  channel.attach({
    message: (bytes) => got.push(new TextDecoder().decode(bytes)),
    drain: () => got.push("drain"),
    end: () => got.push("end"),
    close: (error) => got.push(`close ${error?.message}`),
  });
  far.say("ECHO one");
  far.say("kept");
  far.handlers().drain();
  channel.take();
  far.say("ECHO two");
  far.handlers().end();
  far.handlers().close(new P2pdError("closed", "gone"));
  expect(got).toEqual(["kept", "drain", "ECHO two", "end", "close gone"]);
  channel.pause();
  channel.resume();
  channel.end();
  channel.abort(new P2pdError("aborted", "enough"));
  expect(far.log).toEqual(["send one", "pause", "resume", "end", "abort enough"]);
  expect([channel.fd, channel.pendingBytes, channel.kind]).toEqual([7, 0, "stream"]);
});

test("a peer that does not read its answers gets no more of them", () => {
  const far = recorder();
  const channel = echoUntilTaken(far.channel);
  channel.attach({
    message: () => undefined,
    drain: () => undefined,
    end: () => undefined,
    close: () => undefined,
  });
  far.pending = 1;
  far.say("ECHO lost");
  expect(far.log).toEqual([]);
  far.handlers().end();
  expect(far.log).toEqual(["end"]);
});

interface Recorder {
  readonly log: string[];
  readonly channel: Channel;
  isFull: boolean;
  pending: number;
  handlers(): ChannelHandlers;
  say(text: string): void;
}

function recorder(): Recorder {
  const endpoint = { ip: "192.0.2.1", port: 9 };
  const log: string[] = [];
  let handlers: ChannelHandlers | undefined;
  const state: Recorder = {
    log,
    isFull: false,
    pending: 0,
    handlers(): ChannelHandlers {
      if (handlers === undefined) throw new Error("nobody attached");
      return handlers;
    },
    say: (text: string): void => state.handlers().message(new TextEncoder().encode(text), endpoint),
    channel: {
      kind: "stream",
      local: endpoint,
      remote: endpoint,
      fd: 7,
      get pendingBytes() {
        return state.pending;
      },
      attach: (next) => void (handlers = next),
      send: (bytes) => {
        log.push(`send ${new TextDecoder().decode(bytes)}`);
        return !state.isFull;
      },
      pause: () => void log.push("pause"),
      resume: () => void log.push("resume"),
      end: () => void log.push("end"),
      abort: (reason) => void log.push(`abort ${reason?.message}`),
    },
  };
  return state;
}
