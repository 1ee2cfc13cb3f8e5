/**
 * `bun run build`: one executable for this machine, `dist/p2pd`. With `--all`: one for each target that the
 * README names, as `dist/p2pd-TARGET`. Prints the size of each.
 */
import { mkdirSync, statSync } from "node:fs";
import { join, relative } from "node:path";

export const TARGETS = [
  "linux-x64",
  "linux-arm64",
  "linux-x64-musl",
  "darwin-arm64",
  "windows-x64",
  "freebsd-x64",
] as const;

const project = join(import.meta.dir, "..");

/** Compiles the program into `outfile` (Windows adds `.exe`) and returns the path of the executable. */
export async function buildExecutable(
  outfile: string,
  target?: (typeof TARGETS)[number],
  options: { readonly bytecode?: boolean; readonly minify?: boolean } = {},
): Promise<string> {
  const { bytecode = true, minify = true } = options;
  const result = await Bun.build({
    entrypoints: [join(project, "index.ts")],
    target: "bun",
    format: "esm",
    // Names are kept, since errors are told by them.
    minify: minify ? { whitespace: true, syntax: true, identifiers: false } : false,
    bytecode,
    compile: {
      outfile,
      ...(target === undefined ? {} : { target: `bun-${target}` as Bun.Build.CompileTarget }),
    },
  });
  const executable = result.outputs[0]?.path;
  if (executable === undefined) throw new Error(`nothing was built for ${target ?? "this machine"}`);
  return executable;
}

if (import.meta.main) {
  const words = process.argv.slice(2);
  const unknown = words.find((word) => word !== "--all");
  if (unknown !== undefined) {
    console.error(`build: ${unknown} is no flag; the only one is --all`);
    process.exit(2);
  }
  const dist = join(project, "dist");
  mkdirSync(dist, { recursive: true });
  const wanted = words.includes("--all") ? TARGETS : [undefined];
  for (const target of wanted) {
    const name = target === undefined ? "p2pd" : `p2pd-${target}`;
    const executable = await buildExecutable(join(dist, name), target);
    const megabytes = (statSync(executable).size / 1e6).toFixed(1);
    console.log(`${relative(project, executable)}  ${megabytes} MB`);
  }
}
