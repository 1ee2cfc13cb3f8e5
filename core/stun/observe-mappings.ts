/**
 * Observes how a router maps one protocol, by STUN: which external endpoint several servers, and other endpoints of the
 * same, see of one local port, and which external ports a series of fresh local ports get. Knows neither UDP nor TCP,
 * which are a `MappingProbe` each, and judges nothing.
 */
import { P2pdError } from "../errors.ts";
import { type Endpoint, familyOf, sameEndpoint, scopeOf } from "../ip.ts";
import { agreedAddress, judgeDelta } from "../nat/classify.ts";
import { externalRange } from "../nat/delta.ts";
import type { MappingSample, ServerView } from "../nat/observations.ts";
import type { World } from "../net/world.ts";
import { implausible } from "./ask-servers.ts";
import { answersInTime } from "./answers-in-time.ts";
import { type BindingResult, mayFollow } from "./binding.ts";
import { chooseRuns } from "./probe-ports.ts";

export type ObserveWorld = Pick<World, "time" | "randomBytes" | "openUdp" | "connectTcp">;

export interface ObserveOptions {
  readonly localIp: string;
  /** Name of the NIC that packets must leave by. */
  readonly device?: string;
  /** Each another endpoint. */
  readonly servers: readonly Endpoint[];
  /** Fires when nobody has answered and it is in vain to wait; never afterwards. */
  readonly silence: AbortSignal;
  /** Ends everything; what was seen by then is the result. */
  readonly signal: AbortSignal;
  /** Told of every server's first answer and the round trip it took, in milliseconds. */
  readonly answered: (rttMs: number) => void;
}

/** Asks servers over one protocol. */
export interface MappingProbe {
  /** The endpoint that `ask` asks from. */
  readonly shared: Endpoint;
  ask(server: Endpoint): Promise<BindingResult>;
  /**
   * Asks from runs of fresh ports that begin at `firsts`, the i-th port `serverAt(i)`. Resolves when all questions have
   * left, in this order.
   */
  askFresh(
    firsts: readonly number[],
    serverAt: (i: number) => Endpoint,
  ): Promise<readonly { readonly localPort: number; readonly answer: Promise<BindingResult> }[]>;
}

/** Servers whose word is asked on the allocation of ports; more would add packets and no certainty. */
const MOST_SAMPLED = 3;
/** One answer is no agreement; with two, others are waited for only as long as one repeated question takes. */
const FIRST_ANSWERS = {
  extraMs: (tookMs: number) => Math.max(100, 1.5 * tookMs),
  longestMs: (tookMs: number) => Math.max(700, 2 * tookMs),
};
/** Who has not answered when most have gets a little longer. */
const STRAGGLERS = { share: 0.6, extraMs: (tookMs: number) => Math.max(120, 1.5 * tookMs) };

interface Candidate {
  readonly endpoint: Endpoint;
  readonly answer: BindingResult;
}

