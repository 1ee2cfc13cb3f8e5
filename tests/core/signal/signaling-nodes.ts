/** Nodes that signal, for tests: keys, an address's brokers, and waiting for what has to happen. */
import { createPublicKey, generateKeyPairSync } from "node:crypto";
import type { Log } from "../../../core/log.ts";
import { createRealWorld } from "../../../core/net/real-world.ts";
import type { World } from "../../../core/net/world.ts";
import { parseBrokerUrl } from "../../../core/signal/broker-url.ts";
import { nodeIdOfKey, type SignalIdentity } from "../../../core/signal/node-key.ts";
import { type IncomingSignal, type Signaling, startSignaling } from "../../../core/signal/signaling.ts";
import type { AddressBroker } from "../../../core/wire/address.ts";
import type { OfferBody } from "../../../core/wire/signal-message.ts";

export const quiet: Log = { error() {}, warn() {}, info() {}, debug() {} };
export const REQUEST = "AAAAAAAAAAAAAAAAAAAAAA";

export function makeIdentity(): SignalIdentity {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
  const { x, y } = createPublicKey(privateKey).export({ format: "jwk" });
  const sign = (Buffer.from(y as string, "base64url").at(-1) as number) & 1;
  const publicKey = new Uint8Array([2 + sign, ...Buffer.from(x as string, "base64url")]);
  const privateKeyPem = privateKey.export({ type: "pkcs8", format: "pem" });
  return { id: nodeIdOfKey(publicKey), publicKey, credentials: { privateKeyPem } };
}

export function offer(changes: Partial<OfferBody> = {}): OfferBody {
  return {
    type: "offer",
    request: REQUEST,
    address: "p2pd1~AgECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g~AAECAwQFBgc~-~-",
    strategies: ["direct"],
    ...changes,
  };
}

export interface TestNode {
  readonly identity: SignalIdentity;
  readonly id: string;
  readonly brokers: readonly AddressBroker[];
  readonly signaling: Signaling;
  readonly received: IncomingSignal[];
  /** Resolves when that many brokers are connected. */
  connected(count?: number): Promise<void>;
}

export interface TestNodeOptions {
  readonly world?: World;
  readonly identity?: SignalIdentity;
  readonly message?: (signal: IncomingSignal) => void;
}

export function startTestNode(urls: readonly string[], options: TestNodeOptions = {}): TestNode {
  const identity = options.identity ?? makeIdentity();
  const received: IncomingSignal[] = [];
  const signaling = startSignaling(
    options.world ?? createRealWorld(),
    { identity, brokers: urls, log: quiet },
    {
      message(signal) {
        received.push(signal);
        options.message?.(signal);
      },
    },
  );
  return {
    identity,
    id: identity.id,
    brokers: urls.map(parseBrokerUrl),
    signaling,
    received,
    connected: (count = urls.length) =>
      until(() => signaling.status().brokers.filter(({ state }) => state === "connected").length >= count),
  };
}

/** Looks again at every turn of the event loop. */
export async function until(condition: () => boolean, limitMs = 15_000): Promise<void> {
  const end = performance.now() + limitMs;
  while (!condition()) {
    if (performance.now() > end)
      throw new Error(`it did not happen within ${limitMs} ms: ${condition.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** What the promise was rejected with. */
export async function failure(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (thrown) {
    if (thrown instanceof Error) return thrown;
  }
  throw new Error("it did not fail");
}
