/**
 * Observes what a router does to UDP. Filters are tested from the start, on ports of their own, while the rest goes on:
 * nothing that is sent meanwhile opens what they test.
 */
import type { Endpoint } from "../ip.ts";
import type { NatObservations, ServerView } from "../nat/observations.ts";
import { bindingRequest, type BindingResult, mayFollow } from "./binding.ts";
import {
  type MappingProbe,
  type ObserveOptions,
  observeMappings,
  type ObserveWorld,
  portOrNone,
} from "./observe-mappings.ts";
import { openRun } from "./probe-ports.ts";
import { attachStun, type StunSocket } from "./stun-socket.ts";
import { type Hearings, testFilter } from "./test-filter.ts";
import { type MappedSocket, testHairpin } from "./test-hairpin.ts";

/** A request is sent at 0, 80, 240 and 560 ms. */
const RTO_MS = 80;
/** The third sending of a question for an answer from elsewhere has so long for that at least. */
const THIRD_SENT_MS = 3 * RTO_MS;
const SHORTEST_WAIT_MS = 160;

/** Rejects as `World.openUdp` does when no port can be had. */
export async function observeUdp(world: ObserveWorld, options: ObserveOptions): Promise<NatObservations> {
  const { servers, localIp, device } = options;
  const signal = AbortSignal.any([options.silence, options.signal]);
  const opened: StunSocket[] = [];
  const asked = new Map<Endpoint, Promise<BindingResult>>();
  const fresh: MappedSocket[] = [];
  const filtersEnd = new AbortController();
  const beganMs = world.time.now();
  let slowestMs = 0;

  async function open(port: number): Promise<StunSocket> {
    const local = { ip: localIp, port };
    const socket = await world.openUdp({ local, ...(device === undefined ? {} : { device }) });
    const stun = attachStun(world, socket);
    opened.push(stun);
    return stun;
  }
  function ask(from: StunSocket, to: Endpoint): Promise<BindingResult> {
    return bindingRequest(from, to, { rtoMs: RTO_MS, maxRedirects: 0, signal });
  }

  try {
    const shared = await open(0);
    const ears = await Promise.all(servers.map(() => open(0)));
    const probe: MappingProbe = {
      shared: shared.local,
      ask(server) {
        const answer = ask(shared, server);
        asked.set(server, answer);
        return answer;
      },
      async askFresh(firsts, serverAt) {
        const runs: StunSocket[] = [];
        for (const first of firsts)
          runs.push(...(await portOrNone(openRun(first, open, ({ socket }) => socket.close()))));
        return runs.map((socket, i) => {
          const answer = ask(socket, serverAt(i));
          answer.then(
            ({ from, mapped }) => void (mayFollow(from, mapped) && fresh.push({ socket, mapped })),
            () => undefined,
          );
          return { localPort: socket.local.port, answer };
        });
      },
    };
    const mapping = observeMappings(world, probe, {
      ...options,
      answered(rttMs) {
        slowestMs = Math.max(slowestMs, rttMs);
        options.answered(rttMs);
      },
    });
    const hearing = servers.map((server, i) =>
      testFilter(ears[i] as StunSocket, server, asked.get(server) as Promise<BindingResult>, {
        rtoMs: RTO_MS,
        signal: AbortSignal.any([filtersEnd.signal, signal]),
        proven: () => filtersEnd.abort(),
      }),
    );
    const views = await mapping;
    if (views.length === 0) return { local: shared.local, views };
    const waitMs = beganMs + THIRD_SENT_MS + Math.max(SHORTEST_WAIT_MS, 3 * slowestMs) - world.time.now();
    const deadline = world.time.after(Math.max(0, waitMs), () => filtersEnd.abort(), { background: true });
    const [hairpinned, heard] = await Promise.all([testHairpin(world, fresh, signal), Promise.all(hearing)]);
    deadline.cancel();
    return {
      local: shared.local,
      views: servers.flatMap((endpoint, i) => withHearings(views, endpoint, heard[i] as Hearings)),
      ...(hairpinned === undefined ? {} : { hairpinned }),
    };
  } finally {
    for (const stun of opened) {
      stun.close();
      stun.socket.close();
    }
  }
}

/** A server whose first answer came too late for the rest may yet have let hear from it. */
function withHearings(
  views: readonly ServerView[],
  endpoint: Endpoint,
  hearings: Hearings,
): readonly ServerView[] {
  const view = views.find((one) => one.endpoint === endpoint);
  if (view !== undefined) return [{ ...view, ...hearings }];
  return hearings.fromOtherAddress === "untested" ? [] : [{ endpoint, seen: [], samples: [], ...hearings }];
}
