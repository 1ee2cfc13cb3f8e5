/**
 * A log of one line per message, for people (text) or for programs (json). It knows no destination: the program
 * gives it standard error.
 */

export type Level = "error" | "warn" | "info" | "debug";

const LEVELS: readonly Level[] = ["error", "warn", "info", "debug"];

/** Facts of a message, shown as `name=value`. */
export type Facts = Readonly<Record<string, unknown>>;

export type Log = Readonly<Record<Level, (message: string, facts?: Facts) => void>>;

export interface LogOptions {
  /** The least important level that is written. */
  readonly level: Level;
  readonly format: "text" | "json";
  /** Wall-clock milliseconds since 1970. */
  readonly wallMs: () => number;
  /** Takes a line with its newline. */
  readonly write: (line: string) => void;
}

export function createLog({ level, format, wallMs, write }: LogOptions): Log {
  const line = format === "json" ? jsonLine : textLine;
  const at = (of: Level) =>
    LEVELS.indexOf(of) > LEVELS.indexOf(level)
      ? () => undefined
      : (message: string, facts: Facts = {}) =>
          write(line(new Date(wallMs()).toISOString(), of, message, facts));
  return { error: at("error"), warn: at("warn"), info: at("info"), debug: at("debug") };
}

function jsonLine(time: string, level: Level, message: string, facts: Facts): string {
  return `${JSON.stringify({ ...facts, time, level, message })}\n`;
}

function textLine(time: string, level: Level, message: string, facts: Facts): string {
  const rest = Object.entries(facts).map(([name, value]) => ` ${name}=${JSON.stringify(value)}`);
  return `${time} ${level.padEnd(5)} ${oneLine(message)}${rest.join("")}\n`;
}

/** A peer's words must not forge lines or colours. */
function oneLine(text: string): string {
  return text.replaceAll(/\p{Cc}+/gu, " ");
}
