import { expect, test } from "bun:test";
import { EventEmitter } from "node:events";
import { P2pdError } from "../../../core/errors.ts";
import { stdioStream } from "../../../routes/program/stdio-stream.ts";

test("what is read arrives, then the end; what is written is printed, then both have ended", async () => {
  const { stream, output, input } = pair();
  const seen: string[] = [];
  stream.attach(listener(seen));
  input.enqueue(bytes("one"));
  input.enqueue(bytes("two"));
  input.close();
  expect(stream.write(bytes("back"))).toBe(true);
  stream.end();
  expect(await stream.closed).toBeUndefined();
  await stream.printed;
  expect(seen).toEqual(["one", "two", "end", "close undefined"]);
  expect(output.text).toBe("back");
});

test("nothing is read while it is paused", async () => {
  const { stream, input, pulls } = pair();
  const seen: string[] = [];
  stream.attach({ ...listener(seen), data: (piece) => (seen.push(text(piece)), stream.pause()) });
  for (let i = 0; i < 20; i++) input.enqueue(bytes(String(i)));
  await turns();
  expect(seen).toEqual(["0"]);
  const before = pulls();
  stream.resume();
  await turns();
  expect(seen).toEqual(["0", "1"]);
  expect(pulls() - before).toBeLessThanOrEqual(1);
  stream.abort();
});

test("a full output says so, and drains", async () => {
  const { stream, output } = pair();
  const seen: string[] = [];
  stream.attach(listener(seen));
  output.full = true;
  expect(stream.write(bytes("x"))).toBe(false);
  output.emit("drain");
  expect(seen).toEqual(["drain"]);
  stream.abort();
});

test("an output that is gone closes the stream with the reason", async () => {
  const { stream, output } = pair();
  stream.attach(listener([]));
  output.emit("error", new Error("EPIPE"));
  const reason = await stream.closed;
  expect(reason?.message).toContain("standard output: EPIPE");
  expect(stream.write(bytes("dropped"))).toBe(true);
  expect(output.text).toBe("");
  stream.end();
  stream.resume();
});

test("an input that fails closes the stream with the reason", async () => {
  const { stream, input } = pair();
  stream.attach(listener([]));
  input.error(new Error("EIO"));
  expect((await stream.closed)?.message).toContain("standard input: EIO");
});

test("an abort is told once, also while paused", async () => {
  const { stream, input } = pair();
  const seen: string[] = [];
  stream.attach(listener(seen));
  stream.pause();
  input.enqueue(bytes("never"));
  await turns();
  const reason = new P2pdError("aborted", "enough");
  stream.abort(reason);
  stream.abort(new P2pdError("aborted", "again"));
  expect(await stream.closed).toBe(reason);
  await turns();
  expect(seen.filter((line) => line.startsWith("close"))).toEqual(["close enough"]);
});

test("a later receiver replaces the first and gets what follows", async () => {
  const { stream, input } = pair();
  const first: string[] = [];
  const second: string[] = [];
  stream.attach(listener(first));
  input.enqueue(bytes("a"));
  await turns();
  stream.attach(listener(second));
  input.enqueue(bytes("b"));
  await turns();
  expect([first, second]).toEqual([["a"], ["b"]]);
  stream.abort();
});

class FakeOutput extends EventEmitter {
  text = "";
  full = false;
  write(piece: Uint8Array | string, written?: () => void): boolean {
    this.text += typeof piece === "string" ? piece : text(piece);
    written?.();
    return !this.full;
  }
}

function pair() {
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  let pulled = 0;
  const readable = new ReadableStream<Uint8Array>({
    start: (given) => {
      controller = given;
    },
    pull: () => {
      pulled++;
    },
  });
  const output = new FakeOutput();
  const input = controller as unknown as ReadableStreamDefaultController<Uint8Array>;
  return { stream: stdioStream(readable, output), output, input, pulls: () => pulled };
}

function listener(seen: string[]) {
  return {
    data: (piece: Uint8Array) => void seen.push(text(piece)),
    drain: () => void seen.push("drain"),
    end: () => void seen.push("end"),
    close: (error?: P2pdError) => void seen.push(`close ${error?.message}`),
  };
}

async function turns(): Promise<void> {
  for (let i = 0; i < 50; i++) await Promise.resolve();
}

const bytes = (words: string): Uint8Array => new TextEncoder().encode(words);
const text = (piece: Uint8Array): string => new TextDecoder().decode(piece);
