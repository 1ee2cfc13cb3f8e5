/**
 * The relay strategy of who opens: an allocation on a TURN server of ours, whose address the peer is told and connects
 * to; or, where we have no server that serves, one on a server of the peer's, to which we connect. In either case we
 * are the caller: we greet, and the peer's services and queue answer.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { type Endpoint, type Family, formatEndpoint, scopeOf } from "../ip.ts";
import { randomWord } from "../net/random-word.ts";
import type { Credentials, QuicEndpoint, World } from "../net/world.ts";
import type { Signaling } from "../signal/signaling.ts";
import type { OpenTurn } from "../turn/open-turn.ts";
import type { Address } from "../wire/address.ts";
import type { AnswerBody, OfferBody } from "../wire/signal-message.ts";
import type { SignalRelay } from "../wire/signal-relay.ts";
import type { AwaitedAnswers } from "./answers.ts";
import { pause } from "./pause.ts";
import type { OwnNetworks } from "./plan.ts";
import type { Attempt, AttemptContext, BarePath, Path } from "./race.ts";
import { callRelay, refuseRelay } from "./relay-call.ts";
import { holdRelay, type RelaySource } from "./relay-hold.ts";

/** What both ends need of the node. */
export interface RelaySetting {
  readonly world: World;
  readonly credentials: Credentials;
  readonly source: RelaySource;
  /** Where QUIC leaves from. */
  readonly quic: () => QuicEndpoint | undefined;
  readonly own: () => OwnNetworks;
  /** Whether UDP is known to be blocked here. */
  readonly isUdpBlocked: () => boolean;
}

export interface RelayOptions extends RelaySetting {
  readonly signaling: Pick<Signaling, "request" | "send">;
  readonly answers: AwaitedAnswers;
  /** The newest that is known. */
  readonly peer: () => Address;
  readonly peerKey: Uint8Array;
  /** Our own address line, as it is now. */
  readonly address: () => string;
  readonly transports: readonly ("tcp" | "udp")[];
}

/** The peer keeps trying for about so long. */
export const RELAY_CALL_TIMEOUT_MS = 8000;
/** One way of relaying has the field for so long before the next one begins beside it. */
const LEAD_MS = 3000;

/** What can be tried, best first: QUIC through the relay, or where UDP is blocked on a side, TLS. */
export function relayLane(options: RelayOptions): readonly Attempt[] {
  const { transports, source, world } = options;
  const isBlocked = options.isUdpBlocked() || isUdpBlockedAt(options.peer());
  const usable = transports.filter((one) => one === "tcp" || world.openQuic !== undefined);
  const order = usable.toSorted((a, b) => (isBlocked ? a.localeCompare(b) : b.localeCompare(a)));
  const attempt = (transport: "tcp" | "udp", whose: "our" | "their"): Attempt => ({
    strategy: "relay",
    candidate: `${whose === "our" ? "our server" : "the peer's server"}, ${transport.toUpperCase()}`,
    leadMs: LEAD_MS,
    run: (context) => (whose === "our" ? byOurs : byTheirs)(options, transport, context),
  });
  return [
    ...(source.isAny ? order.map((transport) => attempt(transport, "our")) : []),
    ...order.map((transport) => attempt(transport, "their")),
  ];
}

function isUdpBlockedAt({ nics }: Address): boolean {
  return nics.length > 0 && nics.every(({ nat }) => nat === "blocked");
}

async function byOurs(
  options: RelayOptions,
  transport: "tcp" | "udp",
  context: AttemptContext,
): Promise<Path> {
  const { world, source, peer, credentials, peerKey, answers } = options;
  const { note } = context;
  const began = world.time.now();
  note("allocating", `${transport.toUpperCase()} on a TURN server`);
  const turn = await unlessAborted(source.open(transport, familyFor(peer())), context.signal);
  const { host, port } = turn.from;
  const server = `${host}:${port} over ${turn.link.transport.toUpperCase()}`;
  const held = await holdRelay(world, turn, { transport, credentials, peerKey, note });
  const [request, token] = [randomWord(world), randomWord(world)];
  const ms = (world.time.now() - began).toFixed(0);
  note("allocated", `${formatEndpoint(held.at)} on ${server}, in ${ms} ms`);
  const stopping = new AbortController();
  const stop = (): void => stopping.abort();
  context.signal.addEventListener("abort", stop, { once: true });
  if (context.signal.aborted) stop();
  let isAsked = false;
  try {
    // In one flight with the offer, hence there before the peer as a rule.
    held.permit(addressesOf(peer(), held.at));
    const asked = { token, request, peerId: peer().id, peerKey };
    const comesFrom = (ips: readonly string[]): void => held.permit(fitting(ips, held.at));
    const refused = answers.expect({ ...asked, comesFrom }, stopping.signal);
    refused.catch(() => undefined);
    isAsked = true;
    const relay = { transport, link: turn.link.transport, at: held.at };
    const answered = ask(options, request, relay, { ...context, signal: stopping.signal });
    const late = answered.then(() => tooLate(world, context, stopping.signal));
    late.catch(() => undefined);
    const path = await Promise.race([held.arrived, refused as Promise<never>, late]);
    isAsked = false;
    return toPath(path, turn.link.transport, held.at, note);
  } catch (thrown) {
    held.close();
    throw thrown;
  } finally {
    context.signal.removeEventListener("abort", stop);
    stop();
    if (isAsked && context.signal.aborted) giveUp(options, request);
  }
}

