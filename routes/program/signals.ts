/** The signals by which a program is asked to end. */

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export interface Signals {
  /** Resolves with the name of the first signal. */
  readonly received: Promise<string>;
  /** Leaves signals to the system again. */
  stop(): void;
}

/** Listens from now on. After the first signal the next one ends the process at once. */
export function untilSignal(): Signals {
  const { promise, resolve } = Promise.withResolvers<string>();
  const listener = (signal: string): void => {
    stop();
    resolve(signal);
  };
  const stop = (): void => {
    for (const signal of SIGNALS) process.off(signal, listener);
  };
  for (const signal of SIGNALS) process.on(signal, listener);
  return { received: promise, stop };
}
