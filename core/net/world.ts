/**
 * The world as the rest of the program sees it: time, randomness, NICs, sockets. Everything above
 * `core/net/` receives a `World`; `core/net/real-world.ts` is the machine we run on, `tests/sim/` one in
 * virtual time. Nothing here does anything.
 */
import type { P2pdError } from "../errors.ts";
import type { Endpoint, Family } from "../ip.ts";

/** A timer that was started. */
export interface Timer {
  /** Stops it; harmless when it has fired or was cancelled. */
  cancel(): void;
}

export interface Time {
  /** Monotonic milliseconds from an arbitrary start, with fractions. */
  now(): number;
  /** Wall-clock milliseconds since 1970. */
  wallMs(): number;
  /** Calls `fire` once after `delayMs`. A pending timer keeps the process alive unless `background`. */
  after(delayMs: number, fire: () => void, options?: { background?: boolean }): Timer;
}

export interface NicAddress {
  readonly ip: string;
  readonly family: Family;
  readonly prefixLength: number;
  /** An IPv6 privacy address that the system replaces every day or so (RFC 8981). */
  readonly temporary?: boolean;
}

export type NicKind = "physical" | "loopback" | "bridge" | "container" | "tunnel" | "virtual";

/** One network interface, as the operating system shows it now. */
export interface Nic {
  readonly index: number;
  readonly name: string;
  readonly kind: NicKind;
  /** Six octets in hexadecimal with colons; all zero where it has none. */
  readonly mac: string;
  readonly mtu: number;
  readonly up: boolean;
  readonly addresses: readonly NicAddress[];
  /** Next hop of its default route per family; "" where the route needs none; absent: no default route. */
  readonly gateway: Readonly<Partial<Record<Family, string>>>;
  /** Metric of its default route per family; the lowest is the system's default NIC. */
  readonly metric: Readonly<Partial<Record<Family, number>>>;
}

/** Receives what comes from a byte stream. Calls never overlap, and none follows `close`. */
export interface StreamHandlers {
  /** Octets in order. The view is the receiver's to keep. */
  data(bytes: Uint8Array): void;
  /** After `write` returned false: more may be written. */
  drain(): void;
  /** The peer has finished sending; writing goes on. */
  end(): void;
  /** The last event. Without an error both sides had ended. */
  close(error?: P2pdError): void;
}

/** A connected, ordered, reliable stream of octets: TCP, TLS, later a QUIC stream. */
export interface ByteStream {
  readonly local: Endpoint;
  readonly remote: Endpoint;
  /** The descriptor, or -1 where there is none. */
  readonly fd: number;
  /** Sets who receives. Until the first call nothing is read; a later call replaces the receiver. */
  attach(handlers: StreamHandlers): void;
  /**
   * Takes all of `bytes` and keeps what the system does not accept; the caller leaves them unchanged.
   * Returns false when the caller should wait for `drain`. After `end`, `abort` or close it drops them.
   */
  write(bytes: Uint8Array): boolean;
  /** Octets that were taken and not yet accepted by the system. */
  readonly pendingBytes: number;
  /** Stops `data` until `resume`; the peer feels it as backpressure. */
  pause(): void;
  resume(): void;
  /** Finishes sending after what is pending; receiving goes on (half-close). */
  end(): void;
  /** Ends both directions at once, dropping what is pending. `close` follows, with `reason` as its error. */
  abort(reason?: P2pdError): void;
}

export interface UdpHandlers {
  /** One datagram. The view is valid during the call only. */
  message(bytes: Uint8Array, from: Endpoint): void;
  /** After `send` returned false: more may be sent. */
  drain?(): void;
  /** An ICMP error or the like; the socket stays usable. */
  error?(error: P2pdError): void;
}

export interface UdpSocket {
  readonly local: Endpoint;
  readonly fd: number;
  attach(handlers: UdpHandlers): void;
  /** Sends one datagram; false if the system's buffer is full (the datagram is lost; await `drain`). */
  send(bytes: Uint8Array, to: Endpoint): boolean;
  /** Sets whether datagrams may be fragmented on their way, from the next one on; absent where nobody can. */
  allowFragments?(allowed: boolean): void;
  close(): void;
}

