/**
 * A model of TLS 1.3 for the simulation: the same flights (ClientHello, ServerHello to Finished, the client's
 * Finished), so the same round trips and about the same sizes; both keys are proved, data is unreadable on its
 * way and tampering is noticed, errors have the codes of the real one. It protects nothing: that the holder of a
 * key is who he claims is looked up in a table of this process.
 */
import { P2pdError } from "../../core/errors.ts";
import { formatEndpoint } from "../../core/ip.ts";
import type { ByteStream, SecureOptions, SecureStream, Time } from "../../core/net/world.ts";
import type { SeededRandom } from "../nat/seeded-random.ts";
import { createInbox } from "./inbox.ts";
import {
  compressedKey,
  isProof,
  KEY_LENGTH,
  keyText,
  NONCE_LENGTH,
  PROOF_LENGTH,
  proveKey,
} from "./secure-keys.ts";
import { createRecordReader, encodeRecord, HANDSHAKE } from "./secure-records.ts";
import { createSealer } from "./secure-sealer.ts";

const CIPHER = "TLS_AES_128_GCM_SHA256";
const CLIENT_HELLO = 1;
const SERVER_HELLO = 2;
const FINISHED = 20;
/** Sizes of real flights with one P-256 certificate each. */
const SIZES: Readonly<Record<number, number>> = {
  [CLIENT_HELLO]: 320,
  [SERVER_HELLO]: 860,
  [FINISHED]: 640,
};

/** See `World.secure`. */
export function secure(
  time: Time,
  random: SeededRandom,
  under: ByteStream,
  options: SecureOptions,
): Promise<SecureStream> {
  const { role, credentials, expectedKey, timeoutMs, signal } = options;
  const what = `TLS as ${role}, ${formatEndpoint(under.local)} -> ${formatEndpoint(under.remote)}`;
  const isClient = role === "client";
  const ownKey = compressedKey(credentials.privateKeyPem);
  const ownNonce = Uint8Array.from({ length: NONCE_LENGTH }, () => random.between(0, 255));
  const { promise, resolve, reject } = Promise.withResolvers<SecureStream>();
  const inbox = createInbox(() => undefined);
  let peerNonce = new Uint8Array(0);
  let phase: "hello" | "finished" | "open" | "failed" = "hello";
  let sealer: ReturnType<typeof createSealer> | undefined;

  function fail(error: P2pdError): void {
    if (phase === "open") {
      inbox.close(error);
      under.abort(error);
    }
    if (phase === "open" || phase === "failed") return;
    settle("failed");
    under.abort(error);
    reject(error);
  }
  function settle(next: "open" | "failed"): void {
    phase = next;
    timer.cancel();
    signal?.removeEventListener("abort", aborted);
  }
  const broken = (why: string): void => fail(new P2pdError("protocol", `${what}: ${why}`));
  const aborted = (): void => fail(new P2pdError("aborted", `${what}: aborted`));
  const timer = time.after(timeoutMs, () =>
    fail(new P2pdError("timeout", `${what}: no handshake within ${timeoutMs} ms`)),
  );
  signal?.addEventListener("abort", aborted, { once: true });
  if (signal?.aborted === true) {
    aborted();
    return promise;
  }

  function say(kind: number, ...parts: readonly Uint8Array[]): void {
    const message = new Uint8Array(SIZES[kind] as number);
    message[0] = kind;
    let at = 1;
    for (const part of parts) {
      message.set(part, at);
      at += part.length;
    }
    under.write(encodeRecord(HANDSHAKE, message));
  }

  function nonces(): readonly [client: Uint8Array, server: Uint8Array] {
    return isClient ? [ownNonce, peerNonce] : [peerNonce, ownNonce];
  }

  function proof(): Uint8Array {
    return proveKey(credentials.privateKeyPem, role, ...nonces());
  }

  /** The key that the rest of a message names and proves; undefined after a failure. */
  function provenKey(rest: Uint8Array): Uint8Array | undefined {
    const key = rest.slice(0, KEY_LENGTH);
    const shown = rest.slice(KEY_LENGTH, KEY_LENGTH + PROOF_LENGTH);
    if (!isProof(shown, key, isClient ? "server" : "client", ...nonces())) {
      broken("the peer did not prove its key");
      return undefined;
    }
    if (key[0] === 2 || key[0] === 3) return key;
    fail(new P2pdError("peer-key", `${what}: expected a P-256 key, the peer's is on another curve`));
    return undefined;
  }

  function open(peerKey: Uint8Array): void {
    if (expectedKey !== undefined && keyText(peerKey) !== keyText(expectedKey)) {
      const [expected, got] = [keyText(expectedKey), keyText(peerKey)];
      const text = `${what}: expected the key ${expected}, the peer proved ${got}`;
      return fail(new P2pdError("peer-key", text, { expected, got }));
    }
    sealer = createSealer(...nonces(), isClient);
    settle("open");
    resolve(secured(peerKey, sealer));
  }

  function handshake(message: Uint8Array): void {
    const kind = message[0] as number;
    const expected = isClient ? SERVER_HELLO : phase === "hello" ? CLIENT_HELLO : FINISHED;
    if (phase === "open" || kind !== expected || message.length !== SIZES[kind]) {
      return broken(`handshake message ${kind} where ${expected} was expected`);
    }
    if (kind === FINISHED) {
      const key = provenKey(message.subarray(1));
      if (key !== undefined) open(key);
      return;
    }
    peerNonce = message.slice(1, 1 + NONCE_LENGTH);
    if (kind === CLIENT_HELLO) {
      phase = "finished";
      return say(SERVER_HELLO, ownNonce, ownKey, proof());
    }
    const key = provenKey(message.subarray(1 + NONCE_LENGTH));
    if (key === undefined) return;
    // As in TLS, the server is finished before the client says whether it likes the key.
    say(FINISHED, ownKey, proof());
    open(key);
  }

  const records = createRecordReader((type, payload) => {
    if (phase === "failed") return;
    if (type === HANDSHAKE) return handshake(payload);
    const bytes = sealer?.open(payload);
    if (bytes === undefined) broken("a record is not what the peer sealed");
    else inbox.data(bytes);
  });

  under.attach({
    data(bytes) {
      if (phase !== "failed" && !records.push(bytes)) broken("these octets are no TLS records");
    },
    drain: () => inbox.drain(),
    end() {
      if (phase === "open") inbox.end();
      else fail(new P2pdError("closed", `${what}: the peer closed during the handshake`));
    },
    close(error) {
      if (phase === "open") return inbox.close(error);
      const why = error === undefined ? "the peer closed during the handshake" : error.message;
      fail(new P2pdError("closed", `${what}: ${why}`));
    },
  });
  if (isClient) say(CLIENT_HELLO, ownNonce);
  return promise;

  function secured(peerKey: Uint8Array, seal: NonNullable<typeof sealer>): SecureStream {
    let ending = false;
    return {
      local: under.local,
      remote: under.remote,
      fd: under.fd,
      peerKey,
      cipher: CIPHER,
      get pendingBytes() {
        return under.pendingBytes;
      },
      attach: (handlers) => inbox.attach(handlers),
      write(bytes) {
        let more = true;
        if (!ending) for (const record of seal.seal(bytes)) more = under.write(record);
        return more;
      },
      pause() {
        inbox.pause();
        under.pause();
      },
      resume() {
        inbox.resume();
        under.resume();
      },
      end() {
        ending = true;
        under.end();
      },
      abort(reason) {
        ending = true;
        under.abort(reason);
      },
    };
  }
}
