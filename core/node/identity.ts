/**
 * Who this node is: a P-256 key in the data directory, its self-signed certificate, and the machine's hashed id.
 * Also the directory's lock: one node per directory. The key file is never overwritten; it is PKCS #8 in PEM.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { chmodSync, linkSync, mkdirSync, readFileSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { P2pdError } from "../errors.ts";
import type { Credentials, World } from "../net/world.ts";
import { selfSignedCertificate } from "./certificate.ts";
import { lockDirectory } from "./directory-lock.ts";
import { machineId } from "./machine-id.ts";

const KEY_FILE = "node-key.pem";

export interface Identity {
  /** Compressed public key in base64url, 44 characters. */
  readonly id: string;
  /** The same, 33 octets. */
  readonly publicKey: Uint8Array;
  readonly credentials: Credentials;
  /** Equal for all nodes of one machine, and of no use for finding the machine's own id: 11 characters. */
  readonly machineId: string;
  /** Gives the directory free for another node. */
  release(): void;
}

/**
 * Takes a data directory, made with mode 0700 if it is missing, and reads its key or makes one. Throws
 * `configuration` (directory not usable, or held by another node), `corrupt-file` (a key that is none).
 */
export function openIdentity(dataDir: string, world: World): Identity {
  makeDirectory(dataDir);
  const release = lockDirectory(dataDir, world);
  try {
    const privateKey = readKey(join(dataDir, KEY_FILE)) ?? makeKey(join(dataDir, KEY_FILE), world);
    const publicKey = createPublicKey(privateKey);
    const compressed = compress(publicKey);
    return {
      id: Buffer.from(compressed).toString("base64url"),
      publicKey: compressed,
      credentials: {
        privateKeyPem: privateKey.export({ type: "pkcs8", format: "pem" }),
        certificatePem: selfSignedCertificate(privateKey, publicKey, world.randomBytes(16)),
      },
      machineId: machineId(world.systemId()),
      release,
    };
  } catch (error) {
    release();
    throw error;
  }
}

/** Octets of a node id; undefined if it is none. */
export function keyOfId(id: string): Uint8Array | undefined {
  const key = new Uint8Array(Buffer.from(id, "base64url"));
  return key.length === 33 && (key[0] === 2 || key[0] === 3) ? key : undefined;
}

/** The id of a compressed public key. */
export function idOfKey(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("base64url");
}

function makeDirectory(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    if (!statSync(directory).isDirectory()) throw new Error("it is a file");
  } catch (error) {
    throw new P2pdError(
      "configuration",
      `dataDir ${directory} cannot be made (${textOf(error)}); name a directory that this user may write to`,
      { directory },
      { cause: error },
    );
  }
}

function readKey(path: string): KeyObject | undefined {
  let text: string;
  try {
    text = readFileSync(path, "latin1");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new P2pdError(
      "configuration",
      `the node key ${path} cannot be read (${textOf(error)})`,
      { path },
      { cause: error },
    );
  }
  let key: KeyObject;
  try {
    key = createPrivateKey(text);
  } catch (error) {
    throw corrupt(path, "it is no private key", error);
  }
  if (key.asymmetricKeyType !== "ec" || key.asymmetricKeyDetails?.namedCurve !== "prime256v1") {
    throw corrupt(path, `it holds another kind of key (${key.asymmetricKeyType})`);
  }
  if ((statSync(path).mode & 0o077) !== 0) chmodSync(path, 0o600);
  return key;
}

function corrupt(path: string, why: string, cause?: unknown): P2pdError {
  return new P2pdError(
    "corrupt-file",
    `the node key ${path} is not usable: ${why}. Expected is a P-256 private key as PKCS #8 in PEM ` +
      `("-----BEGIN PRIVATE KEY-----"). Put back a copy of it, or move the file away to become a new node with a new id`,
    { path },
    { cause },
  );
}

/** Writes a new key beside its place and links it there: a reader finds all of it or nothing. */
function makeKey(path: string, world: World): KeyObject {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
  const draft = `${path}.${Buffer.from(world.randomBytes(6)).toString("hex")}`;
  try {
    writeFileSync(draft, privateKey.export({ type: "pkcs8", format: "pem" }), {
      mode: 0o600,
      flag: "wx",
      flush: true,
    });
    try {
      linkSync(draft, path);
    } finally {
      unlinkSync(draft);
    }
  } catch (error) {
    throw new P2pdError(
      "configuration",
      `the node key ${path} cannot be written (${textOf(error)})`,
      { path },
      { cause: error },
    );
  }
  return privateKey;
}

/** SEC 1 section 2.3.3: the sign of y, then x. */
function compress(publicKey: KeyObject): Uint8Array {
  const { x, y } = publicKey.export({ format: "jwk" });
  const sign = (Buffer.from(y as string, "base64url").at(-1) as number) & 1;
  return new Uint8Array(Buffer.concat([Buffer.of(2 + sign), Buffer.from(x as string, "base64url")]));
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
