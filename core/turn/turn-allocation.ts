/**
 * An allocation on a TURN server (RFC 8656): made, kept with its permissions and channels until it is closed, and used to
 * exchange datagrams with peers. Knows no sockets: a link carries it. TCP allocations (RFC 6062) are made here too; their
 * connections are in `turn-connections.ts`.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { type Endpoint, type Family, familyOf, formatEndpoint } from "../ip.ts";
import type { Timer, World } from "../net/world.ts";
import { type Attribute, attribute, XOR_MAPPED_ADDRESS } from "../wire/stun-attributes.ts";
import { encodeStun, readAttribute, type StunMessage } from "../wire/stun.ts";
import * as turn from "../wire/turn.ts";
import { CHANNEL_RENEW_MS, PERMISSION_RENEW_MS, renewAfterMs, retryAfterMs } from "./keep-up.ts";
import { turnCodeOf, turnError } from "./turn-error.ts";
import type { TurnLink } from "./turn-link.ts";
import type { TurnLogin } from "./turn-login.ts";

export interface AllocateOptions {
  /** What is relayed: datagrams, or connections (over a link of TCP or TLS only). */
  readonly relayed: "udp" | "tcp";
  /** One family, or both; of both, one that the server has not is left out. */
  readonly families: readonly Family[];
  readonly lifetimeSeconds?: number;
  /** Until an answer to a request: 5,000 ms by default. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export interface AllocationHandlers {
  /** A datagram of a peer; the view is valid during the call only. */
  message(bytes: Uint8Array, from: Endpoint): void;
  /** A peer has connected to a TCP allocation. */
  attempt?(connectionId: number, peer: Endpoint): void;
  /** The last event: the server has gone, or has ended the allocation. */
  closed(error: P2pdError): void;
}

export interface TurnAllocation {
  readonly link: TurnLink;
  /** Relayed addresses, one of each family. */
  readonly relayed: readonly Endpoint[];
  /** How the server sees us. */
  readonly mapped: Endpoint | undefined;
  attach(handlers: AllocationHandlers): void;
  /** Lets these addresses in, and keeps that up. Rejects as `turnError` says, with `timeout` or `closed`. */
  permit(ips: readonly string[]): Promise<void>;
  /** Binds a channel to a peer, which permits it too, and keeps that up: data to it then costs four octets. */
  bind(peer: Endpoint): Promise<void>;
  /** Sends a datagram to a peer that was permitted or bound; false if the way is full. */
  send(bytes: Uint8Array, to: Endpoint): boolean;
  /** Sends a request of the allocation's user; resolves with the success. */
  ask(method: number, attributes: readonly Attribute[], timeoutMs?: number): Promise<StunMessage>;
  /** Gives the allocation back and closes the link. */
  close(): Promise<void>;
}

const TIMEOUT_MS = 5000;
/** RFC 8489 section 9.2.5 sets no limit to stale nonces; nobody needs more. */
const SIGN_TRIES = 4;
const CLOSE_TIMEOUT_MS = 1000;
const PERMISSIONS_PER_REQUEST = 20;
const UNDERSTOOD: readonly number[] = [
  turn.XOR_RELAYED_ADDRESS,
  turn.LIFETIME,
  turn.RESERVATION_TOKEN,
  turn.CONNECTION_ID,
].map(({ type }) => type);
/** Data of a channel go out behind their header from here: a link over UDP is done with them at once. */
const SCRATCH = new Uint8Array(turn.channelDataOctets(65_535, true));

interface Channel {
  readonly number: number;
  readonly peer: Endpoint;
  isBound: boolean;
}

