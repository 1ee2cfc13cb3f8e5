/** The TURN server's machine between clients and peers that exist as values only, in a time that tests move. */
import { createPeerPolicy, type IpPrefix } from "../../../core/infra/peer-policy.ts";
import { createCredentials, type TurnUser } from "../../../core/infra/turn-credentials.ts";
import type { ClientPath, Connection, PeerLink, Relay } from "../../../core/infra/turn-parts.ts";
import { createTurnServer, type DatagramListener, type TurnServer } from "../../../core/infra/turn-server.ts";
import type { Endpoint } from "../../../core/ip.ts";
import { createLog } from "../../../core/log.ts";
import * as kinds from "../../../core/wire/stun-attributes.ts";
import { longTermKey } from "../../../core/wire/stun-integrity.ts";
import * as stun from "../../../core/wire/stun.ts";
import * as turn from "../../../core/wire/turn.ts";

export const REALM = "test";
export const USER: TurnUser = { name: "alice", password: "wonderland" };
export const SECRET = "shared";
export const RELAY_IP = "198.18.0.1";
export const PEER: Endpoint = { ip: "5.44.0.9", port: 4000 };

export interface Sent {
  readonly bytes: Uint8Array;
  readonly to: Endpoint;
  readonly port: number;
}

export interface WorldOptions {
  readonly perAccount?: number;
  readonly allocations?: number;
  readonly portFirst?: number;
  readonly portLast?: number;
  readonly allowed?: readonly IpPrefix[];
  readonly families?: readonly (4 | 6)[];
  /** Whether relays can forbid fragments. */
  readonly dontFragment?: boolean;
  readonly answersPerSecond?: number;
  /** Ports that another program of the machine has. */
  readonly foreign?: ReadonlySet<number>;
}

export interface TurnWorld {
  readonly server: TurnServer;
  nowMs: number;
  wallMs: number;
  readonly relays: Relay[];
  /** What relays sent to peers, in order. */
  readonly toPeers: Sent[];
  /** Whether each of those might be fragmented. */
  readonly fragments: boolean[];
  /** Connects that relays were asked for. */
  readonly connects: Connection[];
  readonly log: string[];
  readonly listener: DatagramListener;
  /** Binds what relays are waiting for. */
  settle(): void;
  udp(port: number, ip?: string): TestClient;
  tcp(port: number): TestClient;
  /** A datagram of a peer to the relay at `port`. */
  fromPeer(port: number, bytes: Uint8Array, from?: Endpoint): void;
}

export interface TestClient {
  readonly path: ClientPath;
  /** What came to the client. */
  readonly received: Uint8Array[];
  /** Links that were joined with this connection. */
  readonly joined: PeerLink[];
  /** Sends octets as they are. */
  raw(bytes: Uint8Array): void;
  /** Sends a request, with the user's signature unless `as` is null; returns the answer. */
  ask(method: number, attributes?: readonly kinds.Attribute[], as?: Signing | null): Answer;
  /** An allocation with defaults; the relayed port. */
  allocate(...more: readonly kinds.Attribute[]): number;
}

export interface Signing {
  readonly user?: TurnUser;
  readonly nonce?: string;
  readonly realm?: string;
  readonly hash?: "sha1" | "sha256";
  readonly transactionId?: Uint8Array;
  readonly algorithm?: 1 | 2;
}

export interface Answer {
  /** Absent: the server said nothing. */
  readonly message: stun.StunMessage | undefined;
  /** 0 of a success, -1 where there is no answer. */
  readonly code: number;
  get<T>(kind: kinds.AttributeKind<T>): T | undefined;
  /** Whether it is signed with the key of who asked. */
  readonly signed: boolean;
}

