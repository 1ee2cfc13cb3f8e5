/**
 * Questions to a router in datagrams: sent again until the answer comes, which must come from the very address and
 * port that were asked. PCP and NAT-PMP use it alike.
 */
import { P2pdError } from "../errors.ts";
import { type Endpoint, formatEndpoint } from "../ip.ts";
import type { Timer, UdpSocket, World } from "../net/world.ts";
import type { Place, PortmapCounters } from "./mapping.ts";

/** RFC 6886 section 3.1 doubles from here; a router in the LAN answers in milliseconds. */
const FIRST_WAIT_MS = 250;
const ANSWER_TIMEOUT_MS = 1500;
/** How long a router whose answer was none is asked to end what it may have mapped. */
export const CLEANUP_MS = 300;

interface Question {
  /** Whether the datagram was the answer. */
  readonly take: (bytes: Uint8Array) => boolean;
  readonly fail: (error: P2pdError) => void;
}

export interface RouterAsker {
  /**
   * Sends `bytes` until `read` makes something of an answer. Rejects with `timeout`, `refused` (nobody listens there),
   * `unreachable`, `aborted` or `closed`.
   */
  ask<Answer>(
    bytes: Uint8Array,
    read: (bytes: Uint8Array) => Answer | undefined,
    options?: { readonly timeoutMs?: number; readonly signal?: AbortSignal },
  ): Promise<Answer>;
  close(): void;
}

/** Asks from `place` at its gateway's `port`. The socket is opened with the first question. */
export function createRouterAsker(
  world: World,
  place: Place,
  port: number,
  counters: PortmapCounters,
): RouterAsker {
  const router: Endpoint = { ip: place.gateway, port };
  const questions = new Set<Question>();
  let opening: Promise<UdpSocket> | undefined;
  let closed = false;

  function open(): Promise<UdpSocket> {
    opening ??= world
      .openUdp({
        local: { ip: place.ip, port: 0 },
        ...(place.device === undefined ? {} : { device: place.device }),
        handlers: {
          message(bytes, from) {
            const isRouter = from.ip === router.ip && from.port === router.port;
            for (const question of questions) if (isRouter && question.take(bytes)) return;
            counters.ignored++;
          },
          error({ code }) {
            // The system tells of an ICMP error; all that was sent went to the router.
            const error = new P2pdError(code, `${formatEndpoint(router)} refuses datagrams`);
            for (const question of questions) question.fail(error);
          },
        },
      })
      .catch((thrown: unknown) => {
        opening = undefined;
        throw thrown;
      });
    return opening;
  }

  return {
    async ask(bytes, read, { timeoutMs = ANSWER_TIMEOUT_MS, signal } = {}) {
      const socket = await open();
      if (closed) {
        socket.close();
        throw new P2pdError("closed", `the question to ${formatEndpoint(router)} was called off`);
      }
      const { promise, resolve, reject } = Promise.withResolvers<NonNullable<ReturnType<typeof read>>>();
      const question: Question = {
        take(answer) {
          const value = read(answer);
          if (value === undefined || value === null) return false;
          counters.answered++;
          resolve(value);
          return true;
        },
        fail: reject,
      };
      const giveUp = (): void =>
        reject(new P2pdError("timeout", `${formatEndpoint(router)} did not answer within ${timeoutMs} ms`));
      const stop = (): void =>
        reject(new P2pdError("aborted", `the question to ${formatEndpoint(router)} was called off`));
      let timer: Timer | undefined;
      const send = (waitMs: number): void => {
        counters.sent++;
        socket.send(bytes, router);
        timer = world.time.after(waitMs, () => send(2 * waitMs), { background: true });
      };
      const end = world.time.after(timeoutMs, giveUp, { background: true });
      questions.add(question);
      signal?.addEventListener("abort", stop, { once: true });
      try {
        if (signal?.aborted === true) stop();
        else send(FIRST_WAIT_MS);
        return await promise;
      } finally {
        timer?.cancel();
        end.cancel();
        questions.delete(question);
        signal?.removeEventListener("abort", stop);
      }
    },
    close() {
      closed = true;
      for (const question of questions)
        question.fail(new P2pdError("closed", `the question to ${formatEndpoint(router)} was called off`));
      opening?.then(
        (socket) => socket.close(),
        () => undefined, // whoever asked has heard why it did not open
      );
    },
  };
}
