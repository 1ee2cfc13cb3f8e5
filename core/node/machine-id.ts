/**
 * An id of the machine, by which two nodes know that they are on the same one. Nobody can tell the system's own id
 * from it: it is made as machine-id(5) advises, with the system's id as the key of a hash.
 */
import { createHash, createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import type { Nic } from "../net/world.ts";

const FILES = ["/etc/machine-id", "/var/lib/dbus/machine-id", "/etc/hostid"];

/** 11 characters of base64url. Where no file has an id, one is made of the name and the hardware addresses. */
export function machineId(nics: readonly Nic[], files: readonly string[] = FILES): string {
  const secret = readFirst(files) ?? hardwareId(nics);
  return createHmac("sha256", secret).update("p2pd machine").digest().subarray(0, 8).toString("base64url");
}

function readFirst(paths: readonly string[]): string | undefined {
  for (const path of paths) {
    const text = read(path)?.trim() ?? "";
    if (text.length >= 8) return text;
  }
  return undefined;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    // Missing and unreadable are the same here: the next one is asked.
    return undefined;
  }
}

function hardwareId(nics: readonly Nic[]): string {
  const macs = nics.filter(({ kind }) => kind === "physical").map(({ mac }) => mac);
  return createHash("sha256")
    .update([hostname(), ...macs.sort()].join("\n"))
    .digest("hex");
}
