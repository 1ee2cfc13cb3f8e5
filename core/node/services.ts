/**
 * What a node offers to its peers under a name: `echo` and `discard`, built in, and local TCP ports that somebody
 * put there. Who may use one is decided before anything is connected. Services live as long as the node; lasting
 * ones stand in the configuration.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { type Endpoint, parseEndpoint } from "../ip.ts";
import type { World } from "../net/world.ts";
import { isNodeId } from "../wire/address.ts";
import type { Channel } from "./channel.ts";
import type { ServiceDescription } from "./node-api.ts";
import { Pipe } from "./pipe.ts";
import type { Session } from "./session.ts";
import { tapChannel } from "./tap-channel.ts";

const CONNECT_TIMEOUT_MS = 5000;
const MAX_SERVICES = 256;
const MAX_ALLOWED = 1024;
/** Of one service at a time; more are refused. */
const MAX_CONNECTIONS = 4096;

interface Service {
  readonly name: string;
  readonly kind: ServiceDescription["kind"];
  readonly to?: Endpoint;
  readonly allow?: readonly string[];
  /** Sessions under way. */
  readonly sessions: Set<Session>;
  bytes: number;
}

export class Services {
  readonly #world: World;
  readonly #services = new Map<string, Service>();

  constructor(world: World) {
    this.#world = world;
    for (const kind of ["echo", "discard"] as const) {
      this.#services.set(kind, { name: kind, kind, sessions: new Set(), bytes: 0 });
    }
  }

  list(): readonly ServiceDescription[] {
    return [...this.#services.values()].map(describe);
  }

  /**
   * Offers a TCP port under a name, in place of a service that had it. Sessions of that one go on.
   * @param to `127.0.0.1:22` or `[::1]:22`; any address this machine can connect to
   * @param allow ids that may use it; absent: every peer
   * @throws P2pdError `bad-argument`, `reserved-name` (the built-in ones)
   */
  put(name: string, to: string, allow?: readonly string[]): ServiceDescription {
    if (!/^[A-Za-z0-9_.-]{1,64}$/.test(name)) {
      throw new P2pdError(
        "bad-argument",
        `the service name ${show(name)} is not 1 to 64 of A-Z a-z 0-9 _ . -`,
      );
    }
    this.#refuseBuiltIn(name);
    const endpoint = parseEndpoint(to.replace(/^localhost:/, "127.0.0.1:"));
    if (endpoint === undefined || endpoint.port === 0) {
      throw new P2pdError(
        "bad-argument",
        `to: expected IP:PORT such as 127.0.0.1:22 or [::1]:22, found ${show(to)}`,
      );
    }
    if ((allow?.length ?? 0) > MAX_ALLOWED)
      throw new P2pdError("bad-argument", `allow: at most ${MAX_ALLOWED} ids`);
    const stranger = allow?.find((id) => !isNodeId(id));
    if (stranger !== undefined) {
      throw new P2pdError(
        "bad-argument",
        `allow: ${show(stranger)} is no node id (44 characters of base64url)`,
      );
    }
    if (!this.#services.has(name) && this.#services.size >= MAX_SERVICES) {
      throw new P2pdError("bad-argument", `there are ${MAX_SERVICES} services already; delete one first`);
    }
    const allowed = allow === undefined ? {} : { allow: [...allow] };
    const service: Service = { name, kind: "tcp", to: endpoint, ...allowed, sessions: new Set(), bytes: 0 };
    this.#services.set(name, service);
    return describe(service);
  }

  /** Offers it no more; sessions under way go on. Throws `no-such-service`, `reserved-name`. */
  delete(name: string): void {
    this.#refuseBuiltIn(name);
    if (!this.#services.delete(name))
      throw new P2pdError("no-such-service", `there is no service ${show(name)}`);
  }

  /** Serves a session that asked for `name`, or refuses it. Settles when that was decided; never rejects. */
  async serve(session: Session, channel: Channel, name: string, peerId: string): Promise<void> {
    const service = this.#services.get(name);
    if (service === undefined) {
      session.refuse({ code: "no-such-service", text: `this node offers no service ${show(name)}` });
    } else if (service.allow !== undefined && !service.allow.includes(peerId)) {
      session.refuse({ code: "unauthorized", text: `the service ${show(name)} is not offered to ${peerId}` });
    } else if (service.sessions.size >= MAX_CONNECTIONS) {
      session.refuse({
        code: "unavailable",
        text: `the service ${show(name)} has ${MAX_CONNECTIONS} connections already`,
      });
    } else if (service.to !== undefined && channel.kind === "datagram") {
      session.refuse({
        code: "unsupported",
        text: `the service ${show(name)} is a TCP port; open it as a stream, without transport=udp`,
      });
    } else {
      service.sessions.add(session);
      const over = (): void => void service.sessions.delete(session);
      if (service.to !== undefined) await this.#forward(session, service, service.to, over);
      else {
        session.welcome();
        if (service.kind === "echo") echo(counted(channel, service), over);
        else discard(counted(channel, service), over);
      }
    }
  }

  async #forward(session: Session, service: Service, to: Endpoint, over: () => void): Promise<void> {
    try {
      const stream = await this.#world.connectTcp({ remote: to, timeoutMs: CONNECT_TIMEOUT_MS });
      session.welcome();
      const pipe = new Pipe(counted(session, service), { time: this.#world.time });
      pipe.join(stream).then(over, over);
    } catch (thrown) {
      over();
      const { message } = toP2pdError(thrown, "unavailable");
      session.refuse({
        code: "unavailable",
        text: `${show(service.name)} does not answer at the peer: ${message}`,
      });
    }
  }

  #refuseBuiltIn(name: string): void {
    const kind = this.#services.get(name)?.kind;
    if (kind !== undefined && kind !== "tcp") {
      throw new P2pdError("reserved-name", `the service "${name}" is built in; choose another name`);
    }
  }
}

/** Sends every octet back; reads no faster than the peer takes it back. */
export function echo(channel: Channel, over: () => void): void {
  channel.attach({
    message: (bytes) => {
      if (!channel.send(bytes)) channel.pause();
    },
    drain: () => {
      channel.resume();
    },
    end: () => {
      channel.end();
    },
    close: over,
  });
}

function discard(channel: Channel, over: () => void): void {
  channel.attach({
    message: () => undefined,
    drain: () => undefined,
    end: () => {
      channel.end();
    },
    close: over,
  });
}

/** The channel, with what it receives counted for its service. */
function counted(channel: Channel, service: Service): Channel {
  return tapChannel(channel, (handlers) => ({
    message(bytes, from) {
      service.bytes += bytes.length;
      handlers.message(bytes, from);
    },
  }));
}

function describe({ name, kind, to, allow, sessions, bytes }: Service): ServiceDescription {
  return {
    name,
    kind,
    ...(to === undefined ? {} : { to }),
    ...(allow === undefined ? {} : { allow }),
    connections: sessions.size,
    bytes,
  };
}

function show(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}
