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

/** A lost SYN costs systems a second; a new attempt comes sooner. */
const ATTEMPT_MS = [300, 600, 3000];
/** Where systems choose ports for themselves; the one that all servers see is from here. */
const SHARED_LOW = 49_152;
const SHARED_SIZE = 16_000;

export async function observeTcp(world: ObserveWorld, options: ObserveOptions): Promise<NatObservations> {
  const { localIp, device } = options;
  const signal = AbortSignal.any([options.silence, options.signal]);
  const opened: StunStream[] = [];
  const [a = 0, b = 0] = world.randomBytes(2);
  const shared = { ip: localIp, port: SHARED_LOW + (((a << 8) | b) % SHARED_SIZE) };

  async function ask(remote: Endpoint, local: Endpoint, isShared: boolean): Promise<BindingResult> {
    const attempts = isShared ? ATTEMPT_MS : ATTEMPT_MS.slice(-1);
    const stun = await connect(remote, local, isShared, attempts);
    opened.push(stun);
    if (signal.aborted) stun.stream.abort();
    return await bindingRequest(stun, remote, { signal });
  }

  async function connect(
    remote: Endpoint,
    local: Endpoint,
    isShared: boolean,
    [timeoutMs = 0, ...others]: readonly number[],
  ): Promise<StunStream> {
    try {
      const tied = device === undefined ? {} : { device };
      return await connectStun(world, { remote, local, shared: isShared, timeoutMs, signal, ...tied });
    } catch (thrown) {
      const again = thrown instanceof P2pdError && thrown.code === "timeout" && others.length > 0;
      if (!again || signal.aborted) throw thrown;
      return connect(remote, local, isShared, others);
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
    // Reset, not ended: the router may forget it at once, and so may this machine.
    for (const { stream } of opened) stream.abort();
  }
}
