/** The rules of docs/architecture.md that a machine can check: floors, circles, sizes, who touches the world. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { Glob } from "bun";

const project = join(import.meta.dir, "..");
const MAXIMUM_LINES = 400;

/** From the ground up; a file may import from its own floor and from those before it. */
const FLOORS: readonly (readonly string[])[] = [
  ["core/errors.ts", "core/ip.ts", "core/log.ts"],
  ["native/"],
  ["core/wire/"],
  ["core/nat/"],
  ["core/net/"],
  ["core/stun/", "core/turn/", "core/portmap/", "core/clock/"],
  ["core/signal/"],
  ["core/infra/"],
  ["core/connect/"],
  ["core/node/"],
  ["routes/"],
  ["index.ts"],
];

/** What only `core/net/` and `native/` may touch. */
const WORLDLY =
  /\b(Bun\.(udpSocket|connect|listen|serve|sleep)|setTimeout|setInterval|Date\.now|Math\.random|performance\.now|new Date\(\))|from "(node:(net|dgram|tls|http|https|quic|timers)[/a-z]*|bun:ffi)"/;

const sources = ["index.ts", ...["core", "routes", "native"].flatMap((top) => files(top))];
const everything = [...sources, ...files("tests")];

test("imports point down, from floor to floor", () => {
  const wrong = sources.flatMap((file) =>
    importsOf(file)
      .filter((target) => floorOf(target) > floorOf(file))
      .map((target) => `${file} imports ${target}`),
  );
  expect(wrong).toEqual([]);
});

test("native code imports bun:ffi and its own neighbours, and only core/net imports it", () => {
  const wrong = sources.flatMap((file) => {
    if (file.startsWith("native/")) {
      return packagesOf(file)
        .filter((name) => name !== "bun:ffi")
        .map((name) => `${file} imports ${name}`);
    }
    if (file.startsWith("core/net/")) return [];
    return importsOf(file)
      .filter((target) => target.startsWith("native/"))
      .map((target) => `${file} imports ${target}`);
  });
  expect(wrong).toEqual([]);
});

test("no import leads back to its own file", () => {
  const done = new Set<string>();
  const circles: string[] = [];
  const walk = (file: string, trail: readonly string[]): void => {
    if (trail.includes(file)) {
      circles.push([...trail.slice(trail.indexOf(file)), file].join(" -> "));
      return;
    }
    if (done.has(file)) return;
    for (const target of importsOf(file)) walk(target, [...trail, file]);
    done.add(file);
  };
  for (const file of everything) walk(file, []);
  expect(circles).toEqual([]);
});

test(`no file is longer than ${MAXIMUM_LINES} lines`, () => {
  const long = everything
    .map((file) => ({ file, lines: read(file).split("\n").length }))
    .filter(({ lines }) => lines > MAXIMUM_LINES + 1);
  expect(long).toEqual([]);
});

test("only core/net and native touch sockets, timers, clocks and chance", () => {
  const wrong = sources
    .filter((file) => !file.startsWith("core/net/") && !file.startsWith("native/"))
    .flatMap((file) =>
      read(file)
        .split("\n")
        .map((line, i) => ({ line: line.trim(), at: `${file}:${i + 1}` }))
        .filter(({ line }) => !/^(\*|\/\/|\/\*)/.test(line) && WORLDLY.test(line))
        .map(({ line, at }) => `${at} ${line}`),
    );
  expect(wrong).toEqual([]);
});

test("file names are kebab-case, and none is a drawer for everything", () => {
  const wrong = everything.filter(
    (file) =>
      !/^[a-z0-9]+([-.][a-z0-9]+)*\.ts$/.test(file.slice(file.lastIndexOf("/") + 1)) ||
      /\/(utils?|helpers?|manager|types|common|misc)\.ts$/.test(file),
  );
  expect(wrong).toEqual([]);
});

test("every source file says at its head what it is", () => {
  const wrong = sources.filter((file) => !/^(#!.*\n)?\/\*\*/.test(read(file)));
  expect(wrong).toEqual([]);
});

test("nothing is switched off: no skipped check, no swallowed error, no unfinished note", () => {
  const banned =
    /@ts-(ignore|nocheck|expect-error)|(oxlint|eslint|biome)-(disable|ignore)|\b(TODO|FIXME|XXX|HACK)\b|catch *(\([^)]*\))? *\{ *\}/;
  const wrong = everything
    .filter((file) => file !== "tests/house.test.ts")
    .flatMap((file) =>
      read(file)
        .split("\n")
        .flatMap((line, i) => (banned.test(line) ? [`${file}:${i + 1} ${line.trim()}`] : [])),
    );
  expect(wrong).toEqual([]);
});

function files(top: string): string[] {
  return [...new Glob(`${top}/**/*.ts`).scanSync({ cwd: project })]
    .map((file) => file.replaceAll("\\", "/"))
    .sort();
}

function read(file: string): string {
  return readFileSync(join(project, file), "utf8");
}

function floorOf(file: string): number {
  const floor = FLOORS.findIndex((places) =>
    places.some((place) => file === place || (place.endsWith("/") && file.startsWith(place))),
  );
  if (floor < 0) throw new Error(`${file} stands on no floor of tests/house.test.ts`);
  return floor;
}

function specifiersOf(file: string): string[] {
  const pattern =
    /^\s*(?:import|export)\b[^;]*?\bfrom\s+"([^"]+)"|\bimport\("([^"]+)"\)|^\s*import\s+"([^"]+)"/gm;
  return [...read(file).matchAll(pattern)].map((match) => (match[1] ?? match[2] ?? match[3]) as string);
}

function importsOf(file: string): string[] {
  return specifiersOf(file)
    .filter((name) => name.startsWith(".") && name.endsWith(".ts"))
    .map((name) => normalize(join(dirname(file), name)).replaceAll("\\", "/"));
}

function packagesOf(file: string): string[] {
  return specifiersOf(file).filter((name) => !name.startsWith("."));
}
