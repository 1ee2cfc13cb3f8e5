/**
 * Tests whether a router leads back inside what inside hosts send to each other's external endpoints (RFC 4787
 * section 6): two sockets whose external endpoints are known speak to each other by those.
 */
import { type Endpoint, sameEndpoint } from "../ip.ts";
import type { World } from "../net/world.ts";
import type { StunSocket } from "./stun-socket.ts";

const ROUNDS = 3;
const ROUND_MS = 40;

export interface MappedSocket {
  readonly socket: StunSocket;
  /** Its external endpoint. */
  readonly mapped: Endpoint;
}

/**
 * Takes the first two of `sockets` that have one external address. Resolves with whether either was heard by the other
 * within 120 ms, undefined where there are no two, or where nothing is translated.
 */
export async function testHairpin(
  world: Pick<World, "time" | "randomBytes">,
  sockets: readonly MappedSocket[],
  signal: AbortSignal,
): Promise<boolean | undefined> {
  const [one, ...others] = sockets;
  const two = others.find(({ mapped }) => mapped.ip === one?.mapped.ip);
  if (one === undefined || two === undefined || sameEndpoint(one.mapped, one.socket.local)) return undefined;
  const token = world.randomBytes(24);
  return await new Promise<boolean>((resolve) => {
    let round = 0;
    const finish = (isHeard: boolean): void => {
      timer.cancel();
      signal.removeEventListener("abort", silent);
      for (const { socket } of [one, two]) socket.pass({ message: () => undefined });
      resolve(isHeard);
    };
    const silent = (): void => finish(false);
    const speak = (): void => {
      if (round++ === ROUNDS) return silent();
      timer = world.time.after(ROUND_MS, speak, { background: true });
      one.socket.socket.send(token, two.mapped);
      two.socket.socket.send(token, one.mapped);
    };
    for (const { socket } of [one, two]) {
      socket.pass({ message: (bytes) => void (Buffer.compare(bytes, token) === 0 && finish(true)) });
    }
    let timer = world.time.after(0, speak, { background: true });
    if (signal.aborted) silent();
    else signal.addEventListener("abort", silent, { once: true });
  });
}