export function turnWorld(options: WorldOptions = {}): TurnWorld {
  let seed = 1;
  const random = (count: number): Uint8Array =>
    Uint8Array.from({ length: count }, () => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return seed >>> 16;
    });
  const opening: Relay[] = [];
  const log: string[] = [];
  const clients = new Map<string, Uint8Array[]>();
  const families = options.families ?? [4, 6];
  const relayIps = new Map(families.map((family) => [family, family === 4 ? RELAY_IP : "2001:4860::1"]));
  const server = createTurnServer({
    stun: true,
    answersPerSecond: options.answersPerSecond ?? 0,
    random,
    wallMs: () => world.wallMs,
    log: createLog({ level: "debug", format: "text", wallMs: () => 0, write: (line) => log.push(line) }),
    turn: {
      realm: REALM,
      credentials: createCredentials({ realm: REALM, users: [USER], secret: SECRET }),
      limits: {
        allocations: options.allocations ?? 100,
        perAccount: options.perAccount ?? 100,
        portFirst: options.portFirst ?? 50_000,
        portLast: options.portLast ?? 50_999,
      },
      relayIps,
      judgePeer: createPeerPolicy({
        allowed: options.allowed ?? [],
        relayIps: [...relayIps.values()],
        isOwn: (ip) => ip === "5.44.0.1",
      }),
      openRelay: (relay) => opening.push(relay),
      dontFragment: () => options.dontFragment ?? false,
    },
  });
  const listener: DatagramListener = {
    shown: { ip: "5.44.0.1", port: 3478 },
    paths: new Map(),
    send: (bytes, to) => clients.get(`${to.ip} ${to.port}`)?.push(bytes.slice()),
  };
  const world: TurnWorld = {
    server,
    nowMs: 1000,
    wallMs: 1_700_000_000_000,
    relays: [],
    toPeers: [],
    fragments: [],
    connects: [],
    log,
    listener,
    settle() {
      for (let relay = opening.shift(); relay !== undefined; relay = opening.shift()) {
        const { port } = relay;
        if (options.foreign?.has(port) === true) {
          server.allocations.relayFailed(relay, true);
          continue;
        }
        world.relays.push(relay);
        server.allocations.relayOpened(relay, {
          send(bytes, to, mayFragment) {
            world.toPeers.push({ bytes: bytes.slice(), to, port });
            world.fragments.push(mayFragment);
          },
          connect: (connection) => void world.connects.push(connection),
          close: () => void world.relays.splice(world.relays.indexOf(relay), 1),
        });
      }
    },
    udp(port, ip = "5.46.0.7") {
      const received: Uint8Array[] = [];
      clients.set(`${ip} ${port}`, received);
      const remote = { ip, port };
      return client(world, received, {
        raw: (bytes) => server.datagram(listener, bytes, remote, world.nowMs),
        path: () => listener.paths.get(ip)?.get(port),
      });
    },
    tcp(port) {
      const received: Uint8Array[] = [];
      const joined: PeerLink[] = [];
      const path: ClientPath = {
        transport: "tcp",
        local: listener.shown,
        remote: { ip: "5.46.0.7", port },
        send: (bytes) => void received.push(bytes.slice()),
        join: (link) => void joined.push(link),
        allocation: undefined,
      };
      const raw = (bytes: Uint8Array): void => {
        if ((bytes[0] as number) >= 0x40) server.channelData(path, bytes, world.nowMs);
        else server.message(path, bytes, world.nowMs);
      };
      return client(world, received, { raw, path: () => path, joined });
    },
    fromPeer(port, bytes, from = PEER) {
      const relay = world.relays.find((one) => one.port === port);
      if (relay === undefined) throw new Error(`no relay has port ${port}`);
      server.fromPeer(relay, bytes, from, world.nowMs);
    },
  };
  return world;
}

let transactions = 0;

