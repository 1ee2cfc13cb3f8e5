/**
 * What tells this machine from every other one and stays the same: the id that the system made when it was installed,
 * or where it has none, its name and hardware addresses. It is the machine's secret and must not leave it as it is.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import type { Nic } from "./world.ts";

const FILES = ["/etc/machine-id", "/var/lib/dbus/machine-id", "/etc/hostid"];

export function systemId(nics: readonly Nic[], files: readonly string[] = FILES): string {
  for (const path of files) {
    const text = read(path)?.trim() ?? "";
    if (text.length >= 8) return text;
  }
  const macs = nics.filter(({ kind }) => kind === "physical").map(({ mac }) => mac);
  return createHash("sha256")
    .update([hostname(), ...macs.sort()].join("\n"))
    .digest("hex");
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    // Missing and unreadable are the same here: the next one is asked.
    return undefined;
  }
}
