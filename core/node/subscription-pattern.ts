/**
 * Runs patterns that anybody may have written, in time linear in the text: the tree becomes a small machine, and the
 * machine is followed through all of its possibilities at once, so that no pattern can make it go back and try
 * again. Sets of places are remembered, which makes an ordinary pattern cost one table look-up per character.
 */
import { P2pdError } from "../errors.ts";
import {
  type Assertion,
  type OctetSet,
  type PatternTree,
  parsePattern,
  WORD,
} from "./subscription-syntax.ts";

/** Something that says yes or no to a text. A `RegExp` is one. */
export interface Pattern {
  readonly source: string;
  test(text: string): boolean;
}

/** Steps a machine may have, repetitions written out. */
const MAX_STEPS = 512;
/** Sets of places remembered at once; sets larger than this many places are worth more to find anew than to name. */
const MAX_REMEMBERED = 256;
const MAX_NAMED_PLACES = 48;

type Step =
  | { readonly kind: "octet"; readonly set: OctetSet; readonly next: number }
  | { readonly kind: "assert"; readonly what: Assertion; readonly next: number }
  | { readonly kind: "split"; readonly next: number; readonly other: number }
  | { readonly kind: "match" };

/** Places before the next character, with what came before it. */
interface Places {
  readonly steps: readonly number[];
  readonly atStart: boolean;
  readonly afterWord: boolean;
  /** By kind of the next character (or the end): where that leads. */
  readonly next: (Places | "match" | undefined)[];
}

/**
 * The pattern of `source`. `test` says whether it occurs anywhere in a latin1 text. Throws `bad-argument`, naming
 * `what`, the position and the cause.
 */
export function compilePattern(source: string, what: string): Pattern {
  const machine = new PatternMachine(writeOut(parsePattern(source, what), what));
  return { source, test: (text) => machine.test(text) };
}

/** The steps of a machine, built from the end: each part is told where to go on. */
function writeOut(tree: PatternTree, what: string): readonly Step[] {
  const steps: Step[] = [{ kind: "match" }];
  let work = 0;
  const put = (step: Step): number => {
    steps.push(step);
    return steps.length - 1;
  };
  const write = (part: PatternTree, next: number): number => {
    // Empty parts repeated cost no steps but would cost time.
    if (++work > 8 * MAX_STEPS || steps.length > MAX_STEPS) {
      throw new P2pdError(
        "bad-argument",
        `the ${what} pattern is too large: its repetitions written out need more than ${MAX_STEPS} steps`,
      );
    }
    switch (part.kind) {
      case "set":
        return put({ kind: "octet", set: part.set, next });
      case "assert":
        return put({ kind: "assert", what: part.what, next });
      case "sequence":
        return part.items.reduceRight((after, item) => write(item, after), next);
      case "choice": {
        const entries = part.items.map((item) => write(item, next));
        return entries.reduce((other, entry) => put({ kind: "split", next: entry, other }));
      }
      default:
        return repeat(part, next);
    }
  };
  const repeat = ({ item, min, max }: Extract<PatternTree, { kind: "repeat" }>, next: number): number => {
    let entry = next;
    if (max === Number.POSITIVE_INFINITY) {
      const loop = put({ kind: "split", next, other: next });
      steps[loop] = { kind: "split", next: write(item, loop), other: next };
      entry = loop;
    } else {
      for (let i = min; i < max; i++) entry = put({ kind: "split", next: write(item, entry), other: next });
    }
    for (let i = 0; i < min; i++) entry = write(item, entry);
    return entry;
  };
  const start = write(tree, 0);
  // The machine is entered at its last step.
  put({ kind: "split", next: start, other: start });
  return steps;
}

class PatternMachine {
  readonly #steps: readonly Step[];
  /** Characters that no step tells apart are of one kind; the end of the text is a kind of its own. */
  readonly #kinds: Uint16Array;
  readonly #samples: readonly number[];
  readonly #end: number;
  readonly #remembered = new Map<string, Places>();
  /** By step: the last round in which it was passed, and in which it was reached. */
  readonly #passed: Uint32Array;
  readonly #reached: Uint32Array;
  #round = 0;

