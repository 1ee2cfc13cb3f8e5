/**
 * Observes what a router does to TCP. How it filters cannot be: no server of RFC 5780 connects back.
 */
import { P2pdError } from "../errors.ts";
import type { Endpoint } from "../ip.ts";
import type { NatObservations } from "../nat/observations.ts";
import { bindingRequest, type BindingResult } from "./binding.ts";
import {
  type MappingProbe,
  type ObserveOptions,
  observeMappings,
  type ObserveWorld,
} from "./observe-mappings.ts";
import { RUN_LENGTH } from "./probe-ports.ts";
import { connectStun, type StunStream } from "./stun-stream.ts";

/**
 * A lost SYN costs systems a second; of what all servers see a new attempt is made sooner. Where it was the answer that
 * was lost, the second attempt only clears what the first has left at the server, so the third follows soon.
 * Milliseconds.
 */
const EARLY_ATTEMPTS_MS = [250, 130, 270];
const LAST_ATTEMPT_MS = 3000;
const SHORTEST_ANSWER_MS = 200;
/** Where systems choose ports for themselves; the one that all servers see is from here. */
const SHARED_LOW = 49_152;
const SHARED_SIZE = 16_000;

export async function observeTcp(world: ObserveWorld, options: ObserveOptions): Promise<NatObservations> {
  const { localIp, device } = options;
  const end = new AbortController();
  const signal = AbortSignal.any([end.signal, options.silence, options.signal]);
  const opened: StunStream[] = [];
  const [a = 0, b = 0] = world.randomBytes(2);
  const shared = { ip: localIp, port: SHARED_LOW + (((a << 8) | b) % SHARED_SIZE) };

  /** Connects and asks; where packets were lost, once more before the system would repeat them. */
  async function ask(
    remote: Endpoint,
    local: Endpoint,
    isShared: boolean,
    [attemptMs = LAST_ATTEMPT_MS, ...others]: readonly number[] = isShared ? EARLY_ATTEMPTS_MS : [],
  ): Promise<BindingResult> {
    const isLast = attemptMs === LAST_ATTEMPT_MS;
    const beganMs = world.time.now();
    let stun: StunStream | undefined;
    try {
      const tied = device === undefined ? {} : { device };
      const place = { remote, local, shared: isShared, timeoutMs: attemptMs, signal, ...tied };
      stun = await connectStun(world, place);
      opened.push(stun);
      if (signal.aborted) stun.stream.abort();
      const tookMs = world.time.now() - beganMs;
      const timeoutMs = isLast ? LAST_ATTEMPT_MS : Math.max(SHORTEST_ANSWER_MS, 3 * tookMs);
      return await bindingRequest(stun, remote, { signal, timeoutMs });
    } catch (thrown) {
      if (!(thrown instanceof P2pdError) || thrown.code !== "timeout" || isLast || signal.aborted)
        throw thrown;
      stun?.stream.abort();
      return ask(remote, local, isShared, others);
    }
  }

  const probe: MappingProbe = {
    shared,
    ask: (server) => ask(server, shared, true),
    askFresh(firsts, serverAt) {
      const ports = firsts.flatMap((first) => Array.from({ length: RUN_LENGTH }, (_, i) => first + i));
      const sent = ports.map((port, i) => ({
        localPort: port,
        answer: ask(serverAt(i), { ip: localIp, port }, false),
      }));
      for (const { answer } of sent) answer.catch(() => undefined);
      return Promise.resolve(sent);
    },
  };
  try {
    const views = await observeMappings(world, probe, options);
    return { local: shared, views };
  } finally {
    end.abort();
    // Reset, not ended: the router may forget it at once, and so may this machine.
    for (const { stream } of opened) stream.abort();
  }
}
