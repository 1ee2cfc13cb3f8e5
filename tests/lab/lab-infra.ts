/** `p2pd infra` on the internet of a laboratory, known by the line that it prints for its clients. */
import { join } from "node:path";
import { INTERNET } from "../nat/topologies.ts";
import type { Lab } from "./laboratory.ts";
import { linesOf } from "./natbox-control.ts";
import { enterNamespace } from "./shell.ts";

const PROGRAM = join(import.meta.dir, "../../index.ts");

export interface LabInfra {
  /** What follows `p2pd` in the printed line, for a shell. */
  readonly clientFlags: string;
  /** The value of a flag in the printed line. */
  flag(name: string): string;
  status(): Promise<Record<string, unknown>>;
  /** Asks it to end; its exit code. */
  stop(): Promise<number>;
}

/** On the addresses 16 and 17 of the internet; with whatever more it is told. */
export async function startLabInfra(lab: Lab, more: readonly string[] = []): Promise<LabInfra> {
  const inside = enterNamespace(lab.internet);
  const ips = [INTERNET.serverIp4(16), INTERNET.serverIp4(17), INTERNET.serverIp6(16)].join(",");
  const child = Bun.spawn(
    [
      ...inside,
      process.execPath,
      PROGRAM,
      "infra",
      "--infra-ips",
      ips,
      "--data-dir",
      join(lab.directory, "infra"),
      ...more,
    ],
    {
      stdout: "pipe",
      stderr: "inherit",
      env: { ...process.env, P2PD_LOG_LEVEL: "error" },
      cwd: lab.directory,
    },
  );
  let line = "";
  for await (const one of linesOf(child.stdout)) {
    line = one;
    if (one.startsWith("p2pd ")) break;
  }
  const words = line.split(" ");
  return {
    clientFlags: line.slice("p2pd ".length),
    flag(name) {
      const value = words[words.indexOf(name) + 1]?.replaceAll("'", "").split(",")[0];
      if (value === undefined || value === "p2pd") throw new Error(`${name} is not in: ${line}`);
      return value;
    },
    async status() {
      const get = `exec 3<>/dev/tcp/127.0.0.1/12380; printf 'GET /status HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3`;
      const output = await new Response(Bun.spawn([...inside, "bash", "-c", get]).stdout).text();
      return JSON.parse(output.slice(output.indexOf("\r\n\r\n"))) as Record<string, unknown>;
    },
    async stop() {
      child.kill("SIGTERM");
      return child.exited;
    },
  };
}