function client(
  world: TurnWorld,
  received: Uint8Array[],
  how: {
    readonly raw: (bytes: Uint8Array) => void;
    readonly path: () => ClientPath | undefined;
    readonly joined?: PeerLink[];
  },
): TestClient {
  let nonce: string | undefined;

  function send(
    method: number,
    attributes: readonly kinds.Attribute[],
    signing: Signing | null,
  ): { answer: stun.StunMessage | undefined; key: Uint8Array | undefined } {
    const transactionId = signing?.transactionId ?? new Uint8Array(12);
    if (signing?.transactionId === undefined) new DataView(transactionId.buffer).setUint32(8, ++transactions);
    const before = received.length;
    const { user = USER, realm = REALM, hash = "sha1", algorithm } = signing ?? {};
    const key = signing === null ? undefined : longTermKey(user.name, realm, user.password, algorithm ?? 1);
    const list = [
      { algorithm: 2, parameters: new Uint8Array(0) },
      { algorithm: 1, parameters: new Uint8Array(0) },
    ];
    const credentials =
      signing === null
        ? []
        : [
            kinds.attribute(kinds.USERNAME, user.name),
            kinds.attribute(kinds.REALM, realm),
            kinds.attribute(kinds.NONCE, signing.nonce ?? nonce ?? ""),
            ...(algorithm === undefined
              ? []
              : [
                  kinds.attribute(kinds.PASSWORD_ALGORITHMS, list),
                  kinds.attribute(kinds.PASSWORD_ALGORITHM, { algorithm, parameters: new Uint8Array(0) }),
                ]),
          ];
    how.raw(
      stun.encodeStun({
        class: "request",
        method,
        transactionId,
        attributes: [...attributes, ...credentials],
        ...(key === undefined ? {} : { integrity: { key, hashes: [hash] } }),
      }),
    );
    world.settle();
    const answers = received.slice(before).map((bytes) => stun.decodeStun(bytes));
    const answer = answers.find(
      (one) => typeof one !== "string" && Buffer.compare(one.transactionId, transactionId) === 0,
    );
    return { answer: answer as stun.StunMessage | undefined, key };
  }

  const self: TestClient = {
    get path() {
      const path = how.path();
      if (path === undefined) throw new Error("this client has no allocation");
      return path;
    },
    received,
    joined: how.joined ?? [],
    raw: how.raw,
    ask(method, attributes = [], as = {}) {
      if (as !== null && as.nonce === undefined && nonce === undefined) {
        const { answer } = send(turn.ALLOCATE, [], null);
        nonce = answer === undefined ? undefined : stun.readAttribute(answer, kinds.NONCE);
      }
      let { answer, key } = send(method, attributes, as);
      const fresh = answer === undefined ? undefined : stun.readAttribute(answer, kinds.NONCE);
      if (fresh !== undefined) nonce = fresh;
      // As every client does that is told so, once.
      if (codeOf(answer) === 438 && as?.nonce === undefined) ({ answer, key } = send(method, attributes, as));
      return {
        message: answer,
        code: codeOf(answer),
        get: (kind) => (answer === undefined ? undefined : stun.readAttribute(answer, kind)),
        signed:
          answer !== undefined && key !== undefined && stun.verifyIntegrity(answer, key, as?.hash ?? "sha1"),
      };
    },
    allocate(...more) {
      const answer = self.ask(turn.ALLOCATE, [
        kinds.attribute(turn.REQUESTED_TRANSPORT, turn.TRANSPORT_UDP),
        ...more,
      ]);
      const relayed = answer.get(turn.XOR_RELAYED_ADDRESS);
      if (relayed === undefined) throw new Error(`no allocation: ${answer.code}`);
      return relayed.port;
    },
  };
  return self;
}

function codeOf(answer: stun.StunMessage | undefined): number {
  if (answer?.class === "success") return 0;
  return answer === undefined ? -1 : (stun.readAttribute(answer, kinds.ERROR_CODE)?.code ?? -1);
}

export const UDP = kinds.attribute(turn.REQUESTED_TRANSPORT, turn.TRANSPORT_UDP);
export const TCP = kinds.attribute(turn.REQUESTED_TRANSPORT, turn.TRANSPORT_TCP);

export function peerIs(peer: Endpoint): kinds.Attribute {
  return kinds.attribute(turn.XOR_PEER_ADDRESS, peer);
}

export function channelIs(number: number): kinds.Attribute {
  return kinds.attribute(turn.CHANNEL_NUMBER, number);
}

/** A Send indication. */
export function sendIndication(peer: Endpoint, data: Uint8Array, ...more: kinds.Attribute[]): Uint8Array {
  return stun.encodeStun({
    class: "indication",
    method: turn.SEND,
    transactionId: new Uint8Array(12),
    attributes: [peerIs(peer), kinds.attribute(turn.DATA, data), ...more],
  });
}
