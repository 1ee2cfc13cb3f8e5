import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { P2pdError } from "../../../core/errors.ts";
import {
  decodeHello,
  decodeReset,
  decodeWelcome,
  encodeFin,
  encodeHello,
  encodeReset,
  encodeWelcome,
  FRAME_HEADER_LENGTH,
  FrameDecoder,
  MAX_CONTROL_LENGTH,
  MAX_DATA_LENGTH,
  WHOLE_DATA_LENGTH,
  writeFrameHeader,
} from "../../../core/wire/session-frame.ts";

const SESSION = "AAECAwQFBgcICQoLDA0ODw";
const HELLO = { version: 1, capabilities: ["x"], session: SESSION, service: "echo" } as const;

test("the layout is type, length and payload", () => {
  expect(encodeFin()).toEqual(Uint8Array.of(4, 0, 0, 0));
  const json = `{"version":1,"capabilities":[],"session":"${SESSION}"}`;
  expect(encodeHello({ version: 1, capabilities: [], session: SESSION })).toEqual(
    Uint8Array.of(1, 0, 0, json.length, ...new TextEncoder().encode(json)),
  );
  const header = new Uint8Array(4);
  writeFrameHeader(header, "data", MAX_DATA_LENGTH);
  expect(header).toEqual(Uint8Array.of(3, 4, 0, 0));
});

test("greetings and reasons are read as they were written", () => {
  const payload = (frame: Uint8Array) => frame.subarray(FRAME_HEADER_LENGTH);
  expect(decodeHello(payload(encodeHello(HELLO)))).toEqual(HELLO);
  const welcome = {
    version: 1,
    capabilities: [],
    refusal: { code: "no-such-service", text: "none" },
  } as const;
  expect(decodeWelcome(payload(encodeWelcome(welcome)))).toEqual(welcome);
  const reason = { code: "timeout", text: "x".repeat(900) };
  expect(decodeReset(payload(encodeReset(reason)))).toEqual({ code: "timeout", text: "x".repeat(512) });
});

describe("a greeting is refused with protocol", () => {
  const cases = {
    "that is empty": "",
    "that is no JSON": "{",
    "that is an array": "[]",
    "of another version": `{"version":2,"capabilities":[],"session":"${SESSION}"}`,
    "without capabilities": `{"version":1,"session":"${SESSION}"}`,
    "without a session": '{"version":1,"capabilities":[]}',
    "with a session that is not 16 octets": `{"version":1,"capabilities":[],"session":"${SESSION}A"}`,
    "with a session in another alphabet":
      '{"version":1,"capabilities":[],"session":"+AECAwQFBgcICQoLDA0ODw"}',
    "with a session that has bits to spare":
      '{"version":1,"capabilities":[],"session":"AAECAwQFBgcICQoLDA0ODx"}',
    "with a service that is a number": `{"version":1,"capabilities":[],"session":"${SESSION}","service":3}`,
    "with an empty service": `{"version":1,"capabilities":[],"session":"${SESSION}","service":""}`,
    "with a capability that is too long": `{"version":1,"capabilities":["${"x".repeat(33)}"],"session":"${SESSION}"}`,
  };
  for (const [name, text] of Object.entries(cases)) {
    test(name, () => {
      expect(() => decodeHello(new TextEncoder().encode(text))).toThrow(P2pdError);
    });
  }

  test("that is not UTF-8", () => {
    expect(() => decodeHello(Uint8Array.of(0x22, 0xff, 0x22))).toThrow("HELLO is not JSON in UTF-8");
  });
});

test("frames come out the same however the stream is cut", () => {
  fc.assert(
    fc.property(
      fc.array(frames(), { maxLength: 8 }),
      fc.array(fc.integer({ min: 1, max: 9000 })),
      (sent, cuts) => {
        const stream = Buffer.concat(sent.map(encode));
        const received = collect();
        let at = 0;
        for (const size of [...cuts, stream.length]) {
          expect(received.decoder.push(new Uint8Array(stream.subarray(at, at + size)))).toHaveLength(0);
          at += size;
          if (at >= stream.length) break;
        }
        expect(received.octets()).toEqual(octetsOf(sent));
        expect(received.decoder.atBoundary).toBe(true);
        const small = sent.filter(
          ({ type, payload }) => type === "data" && payload.length > 0 && payload.length <= WHOLE_DATA_LENGTH,
        );
        for (const { payload } of small) {
          expect(
            received.pieces.some(
              (piece) => piece.length === payload.length && Buffer.compare(piece, payload) === 0,
            ),
          ).toBe(true);
        }
      },
    ),
    { numRuns: 60 },
  );
});

