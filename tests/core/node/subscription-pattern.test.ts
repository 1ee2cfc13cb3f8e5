import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { P2pdError } from "../../../core/errors.ts";
import { compilePattern } from "../../../core/node/subscription-pattern.ts";

describe("a pattern", () => {
  test("agrees with the engine's own regular expressions on every text", () => {
    fc.assert(
      fc.property(
        pattern(),
        fc.array(fc.string({ unit: fc.constantFrom(..."ab_ \n1é"), maxLength: 12 })),
        (source, texts) => {
          const own = compilePattern(source, "message");
          const engine = new RegExp(source);
          for (const text of texts)
            expect([source, text, own.test(text)]).toEqual([source, text, engine.test(text)]);
        },
      ),
      { numRuns: 3000 },
    );
  });

  test.each([
    ["^GET /", "GET / HTTP/1.1", true],
    ["^GET /", "x GET /", false],
    ["^192\\.0\\.2\\.1:", "192.0.2.1:80", true],
    [":80$", "[2001:db8::1]:80", true],
    ["^([0-9]{1,3}\\.){3}[0-9]{1,3}:[0-9]+$", "203.0.113.9:65000", true],
    ["[\\x00-\\x1f\\xff]", "\u00ff", true],
    ["a{,2}", "a{,2}", true],
    ["(?P<name>ab)+(?<other>c)?$", "abab", true],
    ["", "", true],
    ["[a\\]\\-z-]{4}", "a]-z", true],
    ["\\bword\\b", "a word.", true],
    ["\\bword\\b", "swords", false],
  ])("%j on %j says %j", (source, text, expected) => {
    expect(compilePattern(source, "message").test(text)).toBe(expected);
  });

  test.each([
    ["(", "missing closing )"],
    ["a)", "unexpected )"],
    ["ab[c", "missing closing ]"],
    ["*a", "missing argument to repetition operator"],
    ["a{3,2}", "invalid repeat count"],
    ["(a)\\1", "invalid escape sequence"],
    ["x(?=y)", "invalid or unsupported Perl syntax"],
    ["x(?<!y)", "invalid named capture"],
    ["[z-a]", "invalid character class range"],
    ["a\\", "trailing backslash"],
    ["\\q", "invalid escape sequence"],
    ["a{1001}", "invalid repeat count"],
    ["((((a{100}){100}){100}){100}){100}", "invalid repeat count"],
    ["x".repeat(513), "has 513 characters; at most 512 are allowed"],
  ])("%j is refused with the cause", (source, cause) => {
    const error = thrown(() => compilePattern(source, "sender"));
    expect(error.code).toBe("bad-argument");
    expect(error.message).toStartWith("the sender pattern ");
    expect(error.message).toContain(cause);
  });

  test.each(["(a+)+$", "(a|a)*c", "(a?){100}a{100}$", "(.*.*.*.*.*.*)*x", "(a*)*c", "([ab]*a[ab]{60})$"])(
    "%j takes time linear in the text",
    (source) => {
      const own = compilePattern(source, "message");
      const text = `${"ab".repeat(500)}${"a".repeat(3000)}!`;
      const start = performance.now();
      expect(own.test(text)).toBe(false);
      // A backtracking engine would need years for most of these.
      expect(performance.now() - start).toBeLessThan(2000);
    },
  );

  test("random text either compiles or is refused as bad-argument", () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(..."ab()[]{}|*+?^$\\.,-019:=<>!Pxu") }), (source) => {
        try {
          compilePattern(source, "message").test("ab10");
        } catch (error) {
          expect(error).toBeInstanceOf(P2pdError);
          expect((error as P2pdError).code).toBe("bad-argument");
        }
      }),
      { numRuns: 3000 },
    );
  });
});

function pattern(): fc.Arbitrary<string> {
  const atom = fc.constantFrom(
    "a",
    "b",
    ".",
    "\\d",
    "\\w",
    "\\W",
    "\\s",
    "[ab]",
    "[^a]",
    "[a-b_]",
    "_",
    "1",
    "\\xe9",
  );
  const assertion = fc.constantFrom("^", "$", "\\b", "\\B");
  const { tree } = fc.letrec<{ tree: string }>((tie) => ({
    tree: fc.oneof(
      { maxDepth: 4 },
      atom,
      assertion,
      fc
        .tuple(atom, fc.constantFrom("*", "+", "?", "{2}", "{1,3}", "{0,2}?", "*?", "{2,}"))
        .map((pair) => pair.join("")),
      fc.tuple(tie("tree"), tie("tree")).map((pair) => pair.join("")),
      fc.tuple(tie("tree"), tie("tree")).map(([a, b]) => `(?:${a}|${b})`),
      fc
        .tuple(tie("tree"), fc.constantFrom("", "*", "+", "?", "{0,2}", "{2}"))
        .map(([a, times]) => `(${a})${times}`),
    ),
  }));
  return tree;
}

function thrown(call: () => unknown): P2pdError {
  try {
    call();
  } catch (error) {
    return error as P2pdError;
  }
  throw new Error("nothing was thrown");
}
