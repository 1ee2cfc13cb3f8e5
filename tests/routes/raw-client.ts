/** A TCP client for the tests of the API: sends what it is told, keeps what it gets, and waits for either. */
import type { Endpoint } from "../../core/ip.ts";

export interface RawClient {
  send(data: string | Uint8Array): void;
  end(): void;
  destroy(): void;
  /** Everything received so far, as latin1. */
  text(): string;
  readonly octets: () => Buffer;
  /** Resolves when what was received satisfies `test`. */
  until(test: (text: string) => boolean): Promise<string>;
  /** Resolves when `count` octets were received. */
  untilLength(count: number): Promise<Buffer>;
  /** Resolves with everything, when the other side has finished or closed. */
  readonly ended: Promise<string>;
}

export async function connectRaw(to: Endpoint | string): Promise<RawClient> {
  const pieces: Buffer[] = [];
  const unsent: Uint8Array[] = [];
  const waiters = new Set<() => void>();
  const { promise: ended, resolve } = Promise.withResolvers<string>();
  let length = 0;
  const octets = (): Buffer => Buffer.concat(pieces);
  const text = (): string => octets().toString("latin1");
  let wantsEnd = false;
  const flush = (socket: { write(bytes: Uint8Array): number; shutdown(): void }): void => {
    while (unsent.length > 0) {
      const piece = unsent[0] as Uint8Array;
      const count = socket.write(piece);
      if (count < piece.length) {
        unsent[0] = piece.subarray(Math.max(0, count));
        return;
      }
      unsent.shift();
    }
    if (wantsEnd) socket.shutdown();
  };
  const handlers: Bun.SocketHandler = {
    data(_, bytes) {
      pieces.push(Buffer.from(bytes));
      length += bytes.length;
      for (const waiter of waiters) waiter();
    },
    drain: flush,
    end() {
      resolve(text());
    },
    close() {
      resolve(text());
    },
    error() {
      resolve(text());
    },
  };
  const socket =
    typeof to === "string"
      ? await Bun.connect({ unix: to, allowHalfOpen: true, socket: handlers })
      : await Bun.connect({ hostname: to.ip, port: to.port, allowHalfOpen: true, socket: handlers });
  const wait = <T>(test: () => boolean, value: () => T): Promise<T> => {
    if (test()) return Promise.resolve(value());
    const { promise, resolve } = Promise.withResolvers<T>();
    const waiter = (): void => {
      if (!test()) return;
      waiters.delete(waiter);
      resolve(value());
    };
    waiters.add(waiter);
    return promise;
  };
  return {
    send(data) {
      unsent.push(typeof data === "string" ? Buffer.from(data) : data);
      if (unsent.length === 1) flush(socket);
    },
    end() {
      wantsEnd = true;
      if (unsent.length === 0) socket.shutdown();
    },
    destroy: () => socket.terminate(),
    text,
    octets,
    until: (test) => wait(() => test(text()), text),
    untilLength: (count) => wait(() => length >= count, octets),
    ended,
  };
}

/** Status code of the first answer in `text`. */
export function statusOf(text: string): number {
  return Number(/^HTTP\/1\.1 ([0-9]{3})/.exec(text)?.[1] ?? 0);
}

/** The JSON behind the first empty line. */
export function jsonOf(text: string): Record<string, unknown> {
  return JSON.parse(text.slice(text.indexOf("\r\n\r\n") + 4)) as Record<string, unknown>;
}
