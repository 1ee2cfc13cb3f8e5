/** Medians and the one way in which benchmarks print what they found. */

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

/** Prints `ours` beside `theirs` and the median of the pairwise ratios, with its spread. */
export function printRatio(
  what: string,
  unit: string,
  peer: string,
  ours: readonly number[],
  theirs: readonly number[],
): void {
  const ratios = ours.map((value, i) => value / (theirs[i] as number));
  const spread = `${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)}`;
  console.log(
    `${what}: ${median(ours).toFixed(0)} ${unit}; ${peer}: ${median(theirs).toFixed(0)} ${unit}; ratio ${median(ratios).toFixed(2)} (${spread}, ${ours.length} pairs)`,
  );
}
