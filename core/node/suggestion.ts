/** What somebody probably meant who wrote a name that there is not. */

/** `; did you mean NAME?` for the nearest of `known`, or nothing where none is near. Case and separators are free. */
export function suggestion(written: string, known: readonly string[]): string {
  if (written.length > 64) return "";
  const plain = (text: string): string => text.toLowerCase().replaceAll(/[^a-z0-9]/g, "");
  const target = plain(written);
  let nearest = "";
  let least = Math.max(1, Math.floor(target.length / 3)) + 1;
  for (const name of known) {
    const away = distance(target, plain(name));
    if (away < least) [nearest, least] = [name, away];
  }
  return nearest === "" ? "" : `; did you mean ${nearest}?`;
}

/** Levenshtein's edit distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min((row[j] as number) + 1, (next[j - 1] as number) + 1, swap));
    }
    row = next;
  }
  return row[b.length] as number;
}
