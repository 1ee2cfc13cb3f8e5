/**
 * Tests whether a router leads back inside what inside hosts send to each other's external endpoints (RFC 4787
 * section 6): two sockets whose external endpoints are known speak to each other by those.
 */
import { type Endpoint, sameEndpoint } from "../ip.ts";
import type { World } from "../net/world.ts";
import type { BindingResult } from "./binding.ts";
import type { StunSocket } from "./stun-socket.ts";

const ROUNDS = 3;
const ROUND_MS = 40;

/**
 * Takes the first two of `sockets` that have been answered with one address. Resolves with whether either was heard by
 * the other within 120 ms, undefined where there are no two.
 */
export async function testHairpin(
  world: Pick<World, "time" | "randomBytes">,
  sockets: readonly { readonly socket: StunSocket; readonly answer: Promise<BindingResult> }[],
  signal: AbortSignal,
): Promise<boolean | undefined> {
  const answered: { socket: StunSocket; mapped: Endpoint }[] = [];
  for (const { socket, answer } of sockets) {
    const mapped = await settledNow(answer);
    if (mapped !== undefined) answered.push({ socket, mapped: mapped.mapped });
  }
  const one = answered[0];
  const two = answered.slice(1).find(({ mapped }) => mapped.ip === one?.mapped.ip);
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

/** The answer, if it is there already. */
function settledNow(answer: Promise<BindingResult>): Promise<BindingResult | undefined> {
  return Promise.race([answer.catch(() => undefined), Promise.resolve(undefined)]);
}