test("every truncation of a frame is waited for, and none is delivered", () => {
  const frame = encodeHello(HELLO);
  for (let length = 1; length < frame.length; length++) {
    const received = collect();
    received.decoder.push(frame.subarray(0, length));
    expect(received.log).toEqual([]);
    expect(received.decoder.atBoundary).toBe(false);
    received.decoder.push(frame.subarray(length));
    expect(received.log).toHaveLength(1);
  }
});

test("random octets end in protocol, or wait for more", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (octets) => {
      try {
        collect().decoder.push(octets);
      } catch (error) {
        expect((error as P2pdError).code).toBe("protocol");
      }
    }),
  );
});

test("a frame longer than its kind may be is refused at its header", () => {
  for (const [type, limit] of [
    ["data", MAX_DATA_LENGTH],
    ["hello", MAX_CONTROL_LENGTH],
    ["reset", MAX_CONTROL_LENGTH],
  ] as const) {
    const header = new Uint8Array(FRAME_HEADER_LENGTH);
    writeFrameHeader(header, type, limit + 1);
    expect(() => collect().decoder.push(header)).toThrow(`at most ${limit}`);
  }
  expect(() => collect().decoder.push(Uint8Array.of(12, 0, 0, 0))).toThrow("type 12");
});

test("a payload that lies in one chunk is not copied", () => {
  const payload = new Uint8Array(1000).fill(7);
  const chunk = new Uint8Array(encode({ type: "data", payload }));
  const received = collect();
  received.decoder.push(chunk);
  expect(received.pieces[0]?.buffer).toBe(chunk.buffer);
});

test("a large DATA frame is delivered in parts as they come, a small one whole", () => {
  const received = collect();
  const large = new Uint8Array(encode({ type: "data", payload: new Uint8Array(WHOLE_DATA_LENGTH + 1) }));
  received.decoder.push(large.subarray(0, 100));
  expect(received.pieces.map(({ length }) => length)).toEqual([96]);
  received.decoder.push(large.subarray(100));
  const small = new Uint8Array(encode({ type: "data", payload: new Uint8Array(WHOLE_DATA_LENGTH) }));
  received.decoder.push(small.subarray(0, 100));
  expect(received.pieces).toHaveLength(2);
  received.decoder.push(small.subarray(100));
  expect(received.pieces[2]).toHaveLength(WHOLE_DATA_LENGTH);
});

test("a handler that stops the decoder gets nothing more of that chunk", () => {
  const chunk = Buffer.concat([encode({ type: "data", payload: Uint8Array.of(1) }), encodeFin()]);
  const log: string[] = [];
  const decoder = new FrameDecoder({
    control: (type) => log.push(type),
    data: () => {
      log.push("data");
      decoder.stop();
    },
  });
  const rest = decoder.push(new Uint8Array(chunk));
  expect([log, rest.length]).toEqual([["data"], 4]);
  decoder.push(rest);
  expect(log).toEqual(["data", "fin"]);
});

interface Frame {
  readonly type: "data" | "hello" | "fin";
  readonly payload: Uint8Array;
}

function frames(): fc.Arbitrary<Frame> {
  const sizes = fc.oneof(fc.nat(50), fc.constantFrom(WHOLE_DATA_LENGTH, WHOLE_DATA_LENGTH + 1, 70_000));
  return fc.oneof(
    sizes.chain((size) =>
      fc.nat(255).map((fill) => ({ type: "data", payload: new Uint8Array(size).fill(fill) }) as const),
    ),
    fc.nat(60).map((size) => ({ type: "hello", payload: new Uint8Array(size).fill(65) }) as const),
    fc.constant({ type: "fin", payload: new Uint8Array() } as const),
  );
}

function encode({ type, payload }: Frame): Uint8Array {
  const header = new Uint8Array(FRAME_HEADER_LENGTH);
  writeFrameHeader(header, type, payload.length);
  return Buffer.concat([header, payload]);
}

/** What was sent as one run per kind, so that the parts of a large frame compare with its whole. */
function octetsOf(sent: readonly Frame[]): string {
  return sent
    .map(({ type, payload }) => (type === "data" ? Buffer.from(payload).toString("hex") : `[${type}]`))
    .join("");
}

function collect() {
  const log: string[] = [];
  const pieces: Uint8Array[] = [];
  const decoder = new FrameDecoder({
    control: (type) => log.push(`[${type}]`),
    data: (bytes) => {
      pieces.push(bytes);
      log.push(Buffer.from(bytes).toString("hex"));
    },
  });
  return { decoder, log, pieces, octets: () => log.join("") };
}
