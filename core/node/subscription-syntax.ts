/**
 * Reads the patterns of subscriptions: regular expressions in JavaScript's notation over octets (latin1 text),
 * without what no engine can run in linear time: lookaround and backreferences. Gives a tree; running it is the
 * business of `subscription-pattern.ts`.
 */
import { P2pdError } from "../errors.ts";

/** Which octets a place accepts: 256 entries, 1 or 0. */
export type OctetSet = Uint8Array;

export type Assertion = "start" | "end" | "boundary" | "no-boundary";

export type PatternTree =
  | { readonly kind: "set"; readonly set: OctetSet }
  | { readonly kind: "assert"; readonly what: Assertion }
  | { readonly kind: "sequence"; readonly items: readonly PatternTree[] }
  | { readonly kind: "choice"; readonly items: readonly PatternTree[] }
  | { readonly kind: "repeat"; readonly item: PatternTree; readonly min: number; readonly max: number };

/** Characters a pattern may have. */
export const MAX_PATTERN_LENGTH = 512;

const DIGIT = setOf((octet) => octet >= 48 && octet <= 57);
/** `\w`: letters, digits and underscore of ASCII. */
export const WORD = setOf((octet) => /[A-Za-z0-9_]/.test(String.fromCharCode(octet)));
const SPACE = setOf((octet) => (octet >= 9 && octet <= 13) || octet === 32 || octet === 160);
const DOT = setOf((octet) => octet !== 10 && octet !== 13);

const CLASSES: Readonly<Record<string, OctetSet>> = {
  d: DIGIT,
  D: inverse(DIGIT),
  w: WORD,
  W: inverse(WORD),
  s: SPACE,
  S: inverse(SPACE),
};
const CONTROLS: Readonly<Record<string, number>> = { n: 10, r: 13, t: 9, f: 12, v: 11, 0: 0 };

/** The tree of a pattern. Throws `bad-argument` with the position; `what` names the pattern in the text. */
export function parsePattern(source: string, what: string): PatternTree {
  if (source.length > MAX_PATTERN_LENGTH) {
    throw new P2pdError(
      "bad-argument",
      `the ${what} pattern has ${source.length} characters; at most ${MAX_PATTERN_LENGTH} are allowed`,
    );
  }
  return new PatternParser(source, what).whole();
}

class PatternParser {
  #at = 0;

  constructor(
    private readonly source: string,
    private readonly what: string,
  ) {}

