/**
 * What can be had between two routers at all, from their settings alone and without any of the code that does it: the
 * measure of plans, of the matrices, and the table of docs/punching.md.
 */
import { type NatConfiguration, parseConfiguration } from "./configurations.ts";

/** The configurations whose ordered pairs make the matrix of the laboratory. */
export const MATRIX: readonly string[] = [
  "open-internet/equal",
  "symmetric-firewall/equal",
  "full-cone/equal",
  "restricted/equal",
  "port-restricted/equal",
  "port-restricted/random",
  "port-restricted/independent",
  "symmetric/equal",
  "symmetric/preserving",
  "symmetric/independent",
  "symmetric/dependent",
  "symmetric/random",
  "blocked/equal",
];

export type PunchTheory =
  /** `search`: one side's ports must be found by trying many. */
  | { readonly possible: true; readonly by: "aim" | "search" }
  | { readonly possible: false; readonly why: string };

const BLOCKED = "blocked on the way";
const TWO_RANDOM = "both get a random port for each destination: a search of each for the other";
const PRODUCT = "one gets a random port, the other a new one, for each destination: a search per probe";

/** Whether a path of this protocol can be opened between hosts behind `a` and `b`. */
export function possiblePunch(
  protocol: "udp" | "tcp",
  a: NatConfiguration,
  b: NatConfiguration,
): PunchTheory {
  if (a.settings[protocol].blocked || b.settings[protocol].blocked) return { possible: false, why: BLOCKED };
  const [x, y] = [a, b].map(({ settings }) => {
    const { mapping, filtering, delta } = settings[protocol];
    const isTranslated = settings.mode === "nat";
    const isOne = !isTranslated || mapping === "endpoint-independent";
    return {
      /** One port for all destinations: a server can say which. */
      isOne,
      /** The next one follows from those before. */
      isForeseen: isOne || delta.kind !== "random",
      isLoose: settings.mode === "open" || (isTranslated && filtering !== "address-and-port-dependent"),
    };
  }) as [Side, Side];
  if ((x.isLoose && x.isForeseen) || (y.isLoose && y.isForeseen)) return { possible: true, by: "aim" };
  if (x.isForeseen && y.isForeseen) return { possible: true, by: "aim" };
  if (!x.isForeseen && !y.isForeseen) return { possible: false, why: TWO_RANDOM };
  const foreseen = x.isForeseen ? x : y;
  return foreseen.isOne ? { possible: true, by: "search" } : { possible: false, why: PRODUCT };
}

interface Side {
  readonly isOne: boolean;
  readonly isForeseen: boolean;
  readonly isLoose: boolean;
}

/** What is best between the two over both protocols, as one word of the table; a dash where nothing is. */
export function bestOf(a: string, b: string): string {
  const [x, y] = [parseConfiguration(a), parseConfiguration(b)];
  const [udp, tcp] = [possiblePunch("udp", x, y), possiblePunch("tcp", x, y)];
  if (udp.possible) return udp.by === "aim" ? "udp" : "udp*";
  if (tcp.possible) return tcp.by === "aim" ? "tcp" : "tcp*";
  return "–";
}

/** The table of docs/punching.md in Markdown. */
export function theoryTable(): string {
  const cells = MATRIX.map((a) => MATRIX.map((b) => bestOf(a, b)));
  const row = (words: readonly string[]): string => `| ${words.join(" | ")} |`;
  return [
    row(["", ...MATRIX.map((_, i) => String(i + 1))]),
    row(["---", ...MATRIX.map(() => "---")]),
    ...MATRIX.map((name, i) => row([`${i + 1} ${name}`, ...(cells[i] ?? [])])),
  ].join("\n");
}
