/**
 * Measures how long a router keeps a UDP mapping that carries nothing (RFC 5780 section 4.6). A socket makes a mapping,
 * falls silent, and then it is found out whether the mapping is still there: another socket has the server answer to its
 * port (RESPONSE-PORT), or, where the server does not do that and a new mapping would have another port, the socket itself
 * asks under which port it is seen.
 */
import { P2pdError } from "../errors.ts";
import { type Endpoint, sameEndpoint } from "../ip.ts";
import { SILENCES_MS } from "../nat/mapping-life.ts";
import type { UdpSocket, World } from "../net/world.ts";
import * as kinds from "../wire/stun-attributes.ts";
import { BINDING, decodeStun, encodeStun } from "../wire/stun.ts";
import { bindingRequest } from "./binding.ts";
import { attachStun } from "./stun-socket.ts";

export interface MeasureLifeOptions {
  readonly localIp: string;
  readonly device?: string | undefined;
  readonly server: Endpoint;
  /** Whether a mapping that is made anew gets another port. */
  readonly changesPorts: boolean;
  readonly signal: AbortSignal;
}

type LifeWorld = Pick<World, "time" | "randomBytes" | "openUdp">;

/** Routers keep what goes to and fro for some seconds longer than what was one question and one answer. */
const EXCHANGES = 3;
const EXCHANGE_EVERY_MS = 1200;
const ANSWER_MS = 2000;
/** A request that has another socket answered is sent at these times, and given up at the last. */
const HEAR_MS = [0, 400, 1000, 1700] as const;

/**
 * The longest of `SILENCES_MS` that a mapping has outlived, in milliseconds; 0: not even the shortest; undefined: this
 * server cannot tell. Takes a minute, or three where the router is impatient, and at most 40 requests. Rejects with
 * `timeout` when the server falls silent, `aborted`, or as `World.openUdp` does.
 */
export async function measureLife(
  world: LifeWorld,
  options: MeasureLifeOptions,
): Promise<number | undefined> {
  let canHear: boolean | undefined;
  for (const silenceMs of SILENCES_MS) {
    const socket = await open(world, options);
    try {
      const mapped = await exchange(world, socket, options);
      canHear ??= await hears(world, socket, mapped.port, options);
      if (!canHear && !options.changesPorts) return undefined;
      await pause(world, silenceMs, options.signal);
      const isKept = canHear
        ? await hears(world, socket, mapped.port, options)
        : sameEndpoint(await ask(world, socket, options), mapped);
      if (isKept) return silenceMs;
    } finally {
      socket.close();
    }
  }
  return 0;
}

function open(world: LifeWorld, { localIp, device }: MeasureLifeOptions): Promise<UdpSocket> {
  return world.openUdp({ local: { ip: localIp, port: 0 }, ...(device === undefined ? {} : { device }) });
}

/** Under which endpoint the socket is seen. */
async function ask(
  world: LifeWorld,
  socket: UdpSocket,
  { server, signal }: MeasureLifeOptions,
): Promise<Endpoint> {
  const stun = attachStun(world, socket);
  try {
    return (await bindingRequest(stun, server, { timeoutMs: ANSWER_MS, signal })).mapped;
  } finally {
    stun.close();
  }
}

/** As a path does that is in use. */
async function exchange(world: LifeWorld, socket: UdpSocket, options: MeasureLifeOptions): Promise<Endpoint> {
  for (let done = 1; ; done++) {
    const mapped = await ask(world, socket, options);
    if (done === EXCHANGES) return mapped;
    await pause(world, EXCHANGE_EVERY_MS, options.signal);
  }
}

/** Whether what the server sends to the external `port` comes to `socket`; another socket asks it to. */
async function hears(
  world: LifeWorld,
  socket: UdpSocket,
  port: number,
  options: MeasureLifeOptions,
): Promise<boolean> {
  const { server, signal } = options;
  const transactionId = world.randomBytes(12);
  const attributes = [kinds.attribute(kinds.RESPONSE_PORT, port)];
  const request = encodeStun({ class: "request", method: BINDING, transactionId, attributes });
  let isHeard = false;
  const waiting = new AbortController();
  socket.attach({
    message(bytes, from) {
      const answer = decodeStun(bytes.slice());
      if (typeof answer === "string" || !sameEndpoint(from, server)) return;
      if (answer.class !== "success" || Buffer.compare(answer.transactionId, transactionId) !== 0) return;
      isHeard = true;
      waiting.abort();
    },
  });
  const asker = await open(world, options);
  try {
    for (const [i, atMs] of HEAR_MS.entries()) {
      const next = HEAR_MS[i + 1];
      if (next === undefined) break;
      asker.send(request, server);
      await pause(world, next - atMs, AbortSignal.any([signal, waiting.signal]));
    }
  } catch (thrown) {
    if (!isHeard) throw thrown;
  } finally {
    asker.close();
  }
  return isHeard;
}

/** Rejects with `aborted` when the signal fires. */
function pause(world: LifeWorld, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const giveUp = (): void => {
      timer.cancel();
      reject(new P2pdError("aborted", "the measurement of a mapping's life was called off"));
    };
    const timer = world.time.after(
      delayMs,
      () => {
        signal.removeEventListener("abort", giveUp);
        resolve();
      },
      { background: true },
    );
    signal.addEventListener("abort", giveUp, { once: true });
    if (signal.aborted) giveUp();
  });
}
