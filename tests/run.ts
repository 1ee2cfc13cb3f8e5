/**
 * `bun run test`: every test with line coverage, then the figure for `core/` and `routes/`, then the one
 * line `N passed, N failed, N skipped`. `P2PD_LAB=1` (as root, on Linux) switches the laboratory on.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";

const MINIMUM_COVERAGE = 0.9;
const project = join(import.meta.dir, "..");
const reports = mkdtempSync(join(tmpdir(), "p2pd-test-"));
const junit = join(reports, "junit.xml");

if (process.env["P2PD_LAB"] === "1" && (process.platform !== "linux" || process.getuid?.() !== 0)) {
  console.error(
    "P2PD_LAB=1 asks for the laboratory, which needs Linux and root; unset it to skip those tests",
  );
  process.exit(1);
}

const run = Bun.spawn(
  [
    process.execPath,
    "test",
    "--coverage",
    "--coverage-reporter=lcov",
    `--coverage-dir=${reports}`,
    "--reporter=junit",
    `--reporter-outfile=${junit}`,
    ...process.argv.slice(2),
  ],
  { cwd: project, stdout: "inherit", stderr: "inherit", stdin: "ignore" },
);
const exitCode = await run.exited;

const counts = readCounts(junit);
const coverage = readCoverage(join(reports, "lcov.info"));
rmSync(reports, { recursive: true, force: true });

console.log("");
let covered = true;
for (const [folder, { hit, lines }] of coverage) {
  const share = lines === 0 ? 1 : hit / lines;
  if (share < MINIMUM_COVERAGE && process.argv.length === 2) covered = false;
  console.log(`line coverage of ${folder}/: ${(100 * share).toFixed(1)} % (${hit} of ${lines} lines)`);
}
if (!covered) console.log(`line coverage is below ${100 * MINIMUM_COVERAGE} %`);
const failed = counts.failed + (exitCode !== 0 && counts.failed === 0 ? 1 : 0) + (covered ? 0 : 1);
console.log(
  `${counts.tests - counts.failed - counts.skipped} passed, ${failed} failed, ${counts.skipped} skipped`,
);
process.exit(failed === 0 ? 0 : 1);

/** Totals of the JUnit report; all zero if the runner died before it wrote one. */
function readCounts(path: string): { tests: number; failed: number; skipped: number } {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    return { tests: 0, failed: 0, skipped: 0 };
  }
  const head = /<testsuites[^>]*>/.exec(text)?.[0] ?? "";
  const number = (name: string): number => Number(new RegExp(` ${name}="([0-9]+)"`).exec(head)?.[1] ?? 0);
  return {
    tests: number("tests"),
    failed: number("failures") + number("errors"),
    skipped: number("skipped"),
  };
}

/** Lines hit per top folder, from an LCOV report. */
function readCoverage(path: string): Map<string, { hit: number; lines: number }> {
  const folders = new Map([
    ["core", { hit: 0, lines: 0 }],
    ["routes", { hit: 0, lines: 0 }],
  ]);
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    return folders;
  }
  for (const record of text.split("end_of_record")) {
    const file = /^SF:(.+)$/m.exec(record)?.[1];
    if (file === undefined) continue;
    const top = relative(project, join(project, file)).split("/")[0] as string;
    const sums = folders.get(top);
    if (sums === undefined) continue;
    sums.hit += Number(/^LH:([0-9]+)$/m.exec(record)?.[1] ?? 0);
    sums.lines += Number(/^LF:([0-9]+)$/m.exec(record)?.[1] ?? 0);
  }
  return folders;
}
