/** Our TURN server on a host of the simulation, and a peer that sends every datagram and octet back. */
import { createCredentials } from "../../core/infra/turn-credentials.ts";
import { openTurnSockets, type TurnSockets } from "../../core/infra/turn-sockets.ts";
import type { Endpoint } from "../../core/ip.ts";
import { createLog } from "../../core/log.ts";
import type { World } from "../../core/net/world.ts";
import type { LinkTransport } from "../../core/turn/turn-link.ts";
import type { TurnServerAddress } from "../../core/turn/open-turn.ts";
import type { Simulation } from "./simulation.ts";

export interface SimTurnServer {
  readonly sockets: TurnSockets;
  /** How clients name it, with the right password unless given. */
  at(transport: LinkTransport, password?: string): TurnServerAddress;
}

export interface SimTurnOptions {
  readonly delayMs?: number;
  readonly perAccount?: number;
  readonly allocations?: number;
  /** Its IPv4 address as clients see it, as behind a 1:1 NAT. */
  readonly shown?: string;
}

const USER = { name: "user", password: "pass" };

export async function startTurnServer(
  sim: Simulation,
  name = "turn",
  options: SimTurnOptions = {},
): Promise<SimTurnServer> {
  const host = sim.addServer(name, { link: { delayMs: options.delayMs ?? 25 } });
  const sockets = await openTurnSockets(host.world, {
    hosts: [
      { ip: host.ip(4), shown: options.shown ?? host.ip(4) },
      { ip: host.ip(6), shown: host.ip(6) },
    ],
    port: 3478,
    otherPort: 3479,
    stun: true,
    turn: {
      realm: "sim",
      credentials: createCredentials({ realm: "sim", users: [USER] }),
      limits: {
        allocations: options.allocations ?? 100,
        perAccount: options.perAccount ?? 100,
        portFirst: 50_000,
        portLast: 59_999,
      },
      allowedPeers: [],
    },
    answersPerSecond: 0,
    log: createLog({ level: "error", format: "text", wallMs: () => 0, write: () => undefined }),
  });
  return {
    sockets,
    at: (transport, password = USER.password) => ({
      host: host.ip(4),
      port: 3478,
      transport,
      username: USER.name,
      password,
    }),
  };
}

export interface EchoPeer {
  readonly endpoint: Endpoint;
  /** Where datagrams came from. */
  readonly heard: Endpoint[];
}

/** Sends back what comes to one UDP and TCP port. */
export async function startEchoPeer(world: World, ip: string, port = 7): Promise<EchoPeer> {
  const local = { ip, port };
  const heard: Endpoint[] = [];
  const socket = await world.openUdp({ local });
  socket.attach({
    message(bytes, from) {
      heard.push(from);
      socket.send(bytes.slice(), from);
    },
  });
  await world.listenTcp({
    local,
    accept(stream) {
      stream.attach({
        data: (bytes) => void stream.write(bytes.slice()),
        drain() {},
        end: () => stream.end(),
        close() {},
      });
    },
  });
  return { endpoint: local, heard };
}