  whole(): PatternTree {
    const tree = this.#choice();
    if (this.#at < this.source.length) throw this.#wrong('")" closes nothing');
    return tree;
  }

  #choice(): PatternTree {
    const items = [this.#sequence()];
    while (this.#eat("|")) items.push(this.#sequence());
    return items.length === 1 ? (items[0] as PatternTree) : { kind: "choice", items };
  }

  #sequence(): PatternTree {
    const items: PatternTree[] = [];
    while (this.#at < this.source.length && !this.#sees("|") && !this.#sees(")"))
      items.push(this.#repeated());
    return { kind: "sequence", items };
  }

  #repeated(): PatternTree {
    const item = this.#atom();
    const start = this.#at;
    const times = this.#times();
    if (times === undefined) return item;
    if (item.kind === "assert") throw this.#wrong("an assertion cannot be repeated", start);
    this.#eat("?"); // Greedy or lazy: the same messages match.
    return { kind: "repeat", item, ...times };
  }

  #times(): { readonly min: number; readonly max: number } | undefined {
    if (this.#eat("*")) return { min: 0, max: Number.POSITIVE_INFINITY };
    if (this.#eat("+")) return { min: 1, max: Number.POSITIVE_INFINITY };
    if (this.#eat("?")) return { min: 0, max: 1 };
    const braces = /^\{([0-9]{1,9})(,([0-9]{0,9}))?\}/.exec(this.source.slice(this.#at));
    if (braces === null) return undefined;
    const min = Number(braces[1]);
    const max =
      braces[2] === undefined ? min : braces[3] === "" ? Number.POSITIVE_INFINITY : Number(braces[3]);
    if (max < min) throw this.#wrong(`${braces[0]} has its numbers in the wrong order`);
    this.#at += braces[0].length;
    return { min, max };
  }

  #atom(): PatternTree {
    const start = this.#at;
    const char = this.#next();
    switch (char) {
      case "(":
        return this.#group(start);
      case "[":
        return { kind: "set", set: this.#class(start) };
      case ".":
        return { kind: "set", set: DOT };
      case "^":
        return { kind: "assert", what: "start" };
      case "$":
        return { kind: "assert", what: "end" };
      case "*":
      case "+":
      case "?":
        throw this.#wrong(`"${char}" has nothing to repeat`, start);
      case "\\":
        if (this.#eat("b")) return { kind: "assert", what: "boundary" };
        if (this.#eat("B")) return { kind: "assert", what: "no-boundary" };
        return { kind: "set", set: this.#escape(start) };
      default:
        return { kind: "set", set: only(this.#octet(char, start)) };
    }
  }

  #group(start: number): PatternTree {
    if (this.#eat("?")) {
      const rest = this.source.slice(this.#at);
      if (/^<?[=!]/.test(rest)) throw this.#wrong("lookaround is not supported", start);
      const head = /^(?::|P?<[A-Za-z_][A-Za-z0-9_]*>)/.exec(rest);
      if (head === null) throw this.#wrong('"(?" begins no group that is supported', start);
      this.#at += head[0].length;
    }
    const tree = this.#choice();
    if (!this.#eat(")")) throw this.#wrong('"(" is never closed', start);
    return tree;
  }

  #class(start: number): OctetSet {
    const negated = this.#eat("^");
    const set = new Uint8Array(256);
    while (!this.#eat("]")) {
      if (this.#at >= this.source.length) throw this.#wrong('"[" is never closed', start);
      const from = this.#member();
      if (!this.#sees("-") || this.source[this.#at + 1] === "]" || this.#at + 1 >= this.source.length) {
        add(set, from);
        continue;
      }
      const dash = this.#at++;
      const to = this.#member();
      const [low, high] = [single(from), single(to)];
      if (low === undefined || high === undefined)
        throw this.#wrong("a range needs a character on both sides", dash);
      if (high < low) throw this.#wrong("a range has its ends in the wrong order", dash);
      set.fill(1, low, high + 1);
    }
    return negated ? inverse(set) : set;
  }

  #member(): OctetSet {
    const start = this.#at;
    const char = this.#next();
    if (char !== "\\") return only(this.#octet(char, start));
    return this.#eat("b") ? only(8) : this.#escape(start);
  }

  /** What follows a backslash that stands at `start`. */
  #escape(start: number): OctetSet {
    if (this.#at >= this.source.length) throw this.#wrong("a backslash stands at the end", start);
    const char = this.#next();
    const named = CLASSES[char];
    if (named !== undefined) return named;
    const control = CONTROLS[char];
    if (control !== undefined && !(char === "0" && /[0-9]/.test(this.source[this.#at] ?? "")))
      return only(control);
    if (char === "x" || char === "u") {
      const digits = char === "x" ? 2 : 4;
      const hex = this.source.slice(this.#at, this.#at + digits);
      if (hex.length < digits || !/^[0-9a-fA-F]+$/.test(hex)) {
        throw this.#wrong(`"\\${char}" needs ${digits} hexadecimal digits`, start);
      }
      this.#at += digits;
      return only(this.#octet(String.fromCharCode(Number.parseInt(hex, 16)), start));
    }
    if (/[0-9k]/.test(char)) throw this.#wrong("backreferences are not supported", start);
    if (/[A-Za-z]/.test(char)) throw this.#wrong(`"\\${char}" is no escape that is supported`, start);
    return only(this.#octet(char, start));
  }

  #octet(char: string, at: number): number {
    const code = char.charCodeAt(0);
    if (code <= 255) return code;
    throw this.#wrong(
      "a character above U+00FF cannot occur in octets; write its UTF-8 octets like \\xe2\\x82\\xac",
      at,
    );
  }

  #sees(char: string): boolean {
    return this.source[this.#at] === char;
  }

  #eat(char: string): boolean {
    if (!this.#sees(char)) return false;
    this.#at++;
    return true;
  }

  #next(): string {
    return this.source[this.#at++] as string;
  }

  #wrong(why: string, at = this.#at): P2pdError {
    return new P2pdError("bad-argument", `the ${this.what} pattern is wrong at character ${at + 1}: ${why}`, {
      position: at,
    });
  }
}

function setOf(accepts: (octet: number) => boolean): OctetSet {
  return Uint8Array.from({ length: 256 }, (_, octet) => (accepts(octet) ? 1 : 0));
}

function only(octet: number): OctetSet {
  return setOf((other) => other === octet);
}

function inverse(set: OctetSet): OctetSet {
  return setOf((octet) => set[octet] === 0);
}

function add(set: OctetSet, more: OctetSet): void {
  for (const [octet, has] of more.entries()) if (has === 1) set[octet] = 1;
}

/** The one octet of a set, undefined if it has more or none. */
function single(set: OctetSet): number | undefined {
  const first = set.indexOf(1);
  return first >= 0 && set.lastIndexOf(1) === first ? first : undefined;
}
