/**
 * WebCrypto in a simulation: it works in threads of the machine, so its promises settle when they like. Here
 * they settle in the order they were asked for, and the simulation knows that it must wait.
 */

export interface CryptoQueue {
  /** How many operations are under way. */
  readonly pending: number;
  /** Gives WebCrypto back as it was. */
  release(): void;
}

type Operation = (...given: unknown[]) => Promise<unknown>;

const OPERATIONS = [
  "encrypt",
  "decrypt",
  "sign",
  "verify",
  "digest",
  "generateKey",
  "deriveKey",
  "deriveBits",
  "importKey",
  "exportKey",
  "wrapKey",
  "unwrapKey",
] as const;

export function createCryptoQueue(): CryptoQueue {
  const subtle = crypto.subtle as unknown as Record<string, Operation>;
  let pending = 0;
  let last: Promise<unknown> = Promise.resolve();

  for (const name of OPERATIONS) {
    const real = (Object.getPrototypeOf(subtle) as Record<string, Operation>)[name] as Operation;
    const queued: Operation = (...given) => {
      pending++;
      const before = last;
      const work = real.apply(subtle, given);
      const done = (async () => {
        try {
          await before.catch(() => undefined);
          return await work;
        } finally {
          pending--;
        }
      })();
      last = done;
      return done;
    };
    Object.defineProperty(subtle, name, { value: queued, configurable: true, writable: true });
  }
  return {
    get pending() {
      return pending;
    },
    release() {
      for (const name of OPERATIONS) Reflect.deleteProperty(subtle, name);
    },
  };
}