/** Rejects as `turnError` says, with `timeout`, `aborted` or `closed`. The link stays open then. */
export async function allocate(
  world: Pick<World, "time" | "randomBytes">,
  link: TurnLink,
  login: TurnLogin,
  options: AllocateOptions,
): Promise<TurnAllocation> {
  const { time } = world;
  const { signal, lifetimeSeconds } = options;
  const timers = new Set<Timer>();
  const permitted = new Set<string>();
  const byNumber = new Map<number, Channel>();
  const byPeer = new Map<string, Map<number, Channel>>();
  let handlers: AllocationHandlers | undefined;
  let ended: P2pdError | undefined;
  let nextChannel = turn.CHANNEL_FIRST;

  async function ask(
    method: number,
    attributes: readonly Attribute[],
    timeoutMs = options.timeoutMs ?? TIMEOUT_MS,
  ): Promise<StunMessage> {
    for (let tries = 1; ; tries++) {
      if (ended !== undefined) throw ended;
      const signature = login.sign();
      const { message } = await link.request({
        method,
        attributes: [...attributes, ...(signature?.attributes ?? [])],
        understands: UNDERSTOOD,
        timeoutMs,
        ...(signature === undefined ? {} : { integrity: signature.integrity }),
        ...(signal === undefined || method !== turn.ALLOCATE ? {} : { signal }),
      });
      if (message.class === "success") return message;
      if (tries === SIGN_TRIES || !login.learn(message, signature)) throw turnError(message, link.server);
    }
  }

  function after(delayMs: number, fire: () => void): void {
    const timer = time.after(
      delayMs,
      () => {
        timers.delete(timer);
        fire();
      },
      { background: true },
    );
    timers.add(timer);
  }

  function end(error: P2pdError): void {
    if (ended !== undefined) return;
    ended = error;
    for (const timer of timers) timer.cancel();
    timers.clear();
    handlers?.closed(error);
    handlers = undefined;
  }

  /** Renews something at its times; `expiresMs` is when it ends if that does not succeed. */
  function keepUp(
    everyMs: number,
    expiresMs: number,
    renew: () => Promise<number>,
    lost: (error: P2pdError) => void,
  ): void {
    after(everyMs, () => {
      const attempt = (): void => {
        renew().then(
          (lifetimeMs) => keepUp(renewAfterMs(lifetimeMs / 1000), time.now() + lifetimeMs, renew, lost),
          (thrown: unknown) => {
            if (ended !== undefined) return;
            const error = toP2pdError(thrown);
            const again = error.code === "timeout" ? retryAfterMs(time.now(), expiresMs) : undefined;
            if (again === undefined) lost(error);
            else after(again, attempt);
          },
        );
      };
      attempt();
    });
  }

  const families = new Set(options.families);
  const both = families.has(4) && families.has(6);
  const family = families.has(6) ? turn.FAMILY_IP6 : turn.FAMILY_IP4;
  const lifetime = lifetimeSeconds === undefined ? [] : [attribute(turn.LIFETIME, lifetimeSeconds)];
  const success = await ask(turn.ALLOCATE, [
    attribute(turn.REQUESTED_TRANSPORT, options.relayed === "udp" ? turn.TRANSPORT_UDP : turn.TRANSPORT_TCP),
    ...(both
      ? [attribute(turn.ADDITIONAL_ADDRESS_FAMILY, turn.FAMILY_IP6)]
      : family === turn.FAMILY_IP6
        ? [attribute(turn.REQUESTED_ADDRESS_FAMILY, family)]
        : []),
    ...lifetime,
  ]);
  const relayed = relayedBy(success);
  const grantedSeconds = readAttribute(success, turn.LIFETIME);
  if (relayed.length === 0 || grantedSeconds === undefined || grantedSeconds === 0) {
    throw new P2pdError("protocol", `${formatEndpoint(link.server)} allocated without address or lifetime`);
  }
  const lost = (error: P2pdError): void => {
    end(error);
    link.close();
  };
  keepUp(
    renewAfterMs(grantedSeconds),
    time.now() + 1000 * grantedSeconds,
    async () => {
      const seconds = readAttribute(await ask(turn.REFRESH, lifetime), turn.LIFETIME) ?? grantedSeconds;
      if (seconds === 0)
        throw new P2pdError("closed", `${formatEndpoint(link.server)} has ended the allocation`);
      return 1000 * seconds;
    },
    lost,
  );

  async function permit(ips: readonly string[]): Promise<void> {
    for (let i = 0; i < ips.length; i += PERMISSIONS_PER_REQUEST) {
      const some = ips.slice(i, i + PERMISSIONS_PER_REQUEST);
      const peers = some.map((ip) => attribute(turn.XOR_PEER_ADDRESS, { ip, port: 0 }));
      await ask(turn.CREATE_PERMISSION, peers);
    }
    if (permitted.size === 0 && ips.length > 0) keepPermissions();
    for (const ip of ips) permitted.add(ip);
  }

  function keepPermissions(): void {
    const renew = async (): Promise<number> => {
      await permit([...permitted]);
      return PERMISSION_RENEW_MS + 60_000;
    };
    keepUp(PERMISSION_RENEW_MS, time.now() + 300_000, renew, (error) => {
      // What is left of the allocation may still serve, unless it is the allocation that has gone.
      if (turnCodeOf(error) === 437 || error.code === "timeout") lost(error);
    });
  }

  async function bindOnce({ number, peer }: Channel): Promise<void> {
    await ask(turn.CHANNEL_BIND, [
      attribute(turn.CHANNEL_NUMBER, number),
      attribute(turn.XOR_PEER_ADDRESS, peer),
    ]);
  }

  async function bind(peer: Endpoint): Promise<void> {
    const standing = byPeer.get(peer.ip)?.get(peer.port);
    if (standing?.isBound === true) return;
    // A number is never given to another peer: what is late would come from the wrong one.
    if (nextChannel > LAST_OWN_CHANNEL) {
      throw new P2pdError("unavailable", "the allocation has no channel number left");
    }
    const channel = standing ?? { number: nextChannel++, peer, isBound: false };
    const ports = byPeer.get(peer.ip) ?? new Map<number, Channel>();
    byPeer.set(peer.ip, ports.set(peer.port, channel));
    byNumber.set(channel.number, channel);
    await bindOnce(channel);
    if (channel.isBound) return;
    channel.isBound = true;
    const renew = async (): Promise<number> => {
      await bindOnce(channel);
      return CHANNEL_RENEW_MS + 60_000;
    };
    keepUp(CHANNEL_RENEW_MS, time.now() + 600_000, renew, (error) => {
      channel.isBound = false;
      if (turnCodeOf(error) === 437 || error.code === "timeout") lost(error);
    });
    if (!permitted.has(peer.ip)) {
      // The bind permits for five minutes; the channel itself is renewed too rarely for that.
      if (permitted.size === 0) keepPermissions();
      permitted.add(peer.ip);
    }
  }

  link.attach({
    channelData(number, data) {
      const channel = byNumber.get(number);
      if (channel !== undefined) handlers?.message(data, channel.peer);
    },
    indication(message) {
      const peer = readAttribute(message, turn.XOR_PEER_ADDRESS);
      if (peer === undefined) return;
      if (message.method === turn.DATA_METHOD) {
        const data = readAttribute(message, turn.DATA);
        if (data !== undefined) handlers?.message(data, peer);
      } else if (message.method === turn.CONNECTION_ATTEMPT) {
        const id = readAttribute(message, turn.CONNECTION_ID);
        if (id !== undefined) handlers?.attempt?.(id, peer);
      }
    },
    closed: end,
  });

  return {
    link,
    relayed,
    mapped: readAttribute(success, XOR_MAPPED_ADDRESS),
    attach(next) {
      handlers = next;
      if (ended !== undefined) next.closed(ended);
    },
    permit,
    bind,
    send(bytes, to) {
      if (ended !== undefined) return true;
      const channel = byPeer.get(to.ip)?.get(to.port);
      if (channel?.isBound === true) {
        return link.send(
          link.transport === "udp"
            ? turn.encodeChannelData(channel.number, bytes, false, SCRATCH)
            : turn.encodeChannelData(channel.number, bytes, true),
        );
      }
      return link.send(
        encodeStun({
          class: "indication",
          method: turn.SEND,
          transactionId: world.randomBytes(12),
          attributes: [attribute(turn.XOR_PEER_ADDRESS, to), attribute(turn.DATA, bytes)],
        }),
      );
    },
    ask,
    async close() {
      if (ended !== undefined) return link.close();
      handlers = undefined;
      // The server would find out by itself, ten minutes later.
      await ask(turn.REFRESH, [attribute(turn.LIFETIME, 0)], CLOSE_TIMEOUT_MS).catch(() => undefined);
      end(new P2pdError("closed", "the allocation was given back"));
      link.close();
    },
  };
}

/** RFC 8656 section 12: the last number for clients. */
const LAST_OWN_CHANNEL = 0x4fff;

function relayedBy(message: StunMessage): Endpoint[] {
  const found: Endpoint[] = [];
  for (const { type, start, length } of message.attributes) {
    if (type !== turn.XOR_RELAYED_ADDRESS.type) continue;
    const endpoint = turn.XOR_RELAYED_ADDRESS.read(
      message.bytes.subarray(start, start + length),
      message.bytes,
    );
    const isNew = endpoint !== undefined && found.every(({ ip }) => familyOf(ip) !== familyOf(endpoint.ip));
    if (endpoint !== undefined && isNew) found.push(endpoint);
  }
  return found;
}