  constructor(steps: readonly Step[]) {
    this.#steps = steps;
    this.#passed = new Uint32Array(steps.length);
    this.#reached = new Uint32Array(steps.length);
    const sets = [WORD, ...steps.flatMap((step) => (step.kind === "octet" ? [step.set] : []))];
    const kindOf = new Map<string, number>();
    const samples: number[] = [];
    this.#kinds = Uint16Array.from({ length: 256 }, (_, octet) => {
      const signature = sets.map((set) => set[octet]).join("");
      const known = kindOf.get(signature);
      if (known !== undefined) return known;
      kindOf.set(signature, samples.length);
      return samples.push(octet) - 1;
    });
    this.#samples = samples;
    this.#end = samples.length;
  }

  test(text: string): boolean {
    // Long before the rounds run out of 32 bits.
    if (this.#round > 0x7fff_ffff) {
      this.#passed.fill(0);
      this.#reached.fill(0);
      this.#round = 0;
    }
    let places = this.#places([this.#steps.length - 1], true, false);
    for (let i = 0; i <= text.length; i++) {
      const kind = i === text.length ? this.#end : (this.#kinds[text.charCodeAt(i) & 255] as number);
      const next = places.next[kind] ?? this.#follow(places, kind);
      // What has no name is not held either, or every new text would add to it.
      if (next === "match" || next.steps.length <= MAX_NAMED_PLACES) places.next[kind] = next;
      if (next === "match") return true;
      places = next;
    }
    return false;
  }

  #places(steps: readonly number[], atStart: boolean, afterWord: boolean): Places {
    if (steps.length > MAX_NAMED_PLACES) return { steps, atStart, afterWord, next: [] };
    const key = `${steps.join(",")}${atStart ? "^" : ""}${afterWord ? "w" : ""}`;
    const known = this.#remembered.get(key);
    if (known !== undefined) return known;
    if (this.#remembered.size >= MAX_REMEMBERED) {
      // Whoever holds an old set goes on with it; it must not lead to others that are forgotten.
      for (const old of this.#remembered.values()) old.next.length = 0;
      this.#remembered.clear();
    }
    const places: Places = { steps, atStart, afterWord, next: [] };
    this.#remembered.set(key, places);
    return places;
  }

  /** Goes through all steps that need no character, then over one of the given kind. */
  #follow({ steps, atStart, afterWord }: Places, kind: number): Places | "match" {
    const atEnd = kind === this.#end;
    const octet = atEnd ? -1 : (this.#samples[kind] as number);
    const beforeWord = !atEnd && WORD[octet] === 1;
    const holds: Readonly<Record<Assertion, boolean>> = {
      start: atStart,
      end: atEnd,
      boundary: afterWord !== beforeWord,
      "no-boundary": afterWord === beforeWord,
    };
    const round = ++this.#round;
    const open = steps.slice();
    // The pattern may begin at every character.
    const entry = this.#steps.length - 1;
    const reached = [entry];
    this.#reached[entry] = round;
    for (let at = open.pop(); at !== undefined; at = open.pop()) {
      if (this.#passed[at] === round) continue;
      this.#passed[at] = round;
      const step = this.#steps[at] as Step;
      if (step.kind === "match") return "match";
      if (step.kind === "split") open.push(step.next, step.other);
      else if (step.kind === "assert") {
        if (holds[step.what]) open.push(step.next);
      } else if (!atEnd && step.set[octet] === 1 && this.#reached[step.next] !== round) {
        this.#reached[step.next] = round;
        reached.push(step.next);
      }
    }
    // In order where the set gets a name, which must not depend on how it was found.
    if (reached.length <= MAX_NAMED_PLACES) reached.sort((a, b) => a - b);
    return this.#places(reached, false, beforeWord);
  }
}
