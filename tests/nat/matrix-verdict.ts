/** Opens of a matrix against what is possible in theory, and their figures in words. Knows no network. */
import { bestOf } from "./punch-theory.ts";

/** An open as the laboratory's and the simulator's matrices tell it. */
export interface MatrixOpen {
  readonly caller: string;
  readonly called: string;
  /** `direct/udp`, `punch/tcp`, …; "–" where none was found. */
  readonly path: string;
  /** From the request to the first echoed octet, or to the failure. */
  readonly ms: number;
  /** Of a failure. */
  readonly why?: string;
  /** Of a relayed open that a search may follow: the path that it moved to. */
  readonly movedTo?: string;
}

/** An impossible open must have failed by then. */
const FAIL_WITHIN_MS = 10_000;
/** One of these must be said of an impossible one. */
const REASONS = /random port|product of two/;

/** What is wrong with an open, in words; undefined if nothing is. */
export function faultOf(open: MatrixOpen, hasRelay = false): string | undefined {
  return hasRelay ? faultWithRelay(open) : faultWithout(open);
}

/** With a relay every pair is connected, and by a relay those alone that have no path without a search. */
function faultWithRelay({ caller, called, path, why = "" }: MatrixOpen): string | undefined {
  const theory = bestOf(caller, called);
  if (path === "–") return `failed: ${why}`;
  if (path.startsWith("relay/"))
    return theory === "–" || theory.endsWith("*") ? undefined : `was relayed, although ${theory} is possible`;
  return theory === "–" ? `went by ${path}, which the theory says is impossible` : undefined;
}

function faultWithout({ caller, called, path, ms, why = "" }: MatrixOpen): string | undefined {
  const theory = bestOf(caller, called);
  if (theory !== "–") {
    if (path === "–") return `failed, although ${theory} is possible: ${why}`;
    return /^(direct|reverse|punch)\//.test(path)
      ? undefined
      : `went by ${path}, although ${theory} is possible`;
  }
  if (path !== "–") return `went by ${path}, which the theory says is impossible`;
  if (!REASONS.test(why)) return `failed for another reason than the theory's: ${why}`;
  return ms <= FAIL_WITHIN_MS ? undefined : `took ${Math.round(ms)} ms to fail`;
}

/** How many went which way, how long, and each that is at fault. */
export function summariseMatrix(opens: readonly MatrixOpen[], hasRelay = false): readonly string[] {
  const isSearch = ({ caller, called }: MatrixOpen): boolean => bestOf(caller, called).endsWith("*");
  const paths = Map.groupBy(opens, ({ path }) => path);
  const good = opens.filter(({ path }) => path !== "–");
  const faults = opens.flatMap((open) => {
    const fault = faultOf(open, hasRelay);
    return fault === undefined ? [] : [`WRONG ${open.caller} -> ${open.called}: ${fault}`];
  });
  const impossible = opens.filter((open) => bestOf(open.caller, open.called) === "–");
  return [
    `${opens.length} opens: ${[...paths].map(([path, those]) => `${those.length} ${path}`).join(", ")}`,
    `${opens.length - impossible.length} possible in theory, ${opens.length - faults.length} of all as ${hasRelay ? "they must be" : "the theory says"}`,
    `ms without a search: ${times(good.filter((open) => !isSearch(open)))}`,
    `ms with a search: ${times(good.filter(isSearch))}`,
    ...(hasRelay ? [moved(opens)] : []),
    `ms of what is impossible: ${times(impossible)}`,
    ...faults,
  ];
}

/** What became of relayed opens behind which a search goes on. */
function moved(opens: readonly MatrixOpen[]): string {
  const relayed = opens.filter(
    ({ caller, called, path }) => path.startsWith("relay/") && bestOf(caller, called).endsWith("*"),
  );
  const gone = relayed.filter(({ movedTo }) => movedTo !== undefined);
  return `${gone.length} of ${relayed.length} relayed with a search moved to what it found`;
}

function times(opens: readonly MatrixOpen[]): string {
  const sorted = opens.map(({ ms }) => ms).sort((a, b) => a - b);
  if (sorted.length === 0) return "none";
  const at = (share: number): string =>
    (sorted[Math.floor(share * (sorted.length - 1))] ?? Number.NaN).toFixed(0);
  return `median ${at(0.5)}, 95 % ${at(0.95)}, longest ${at(1)}, of ${sorted.length}`;
}
