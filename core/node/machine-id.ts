/**
 * An id of the machine, by which two nodes know that they are on the same one. Nobody can tell the system's own id
 * from it: it is made as machine-id(5) advises, with the system's id as the key of a hash.
 */
import { createHmac } from "node:crypto";

/** 11 characters of base64url. */
export function machineId(systemId: string): string {
  return createHmac("sha256", systemId).update("p2pd machine").digest().subarray(0, 8).toString("base64url");
}
