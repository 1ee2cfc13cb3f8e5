/**
 * Self-signed certificates for tests, written octet by octet (X.509, RFC 5280) so that a test can also have
 * keys that no node would use. The program's own identities are made elsewhere.
 */
import { createHash, generateKeyPairSync, sign } from "node:crypto";
import type { Credentials } from "../../../core/net/world.ts";

export interface TestIdentity {
  readonly credentials: Credentials;
  /** Compressed public point. */
  readonly key: Uint8Array;
}

/** A fresh key on `curve` with a certificate of it. */
export function createTestIdentity(curve: "P-256" | "P-384" = "P-256"): TestIdentity {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: curve });
  const spki = publicKey.export({ type: "spki", format: "der" });
  const ecdsaWithSha256 = sequence(fromHex("06082a8648ce3d040302"));
  const name = sequence(
    tag(0x31, sequence(fromHex("0603550403"), tag(0x0c, new TextEncoder().encode("test")))),
  );
  const validity = sequence(time("20200101000000Z"), time("99991231235959Z"));
  const serial = tag(0x02, Uint8Array.of(1, ...createHash("sha256").update(spki).digest().subarray(0, 8)));
  const version = tag(0xa0, fromHex("020102"));
  const body = sequence(version, serial, ecdsaWithSha256, name, validity, name, spki);
  const signature = sign("sha256", body, privateKey);
  const der = sequence(body, ecdsaWithSha256, tag(0x03, Uint8Array.of(0), signature));
  const jwk = publicKey.export({ format: "jwk" });
  const y = Buffer.from(jwk.y as string, "base64url");
  return {
    credentials: {
      privateKeyPem: privateKey.export({ type: "pkcs8", format: "pem" }),
      certificatePem: pem(der),
    },
    key: Uint8Array.of(2 + ((y.at(-1) as number) & 1), ...Buffer.from(jwk.x as string, "base64url")),
  };
}

function tag(number: number, ...parts: Uint8Array[]): Uint8Array {
  const content = Buffer.concat(parts);
  const length =
    content.length < 128
      ? [content.length]
      : content.length < 256
        ? [0x81, content.length]
        : [0x82, content.length >> 8, content.length & 255];
  return Uint8Array.of(number, ...length, ...content);
}

function sequence(...parts: Uint8Array[]): Uint8Array {
  return tag(0x30, ...parts);
}

function time(text: string): Uint8Array {
  return tag(0x18, new TextEncoder().encode(text));
}

function fromHex(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex, "hex"));
}

function pem(der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}