/** What each server saw that answered; of filtering nothing is known then. */
export async function observeMappings(
  world: ObserveWorld,
  probe: MappingProbe,
  { servers, silence, signal: given, answered }: ObserveOptions,
): Promise<readonly ServerView[]> {
  const { time } = world;
  const signal = AbortSignal.any([silence, given]);
  const candidates = await firstAnswers();
  if (candidates.length === 0) return [];
  const chosen = chooseServers(candidates, probe.shared.ip);
  const seen = new Map<Endpoint, ServerView["seen"][number][]>();
  const samples = new Map<Endpoint, MappingSample[]>(chosen.map(({ endpoint }) => [endpoint, []]));
  const views = (): ServerView[] =>
    candidates.map((one) => ({
      ...firstView(one),
      seen: [...firstView(one).seen, ...(seen.get(one.endpoint) ?? [])],
      samples: samples.get(one.endpoint) ?? [],
    }));
  const turns: Endpoint[] = [];
  /** By turns, but in another order each time, so that no server sees odd or even ports alone. */
  const serverAt = (i: number): Endpoint => {
    while (turns.length <= i) turns.push(...shuffled(world, chosen).map(({ endpoint }) => endpoint));
    return turns[i] as Endpoint;
  };
  let asked = 0;

  const isTranslated = chosen.some(({ answer }) => !sameEndpoint(answer.mapped, probe.shared));
  const collected = isTranslated ? await sample() : undefined;
  await Promise.all([collected?.(), compare()]);
  if (isTranslated && judgeDelta(views()).type === "random") {
    // Local ports outside of the router's range cannot be kept: ask once more from within what was seen of it.
    const all = [...samples.values()].flat();
    if (all.length > 0) await (await sample(externalRange(all)))();
  }
  return views();

  async function firstAnswers(): Promise<readonly Candidate[]> {
    const questions = servers.map((endpoint) => probe.ask(endpoint));
    for (const question of questions) {
      question.then(
        ({ rttMs }) => answered(rttMs),
        () => undefined,
      );
    }
    const answers = await answersInTime(time, questions, {
      ...FIRST_ANSWERS,
      share: 2 / servers.length,
      signal,
    });
    return servers.flatMap((endpoint, i) => {
      const answer = answers[i];
      return answer === undefined || isLie(endpoint, answer.mapped) ? [] : [{ endpoint, answer }];
    });
  }

  /** Resolves when the questions have left, with how to wait for the answers. */
  async function sample(range?: readonly [number, number]): Promise<() => Promise<void>> {
    const before = asked;
    const sent = await probe.askFresh(chooseRuns(world, range), serverAt);
    asked += sent.length;
    return async () => {
      const answers = await answersInTime(
        time,
        sent.map(({ answer }) => answer),
        { ...STRAGGLERS, signal },
      );
      answers.forEach((answer, i) => {
        if (answer === undefined) return;
        const { localPort } = sent[i] as (typeof sent)[number];
        samples.get(serverAt(i))?.push({ position: before + i, localPort, externalPort: answer.mapped.port });
      });
    };
  }

  /** Has the other endpoints of the chosen servers look at the shared port. */
  async function compare(): Promise<void> {
    const places = chosen.flatMap(({ endpoint, answer: { otherAddress } }) =>
      otherEndpoints(endpoint, otherAddress).map((remote) => ({ endpoint, remote })),
    );
    const questions = places.map(({ remote }) => probe.ask(remote));
    const answers = await answersInTime(time, questions, { ...STRAGGLERS, signal });
    places.forEach(({ endpoint, remote }, i) => {
      const mapped = answers[i]?.mapped;
      if (mapped !== undefined) seen.set(endpoint, [...(seen.get(endpoint) ?? []), { remote, mapped }]);
    });
  }
}

function firstView({ endpoint, answer: { mapped, otherAddress } }: Candidate): ServerView {
  return {
    endpoint,
    ...(otherAddress === undefined ? {} : { other: otherAddress }),
    seen: [{ remote: endpoint, mapped }],
    samples: [],
    fromOtherAddress: "untested",
    fromOtherPort: "untested",
  };
}

/** The nearest of those that name the address that most do; of all, where none has a majority. */
function chooseServers(candidates: readonly Candidate[], localIp: string): readonly Candidate[] {
  const external = agreedAddress(candidates.map(firstView), localIp);
  const agreeing = candidates.filter(({ answer }) => external === undefined || answer.mapped.ip === external);
  return agreeing.toSorted((a, b) => a.answer.rttMs - b.answer.rttMs).slice(0, MOST_SAMPLED);
}

/** Nobody outside of this machine or network can see us at an address that is for inside. */
function isLie(server: Endpoint, mapped: Endpoint): boolean {
  const scope = scopeOf(mapped.ip);
  const isInside = scope === "loopback" || scope === "link-local";
  return implausible(mapped, familyOf(server.ip)) !== undefined || (isInside && scope !== scopeOf(server.ip));
}

function shuffled<T>(world: Pick<World, "randomBytes">, all: readonly T[]): readonly T[] {
  const keys = world.randomBytes(all.length);
  return [...all.keys()].sort((a, b) => (keys[a] as number) - (keys[b] as number)).map((i) => all[i] as T);
}

/** With the same address and another port, and with another address: two of those, as one may be lost. */
function otherEndpoints(endpoint: Endpoint, other: Endpoint | undefined): readonly Endpoint[] {
  if (other === undefined || !mayFollow(endpoint, other)) return [];
  const near = { ip: endpoint.ip, port: other.port };
  const far = { ip: other.ip, port: endpoint.port };
  const all = [near, other, ...(sameEndpoint(far, other) ? [] : [far])];
  return all.filter((one) => !sameEndpoint(one, endpoint));
}

/** A question whose port cannot be had is one that nobody answers. */
export async function portOrNone<T>(opening: Promise<readonly T[]>): Promise<readonly T[]> {
  try {
    return await opening;
  } catch (thrown) {
    if (thrown instanceof P2pdError) return [];
    throw thrown;
  }
}
