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
  /** Takes a line, without its newline. */
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
  return JSON.stringify({ ...Object.fromEntries(plain(facts)), time, level, message });
}

function textLine(time: string, level: Level, message: string, facts: Facts): string {
  const rest = plain(facts).map(([name, value]) => ` ${name}=${JSON.stringify(value)}`);
  return oneLine(`${time} ${level.padEnd(5)} ${message}${rest.join("")}`);
}

/** Facts that JSON has a form for; whatever it has none for becomes text. */
function plain(facts: Facts): [string, unknown][] {
  return Object.entries(facts).map(([name, value]) => {
    try {
      return [name, JSON.stringify(value) === undefined ? String(value) : value];
    } catch (thrown) {
      return [name, `${String(value)} (${(thrown as Error).name})`];
    }
  });
}

/** A peer's words must not forge lines or colours. */
function oneLine(text: string): string {
  return text.replaceAll(/\p{Cc}+/gu, " ");
}
