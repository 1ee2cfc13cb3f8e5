/**
 * A STUN server as a program of a simulated host: two addresses, two ports, CHANGE-REQUEST (RFC 5780), UDP and
 * TCP. Honest, or dishonest in one of the ways that real servers are.
 */
import { type Endpoint, familyOf } from "../../core/ip.ts";
import type { UdpSocket, World } from "../../core/net/world.ts";
import * as kinds from "../../core/wire/stun-attributes.ts";
import { createStunFrameReader } from "../../core/wire/stun-stream.ts";
import { decodeStun, encodeStun, readAttribute, type StunMessage } from "../../core/wire/stun.ts";

/**
 * `ignores-change`: answers from where it was asked all the same. `wrong-source`: answers every request from its
 * other address. `lies`: tells a made-up address. `claims-change`: ignores CHANGE-REQUEST and says in
 * RESPONSE-ORIGIN that it did not. `dead`: hears everything and says nothing.
 */
export type StunBehaviour = "honest" | "ignores-change" | "wrong-source" | "lies" | "claims-change" | "dead";

export interface StunServerOptions {
  /** One or two addresses of the host, of one family. */
  readonly addresses: readonly string[];
  /** 3478 and 3479 unless given. */
  readonly ports?: readonly [first: number, second: number];
  readonly behaviour?: StunBehaviour;
  /** Whether it knows RESPONSE-PORT (RFC 5780 section 7.5). */
  readonly answersOtherPorts?: boolean;
}

export interface SimStunServer {
  /** Where it is asked. */
  readonly endpoint: Endpoint;
  /** Requests heard so far. */
  readonly requests: number;
  /** Changes what it does from now on. */
  behaviour: StunBehaviour;
  close(): void;
}

const MADE_UP: Readonly<Record<4 | 6, Endpoint>> = {
  4: { ip: "5.47.6.6", port: 666 },
  6: { ip: "2a01:5a40:666::6", port: 666 },
};

export async function startStunServer(world: World, options: StunServerOptions): Promise<SimStunServer> {
  const { addresses, ports = [3478, 3479] } = options;
  let requests = 0;
  let closed = false;
  const places = addresses.flatMap((ip) => ports.map((port): Endpoint => ({ ip, port })));
  const sockets = new Map<string, UdpSocket>();

  const server: SimStunServer = {
    endpoint: places[0] as Endpoint,
    get requests() {
      return requests;
    },
    behaviour: options.behaviour ?? "honest",
    close() {
      if (closed) return;
      closed = true;
      for (const socket of sockets.values()) socket.close();
      for (const listener of listeners) listener.close();
    },
  };

  function otherThan(values: readonly (string | number)[], value: string | number): string | number {
    return values.find((candidate) => candidate !== value) ?? value;
  }

  /** The server's endpoint that differs from `at` in address, port or both. */
  function changed(at: Endpoint, changeIp: boolean, changePort: boolean): Endpoint {
    return {
      ip: changeIp ? (otherThan(addresses, at.ip) as string) : at.ip,
      port: changePort ? (otherThan(ports, at.port) as number) : at.port,
    };
  }

  function answer(request: StunMessage, from: Endpoint, at: Endpoint, origin: Endpoint): Uint8Array {
    const seen = server.behaviour === "lies" ? MADE_UP[familyOf(from.ip)] : from;
    const attributes = [
      kinds.attribute(kinds.XOR_MAPPED_ADDRESS, seen),
      kinds.attribute(kinds.RESPONSE_ORIGIN, origin),
      ...(addresses.length > 1 ? [kinds.attribute(kinds.OTHER_ADDRESS, changed(at, true, true))] : []),
    ];
    const { method, transactionId } = request;
    return encodeStun({ class: "success", method, transactionId, attributes });
  }

  /** Where the answer to a request that came to `at` leaves from, and where it says so. */
  function originOf(request: StunMessage, at: Endpoint): { from: Endpoint; told: Endpoint } {
    const asked = readAttribute(request, kinds.CHANGE_REQUEST) ?? { changeIp: false, changePort: false };
    const wanted = changed(at, asked.changeIp, asked.changePort);
    switch (server.behaviour) {
      case "ignores-change":
        return { from: at, told: at };
      case "claims-change":
        return { from: at, told: wanted };
      case "wrong-source":
        return { from: changed(at, true, true), told: wanted };
      default:
        return { from: wanted, told: wanted };
    }
  }

  for (const at of places) {
    const socket = await world.openUdp({ local: at });
    sockets.set(keyOf(at), socket);
    socket.attach({
      message(bytes, from) {
        const request = decodeStun(bytes.slice(), { classic: true });
        if (typeof request === "string" || request.class !== "request") return;
        requests++;
        if (server.behaviour === "dead") return;
        const { from: leaves, told } = originOf(request, at);
        const port =
          options.answersOtherPorts === false ? undefined : readAttribute(request, kinds.RESPONSE_PORT);
        sockets
          .get(keyOf(leaves))
          ?.send(answer(request, from, at, told), { ...from, port: port ?? from.port });
      },
    });
  }
  const listeners = await Promise.all(
    places.map((local) =>
      world.listenTcp({
        local,
        accept(stream) {
          const reader = createStunFrameReader({
            stun(bytes) {
              const request = decodeStun(bytes.slice());
              if (typeof request === "string" || request.class !== "request") return;
              requests++;
              if (server.behaviour !== "dead") stream.write(answer(request, stream.remote, local, local));
            },
          });
          stream.attach({
            data: (bytes) => void reader.push(bytes),
            drain() {},
            end: () => stream.end(),
            close() {},
          });
        },
      }),
    ),
  );
  return server;
}

function keyOf({ ip, port }: Endpoint): string {
  return `${ip} ${port}`;
}
