/** The UDP sockets of a simulated machine, as `World.openUdp` promises them. */
import { P2pdError } from "../../core/errors.ts";
import { type Endpoint, familyOf, formatEndpoint, sameEndpoint } from "../../core/ip.ts";
import type { UdpHandlers, UdpOptions, UdpSocket } from "../../core/net/world.ts";
import { checkLocal, EPHEMERAL, type HostStack, isAny, isBoundTo, overlaps } from "./host-stack.ts";
import { type QuotedPacket, type SimPacket, unreachableFor } from "./packet.ts";
import { isMulticast } from "./segment.ts";

export interface UdpStack {
  open(options: UdpOptions): UdpSocket;
  receive(packet: Extract<SimPacket, { protocol: "udp" }>): void;
  /** An ICMP error about a datagram of this machine. */
  unreachable(quoted: QuotedPacket, what: "port" | "host"): void;
}

interface Bound {
  readonly local: Endpoint;
  readonly device: string | undefined;
  handlers: UdpHandlers | undefined;
}

const LARGEST = 65_507;

export function createUdpStack(host: HostStack): UdpStack {
  const sockets = new Map<number, Bound[]>();
  const at = (port: number): Bound[] => sockets.get(port) ?? [];

  function freePort(ip: string): number | undefined {
    for (let attempt = 0; attempt < 4096; attempt++) {
      const port = host.random.between(...EPHEMERAL);
      if (!at(port).some(({ local }) => overlaps(local, { ip, port }))) return port;
    }
    return undefined;
  }

  function open({ local: wanted, device, handlers }: UdpOptions): UdpSocket {
    const what = `UDP on ${formatEndpoint(wanted)}${device === undefined ? "" : ` of ${device}`}`;
    checkLocal(host, wanted, device, what);
    const port = wanted.port === 0 ? freePort(wanted.ip) : wanted.port;
    const local = { ip: wanted.ip, port: port ?? 0 };
    if (port === undefined || at(port).some((other) => overlaps(other.local, local))) {
      throw new P2pdError("address-in-use", `${what}: the local address and port are taken (EADDRINUSE)`);
    }
    const bound: Bound = { local, device, handlers };
    sockets.set(port, [...at(port), bound]);
    let closed = false;

    function fail(to: Endpoint, why: string): true {
      queueMicrotask(() => {
        const text = `UDP from ${formatEndpoint(local)} to ${formatEndpoint(to)}: ${why}`;
        if (!closed) bound.handlers?.error?.(new P2pdError("unreachable", text, { remote: to }));
      });
      return true;
    }

    return {
      local,
      fd: -1,
      attach(next) {
        bound.handlers = next;
      },
      send(bytes, to) {
        if (closed) return true;
        if (familyOf(to.ip) !== familyOf(local.ip)) return fail(to, "both must be of one family (EINVAL)");
        if (to.port === 0) return fail(to, "port 0 cannot be sent to (EINVAL)");
        if (bytes.length > LARGEST) return fail(to, `${bytes.length} octets are too many (EMSGSIZE)`);
        const route = host.sourceFor(to.ip, device);
        if (route === undefined) return fail(to, "there is no route to that network (ENETUNREACH)");
        const source = { ip: isAny(local.ip) ? route : local.ip, port: local.port };
        host.send({ protocol: "udp", source, destination: to, payload: bytes.slice() }, device);
        return true;
      },
      close() {
        if (closed) return;
        closed = true;
        bound.handlers = undefined;
        const rest = at(local.port).filter((other) => other !== bound);
        if (rest.length === 0) sockets.delete(local.port);
        else sockets.set(local.port, rest);
      },
    };
  }

  /** The socket bound to the address itself goes before one bound to all. */
  function find(to: Endpoint): Bound | undefined {
    const here = at(to.port);
    return (
      here.find(({ local }) => sameEndpoint(local, to)) ?? here.find(({ local }) => isBoundTo(local, to))
    );
  }

  return {
    open,
    receive(packet) {
      const bound = find(packet.destination);
      if (bound !== undefined) {
        bound.handlers?.message(packet.payload, packet.source);
        return;
      }
      const error = isMulticast(packet.destination.ip) ? undefined : unreachableFor(packet, "port");
      if (error !== undefined) host.send(error);
    },
    unreachable({ source, destination }, what) {
      const code = what === "port" ? "refused" : "unreachable";
      const why = what === "port" ? "nobody listens there (ECONNREFUSED)" : "the host cannot be reached";
      const text = `UDP from ${formatEndpoint(source)} to ${formatEndpoint(destination)}: ${why}`;
      find(source)?.handlers?.error?.(new P2pdError(code, text, { remote: destination }));
    },
  };
}