export interface TcpListener {
  readonly local: Endpoint;
  close(): void;
}

export interface UdpOptions {
  /** Port 0: any free one. `::` is IPv6 only. */
  readonly local: Endpoint;
  /** Name of the NIC that packets must leave by (SO_BINDTODEVICE, IP_BOUND_IF). */
  readonly device?: string;
  /** Room for datagrams that come faster than they are read, in octets; less where the system gives less. */
  readonly receiveBufferBytes?: number;
  readonly handlers?: UdpHandlers;
}

export interface ListenOptions {
  readonly local: Endpoint;
  readonly device?: string;
  /** SO_REUSEADDR and SO_REUSEPORT, so that connects may leave from the same port. */
  readonly shared?: boolean;
  readonly accept: (stream: ByteStream) => void;
}

export interface ConnectOptions {
  readonly remote: Endpoint;
  /** Where to connect from; port 0 or absent: any. */
  readonly local?: Endpoint;
  readonly device?: string;
  /** SO_REUSEADDR and SO_REUSEPORT on the local port. */
  readonly shared?: boolean;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/** A P-256 key with a self-signed certificate of it. */
export interface Credentials {
  readonly privateKeyPem: string;
  readonly certificatePem: string;
}

export interface SecureOptions {
  readonly role: "client" | "server";
  readonly credentials: Credentials;
  /** Compressed P-256 public key (33 octets) that the peer must prove; absent: any, see `peerKey`. */
  readonly expectedKey?: Uint8Array;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/** A byte stream inside TLS 1.3 whose peer has proved its key. */
export interface SecureStream extends ByteStream {
  /** Compressed P-256 public key of the peer. */
  readonly peerKey: Uint8Array;
  /** As IANA names it, `TLS_AES_128_GCM_SHA256`. */
  readonly cipher: string;
}

/** A QUIC connection whose peer has proved its key: one stream, and datagrams beside it. */
export interface QuicPath extends SecureStream {
  /** The largest datagram that `sendDatagram` takes now, in octets. */
  readonly maxDatagramBytes: number;
  /** Sends one datagram, which may be lost; false if it is too large, or so many wait that it was dropped. */
  sendDatagram(bytes: Uint8Array): boolean;
  /** Sets who receives datagrams; a view is valid during the call only. Until then a few are held. */
  attachDatagrams(message: (bytes: Uint8Array) => void): void;
  /** Smoothed round trip time, in milliseconds. */
  rttMs(): number;
}

export interface QuicOptions {
  /** Port 0: any free one. `::` takes IPv4 too, unlike UDP and TCP sockets: no second endpoint can have its port. */
  readonly local: Endpoint;
  /** Name of the NIC that packets must leave by; `local` must then have an address. */
  readonly device?: string | undefined;
  readonly credentials: Credentials;
  /** Receives callers that have proved their keys; absent: the endpoint does not listen. */
  readonly accept?: (path: QuicPath) => void;
  /** How long a caller may take to prove its key: 10,000 ms by default. */
  readonly strangerTimeoutMs?: number;
  /** How long a path lives without a sign of the peer, in whole seconds: 30,000 ms by default. */
  readonly idleTimeoutMs?: number;
  /** How often paths show a sign of life, in milliseconds: a third of the time that they live without one by default. */
  readonly keepAliveMs?: number;
}

export interface QuicConnectOptions {
  readonly remote: Endpoint;
  /** Compressed P-256 public key (33 octets) that the peer must prove. */
  readonly expectedKey: Uint8Array;
  readonly timeoutMs: number;
  /** That of the endpoint unless given. */
  readonly keepAliveMs?: number | undefined;
  readonly signal?: AbortSignal;
}

export interface QuicCounters {
  /** Callers that were heard. */
  readonly accepted: number;
  /** Now between their first packet and their proof. */
  readonly strangers: number;
  /** Turned away unheard, as too many of their address were waiting, or pushed out by later ones. */
  readonly turnedAway: number;
  /** Left, were too slow or broke the rules before their proof. */
  readonly failed: number;
}

/** One UDP port that listens for QUIC and connects from it. */
export interface QuicEndpoint {
  readonly local: Endpoint;
  readonly counters: QuicCounters;
  /** Rejects with `peer-key`, `protocol`, `refused`, `timeout`, `unreachable`, `aborted` or `closed`. */
  connect(options: QuicConnectOptions): Promise<QuicPath>;
  /** Frees the port, and breaks off every path on it. Resolves when that is done. */
  close(): Promise<void>;
}

/** TLS to a server with a name, whose certificate an authority signed. */
export interface SecureServerOptions {
  /** Host name or address that the certificate must name. */
  readonly serverName: string;
  /** Certificates in PEM to trust in place of the system's authorities. */
  readonly authorities?: readonly string[];
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/** TLS in a server's role, for clients that know the server by its name. */
export interface AcceptTlsOptions {
  /** The server's certificate and those that lead to its authority, in PEM. */
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  readonly timeoutMs: number;
}

/** Local sockets that have a path in the file system instead of an address; `local` and `remote` are empty. */
export interface UnixSockets {
  /** Makes the socket at `path`, for its owner alone (mode 0600). Rejects with `address-in-use` or `unsupported`. */
  listen(path: string, accept: (stream: ByteStream) => void): Promise<{ close(): void }>;
  /** Rejects with `refused` or `unreachable`. */
  connect(path: string): Promise<ByteStream>;
}

export interface World {
  readonly time: Time;
  /** Absent where the platform has none. */
  readonly unix?: UnixSockets;
  /** Unpredictable octets. */
  randomBytes(count: number): Uint8Array;
  /** What tells this machine from others, for as long as it lives. Secret: it must not leave it as it is. */
  systemId(): string;
  /** The NICs there are now. */
  nics(): readonly Nic[];
  /** Calls `changed` after any NIC, address or default route changed; returns how to stop that. */
  watchNics(changed: () => void): () => void;
  /** Addresses of a host name, or the address itself. Rejects with `unreachable`. */
  lookup(host: string, family?: Family): Promise<readonly string[]>;
  /** Rejects with `address-in-use`, `unreachable` or `unsupported`. */
  openUdp(options: UdpOptions): Promise<UdpSocket>;
  /** Rejects with `address-in-use`, `unreachable` or `unsupported`. */
  listenTcp(options: ListenOptions): Promise<TcpListener>;
  /** Rejects with `refused`, `timeout`, `unreachable`, `address-in-use`, `aborted` or `unsupported`. */
  connectTcp(options: ConnectOptions): Promise<ByteStream>;
  /**
   * Opens a UDP port for QUIC; absent where the world has none. Rejects with `address-in-use`, `unreachable` or
   * `unsupported`.
   */
  openQuic?(options: QuicOptions): Promise<QuicEndpoint>;
  /**
   * Puts TLS 1.3 on a stream that nobody has attached to, in either role, and compares the peer's key.
   * Rejects with `peer-key`, `protocol`, `timeout`, `aborted` or `closed`; the stream is then closed.
   */
  secure(stream: ByteStream, options: SecureOptions): Promise<SecureStream>;
  /**
   * Puts TLS on a stream to a named server, in the client's role; absent where there is none. Rejects with
   * `peer-key` (certificate not trusted), `closed`, `timeout` or `aborted`; the stream is then closed.
   */
  secureServer?(stream: ByteStream, options: SecureServerOptions): Promise<ByteStream>;
  /**
   * Puts TLS on a stream that was accepted, in the server's role; absent where there is none. Clients show no
   * certificate. Rejects with `protocol`, `closed` or `timeout`; the stream is then closed.
   */
  acceptTls?(stream: ByteStream, options: AcceptTlsOptions): Promise<ByteStream>;
}
