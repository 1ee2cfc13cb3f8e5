/**
 * Runs the machine's own tools, here or inside a network namespace, and turns their failures into errors that
 * show the command and what it said.
 */
import { P2pdError } from "../../core/errors.ts";

export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The words before a command that make it run inside a namespace. */
export function enterNamespace(namespace: string): string[] {
  return ["nsenter", `--net=/run/netns/${namespace}`, "--"];
}

/** Runs a command to its end, whatever its exit code. */
export async function tryCommand(command: readonly string[], input = ""): Promise<Outcome> {
  const child = Bun.spawn([...command], { stdin: new Blob([input]), stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, stdout, stderr };
}

/** Runs a command and returns what it printed; rejects with `unavailable` when it fails. */
export async function command(words: readonly string[], input = ""): Promise<string> {
  const { code, stdout, stderr } = await tryCommand(words, input);
  if (code !== 0) throw failed(words, code, stderr);
  return stdout;
}

/** As `command`, at once: for clean-up while the process ends. Failures are left to the caller's eyes. */
export function commandNow(words: readonly string[], input = ""): Outcome {
  const { exitCode, stdout, stderr } = Bun.spawnSync([...words], {
    stdin: Buffer.from(input),
    stdout: "pipe",
    stderr: "pipe",
  });
  return { code: exitCode, stdout: stdout.toString(), stderr: stderr.toString() };
}

/** `ip` commands, one per line, in a namespace or ("") here; `family` is what they mean where they do not say. */
export async function ipBatch(namespace: string, lines: readonly string[], family: 4 | 6 = 4): Promise<void> {
  if (lines.length === 0) return;
  const where = namespace === "" ? [] : ["-n", namespace];
  const words = ["ip", ...(family === 6 ? ["-6"] : []), ...where, "-batch", "-"];
  const { code, stderr } = await tryCommand(words, `${lines.join("\n")}\n`);
  if (code === 0) return;
  const number = Number(/Command failed -:(\d+)/.exec(stderr)?.[1] ?? 0);
  throw failed([...words, `# ${lines[number - 1] ?? ""}`], code, stderr);
}

/** Writes kernel settings (`net.ipv4.ip_forward` → value) in a namespace. */
export async function setKernel(
  namespace: string,
  settings: Readonly<Record<string, string | number>>,
): Promise<void> {
  const script = Object.entries(settings).map(
    ([name, value]) => `echo ${value} > /proc/sys/${name.replaceAll(".", "/")}`,
  );
  await command([...enterNamespace(namespace), "sh", "-e", "-c", script.join("\n")]);
}

function failed(words: readonly string[], code: number, stderr: string): P2pdError {
  const said = stderr.trim() === "" ? "it said nothing" : stderr.trim();
  return new P2pdError("unavailable", `"${words.join(" ")}" ended with ${code}: ${said}`);
}