async function byTheirs(
  options: RelayOptions,
  transport: "tcp" | "udp",
  context: AttemptContext,
): Promise<Path> {
  const { world, source, peer, credentials, peerKey, quic, own, isUdpBlocked, signaling } = options;
  const { note } = context;
  const request = randomWord(world);
  let isAsked = true;
  try {
    const answer = await ask(options, request, { transport }, context);
    const { at, link = "udp" } = answer.relay ?? {};
    if (at === undefined) throw new P2pdError("protocol", "the peer's answer names no relayed address");
    const refusal = refuseRelay(at, peer(), own());
    if (refusal !== undefined) throw new P2pdError("refused", refusal);
    note("connecting", `to ${formatEndpoint(at)}, the peer's relay`);
    const path = await callRelay(world, {
      at,
      transport,
      credentials,
      peerKey,
      quic: isUdpBlocked() ? undefined : quic(),
      source,
      comesFrom: (ips) => {
        const { id, brokers } = peer();
        signaling.send(id, brokers, { type: "permit", request, ips }).catch((thrown: unknown) => {
          note("not sent", toP2pdError(thrown).message);
        });
      },
      timeoutMs: Math.min(RELAY_CALL_TIMEOUT_MS, context.leftMs()),
      signal: context.signal,
      note,
    });
    isAsked = false;
    return toPath(path, link, at, note);
  } catch (thrown) {
    const error = toP2pdError(thrown, "connect-failed");
    if (source.isAny || error.code === "aborted") throw error;
    const text = `no turnServers are configured here, and ${error.message}`;
    throw new P2pdError(error.code, text, error.detail, { cause: error });
  } finally {
    if (isAsked && context.signal.aborted) giveUp(options, request);
  }
}

function toPath(
  { stream, transport, rttMs }: BarePath,
  link: string,
  at: Endpoint,
  note: AttemptContext["note"],
): Path {
  note("authenticated", stream.cipher);
  const candidate = `${formatEndpoint(at)}/${transport}`;
  return { strategy: "relay", transport, via: `turn-${link}`, candidate, stream, rttMs };
}

/** Sends the offer; resolves with an answer that accepts it. */
async function ask(
  { signaling, peer, address, world }: RelayOptions,
  request: string,
  relay: SignalRelay,
  { note, leftMs, signal }: AttemptContext,
): Promise<AnswerBody> {
  const { id, brokers } = peer();
  const began = world.time.now();
  const offer: OfferBody = { type: "offer", request, address: address(), strategies: ["relay"], relay };
  note("offering", relay.at === undefined ? "the peer is asked for a relay" : "the peer is asked to come");
  const limits = { timeoutMs: leftMs(), signal };
  const reply = await signaling.request(id, brokers, offer, limits).catch((thrown: unknown) => {
    throw explain(toP2pdError(thrown, "connect-failed"));
  });
  if (reply.type !== "answer") throw new P2pdError("protocol", "the peer answered with something else");
  if (!reply.accepted) {
    const why = reply.text ?? reply.code ?? "it does not say why";
    throw new P2pdError("refused", `the peer takes no part in this relay: ${why}`);
  }
  note("answered", `after ${(world.time.now() - began).toFixed(0)} ms`);
  return reply;
}

function giveUp({ signaling, peer }: RelayOptions, request: string): void {
  const { id, brokers } = peer();
  const body = { type: "cancel", request, code: "aborted" } as const;
  signaling.send(id, brokers, body).catch(() => undefined);
}

/** Rejects when the peer had its time. */
async function tooLate(world: World, { leftMs }: AttemptContext, signal: AbortSignal): Promise<never> {
  await pause(world, Math.min(RELAY_CALL_TIMEOUT_MS + 1000, leftMs()), signal);
  throw new P2pdError("timeout", "the peer took the offer, and did not come to the relayed address");
}

/** What is obtained in spite of an abort is given back. */
async function unlessAborted(opening: Promise<OpenTurn>, signal: AbortSignal): Promise<OpenTurn> {
  const { promise, reject } = Promise.withResolvers<never>();
  const giveUp = (): void => {
    opening.then(
      (turn) => void turn.close(),
      () => undefined,
    );
    reject(new P2pdError("aborted", "opening was given up"));
  };
  signal.addEventListener("abort", giveUp, { once: true });
  if (signal.aborted) giveUp();
  try {
    return await Promise.race([opening, promise]);
  } finally {
    signal.removeEventListener("abort", giveUp);
  }
}

/** Of the relayed address: one with which the peer reaches the internet, IPv4 before IPv6. */
export function familyFor({ nics }: Address): Family {
  const outside = nics.filter(
    ({ external, address }) => external !== undefined || scopeOf(address) === "public",
  );
  const known = outside.length > 0 ? outside : nics;
  return known.length === 0 || known.some(({ family }) => family === 4) ? 4 : 6;
}

/** From where the peer may come to a relayed address, a relay of its own on the same server included. */
export function addressesOf({ nics }: Address, at: Endpoint): readonly string[] {
  const ips = nics.flatMap(({ external, address }) => [external, address].filter((ip) => ip !== undefined));
  return fitting([...ips, at.ip], at);
}

/** Servers refuse what is not public, unless they are in such a network themselves. */
export function fitting(ips: readonly string[], at: Endpoint): readonly string[] {
  const isPrivate = scopeOf(at.ip) !== "public";
  return [...new Set(ips)].filter((ip) => isPrivate || scopeOf(ip) === "public");
}

function explain(error: P2pdError): P2pdError {
  if (error.code !== "timeout") return error;
  const text = `the peer did not answer on any broker: it is off, or it listens on other brokers (${error.message})`;
  return new P2pdError("timeout", text, error.detail, { cause: error });
}
