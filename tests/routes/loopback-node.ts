/**
 * A small node for the tests of the API: connections over TCP on loopback to itself, to the service `echo` or to
 * a peer that answers `ECHO text`, and none of the rest.
 */
import { P2pdError } from "../../core/errors.ts";
import type { ByteStream, TcpListener, World } from "../../core/net/world.ts";
import type { Connection, NodeApi, NodeEvent, ServiceDescription } from "../../core/node/node-api.ts";
import type { PortMappingReport } from "../../core/node/port-mapping-report.ts";
import { Pipe } from "../../core/node/pipe.ts";
import { streamChannel } from "../../core/node/stream-channel.ts";
import { parseEndpoint } from "../../core/ip.ts";

/** It asks no router. */
const OFF: PortMappingReport = {
  state: "off",
  places: [],
  packets: { sent: 0, requests: 0, answered: 0, ignored: 0 },
};

export interface LoopbackNode extends NodeApi {
  /** The other ends, in the order in which they were opened. */
  readonly far: ByteStream[];
  /** How many wait in `accept`. */
  waiting(): number;
  /** Hands a connection to whoever waits in `accept`. */
  incoming(name: string): Promise<void>;
  emit(event: NodeEvent): void;
  stop(): Promise<void>;
}

export async function createLoopbackNode(world: World): Promise<LoopbackNode> {
  const connections = new Map<string, Connection>();
  const services = new Map<string, ServiceDescription>();
  const peers = new Map<string, { name: string; id: string }>();
  const listeners = new Set<(event: NodeEvent) => void>();
  const takers: ((connection: Connection | undefined) => void)[] = [];
  const far: ByteStream[] = [];
  const echo = await listen(world, (stream) => {
    far.push(stream);
    answer(stream, (bytes) => bytes);
  });
  const peer = await listen(world, (stream) => {
    far.push(stream);
    answer(stream, (bytes) => {
      const text = Buffer.from(bytes).toString();
      return text.startsWith("ECHO ") ? Buffer.from(text.slice(5)) : new Uint8Array(0);
    });
  });

  const connect = async (
    name: string,
    service: string | undefined,
    direction: "in" | "out",
  ): Promise<Connection> => {
    const remote = (service === "echo" ? echo : peer).local;
    const stream = await world.connectTcp({ remote, timeoutMs: 1000 });
    const pipe = new Pipe(streamChannel(stream), { time: world.time });
    const connection: Connection = {
      name,
      direction,
      peer: { id: "SELF" },
      ...(service === undefined ? {} : { service }),
      strategy: "direct",
      path: "direct/tcp",
      transport: "tcp",
      cipher: "none",
      openedMs: 1,
      rttMs: 0,
      cost: { packets: 0, datagrams: 0, syns: 0, stunRequests: 0 },
      timeline: [{ ms: 0, strategy: "direct", candidate: "loopback", event: "connect", detail: "" }],
      route: { af: 2, nic_ips: ["127.0.0.1"], ext_ips: ["127.0.0.1"] },
      nic: { name: "lo", offset: 0 },
      pipe,
    };
    void pipe.closed.then(() => connections.get(name) === connection && connections.delete(name));
    connections.set(name, connection);
    return connection;
  };
  const find = (name: string): Connection => {
    const connection = connections.get(name);
    if (connection === undefined)
      throw new P2pdError("no-such-connection", `there is no connection "${name}"`);
    return connection;
  };

  return {
    id: "SELF",
    version: "0.0.0",
    far,
    address: () => "the-address",
    interfaces: () => [],
    nat: async () => ({ nics: [], advice: [] }),
    refreshNat: async () => ({ nics: [], advice: [] }),
    status: () => [{ part: "listener", state: "up", detail: "TCP" }],
    portMapping: () => OFF,
    refreshPortMapping: async () => OFF,
    async open(name, target, options) {
      if (connections.has(name)) throw new P2pdError("name-taken", "Con name already exists.");
      if (name === "broken") throw new Error("a fault that is no P2pdError");
      if (target !== "self") {
        const attempts = [{ strategy: "direct", candidate: target, reason: "refused" }];
        throw new P2pdError("connect-failed", `Con ${name} failed connect.`, { attempts, timeline: [] });
      }
      return connect(name, options?.service, "out");
    },
    connection: find,
    connections: () => [...connections.values()],
    async close(name) {
      const { pipe } = find(name);
      connections.delete(name);
      await pipe.close();
    },
    accept(timeoutMs, signal) {
      const { promise, resolve } = Promise.withResolvers<Connection | undefined>();
      const timer = world.time.after(timeoutMs, () => settle(undefined));
      const settle = (connection: Connection | undefined): void => {
        timer.cancel();
        const index = takers.indexOf(settle);
        if (index >= 0) takers.splice(index, 1);
        resolve(connection);
      };
      signal?.addEventListener("abort", () => settle(undefined));
      takers.push(settle);
      return promise;
    },
    waiting: () => takers.length,
    async incoming(name) {
      const connection = await connect(name, undefined, "in");
      takers.shift()?.(connection);
    },
    emit(event) {
      for (const listener of listeners) listener(event);
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    services: () => [{ name: "echo", kind: "echo", connections: 0, bytes: 0 }, ...services.values()],
    putService(name, to, allow) {
      if (name === "echo") throw new P2pdError("reserved-name", '"echo" is built in');
      const endpoint = parseEndpoint(to);
      if (endpoint === undefined) throw new P2pdError("bad-argument", `to is "${to}"; expected IP:PORT`);
      const service: ServiceDescription = {
        name,
        kind: "tcp",
        to: endpoint,
        ...(allow === undefined ? {} : { allow }),
        connections: 0,
        bytes: 0,
      };
      services.set(name, service);
      return service;
    },
    deleteService(name) {
      if (!services.delete(name)) throw new P2pdError("no-such-service", `there is no service "${name}"`);
    },
    peers: () => [...peers.values()],
    putPeer(name, to) {
      const peer = { name, id: to };
      peers.set(name, peer);
      return peer;
    },
    deletePeer(name) {
      if (!peers.delete(name)) throw new P2pdError("no-such-peer", `the address book has no "${name}"`);
    },
    async stop() {
      await Promise.all(
        [...connections.values()].map(({ pipe }) => pipe.close(new P2pdError("closed", "stopped"))),
      );
      for (const stream of far) stream.abort();
      echo.close();
      peer.close();
    },
  };
}

function listen(world: World, accept: (stream: ByteStream) => void): Promise<TcpListener> {
  return world.listenTcp({ local: { ip: "127.0.0.1", port: 0 }, accept });
}

function answer(stream: ByteStream, reply: (bytes: Uint8Array) => Uint8Array): void {
  stream.attach({
    data(bytes) {
      const out = reply(bytes);
      if (out.length > 0 && !stream.write(out)) stream.pause();
    },
    drain: () => stream.resume(),
    end: () => stream.end(),
    close() {},
  });
}
