import { expect, test } from "bun:test";
import { createLog, type LogOptions } from "../../core/log.ts";

test("a line has time, level, message and facts", () => {
  expect(written({}, (log) => log.warn("lost", { peer: "a b", octets: 3 }))).toEqual([
    '2001-09-09T01:46:40.000Z warn  lost peer="a b" octets=3',
  ]);
});

test("messages below the level are not written", () => {
  const all = (level: LogOptions["level"]) =>
    written({ level }, (log) => {
      log.error("e");
      log.warn("w");
      log.info("i");
      log.debug("d");
    }).length;
  expect([all("error"), all("warn"), all("info"), all("debug")]).toEqual([1, 2, 3, 4]);
});

test("json is one object a line, whose own fields no fact can replace", () => {
  const [line] = written({ format: "json" }, (log) => log.error("x\ny", { level: "info", n: 1 }));
  expect(line).not.toContain("\n");
  expect(JSON.parse(line as string)).toEqual({
    time: "2001-09-09T01:46:40.000Z",
    level: "error",
    message: "x\ny",
    n: 1,
  });
});

test("a message cannot forge a line or a colour", () => {
  const [line] = written({}, (log) => log.info("a\nb\u001b[31m\u009bc", { x: "\n\u001b" }));
  expect(line).toBe(`2001-09-09T01:46:40.000Z info  a b [31m c x=${JSON.stringify("\n\u001b")}`);
});

test("a fact that JSON has no form for does not end the program", () => {
  const circle: Record<string, unknown> = {};
  circle["self"] = circle;
  for (const format of ["text", "json"] as const) {
    const [line] = written({ format }, (log) => log.info("m", { circle, big: 1n, none: undefined }));
    expect(line).toContain("m");
  }
});

function written(options: Partial<LogOptions>, use: (log: ReturnType<typeof createLog>) => void): string[] {
  const lines: string[] = [];
  const write = (line: string) => lines.push(line);
  use(createLog({ level: "debug", format: "text", wallMs: () => 1e12, write, ...options }));
  return lines;
}
