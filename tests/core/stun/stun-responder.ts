/** A STUN server for tests, honest or not: whatever `answer` returns goes out, from where it says. */
import type { Endpoint } from "../../../core/ip.ts";
import type { UdpSocket, World } from "../../../core/net/world.ts";
import * as kinds from "../../../core/wire/stun-attributes.ts";
import { createStunFrameReader } from "../../../core/wire/stun-stream.ts";
import { decodeStun, encodeStun, type StunClass, type StunMessage } from "../../../core/wire/stun.ts";

export interface Reply {
  readonly bytes: Uint8Array;
  /** Sends from the responder's second port. */
  readonly fromOther?: boolean;
}

export type Answer = (request: StunMessage, from: Endpoint, other: Endpoint) => readonly Reply[];

export interface Responder {
  readonly endpoint: Endpoint;
  readonly other: Endpoint;
  readonly requests: number;
  close(): void;
}

/** Answers on two UDP ports of `ip`. */
export async function startUdpResponder(
  world: World,
  answer: Answer = honest(),
  ip = "127.0.0.1",
): Promise<Responder> {
  let requests = 0;
  const [first, second] = [await open(), await open()];
  function open(): Promise<UdpSocket> {
    return world.openUdp({ local: { ip, port: 0 } });
  }
  function serve(socket: UdpSocket, twin: UdpSocket): void {
    socket.attach({
      message(bytes, from) {
        const request = decodeStun(bytes.slice(), { classic: true });
        if (typeof request === "string") return;
        requests++;
        for (const reply of answer(request, from, second.local)) {
          (reply.fromOther === true ? twin : socket).send(reply.bytes, from);
        }
      },
    });
  }
  serve(first, second);
  serve(second, first);
  return {
    endpoint: first.local,
    other: second.local,
    get requests() {
      return requests;
    },
    close() {
      first.close();
      second.close();
    },
  };
}

/** Answers on one TCP port of `ip`. */
export async function startTcpResponder(
  world: World,
  answer: Answer = honest(),
  ip = "127.0.0.1",
): Promise<Responder> {
  let requests = 0;
  const listener = await world.listenTcp({
    local: { ip, port: 0 },
    accept(stream) {
      const reader = createStunFrameReader({
        stun(bytes) {
          const request = decodeStun(bytes.slice());
          if (typeof request === "string") return;
          requests++;
          for (const reply of answer(request, stream.remote, stream.local)) stream.write(reply.bytes);
        },
      });
      stream.attach({
        data: (bytes) => void reader.push(bytes),
        drain() {},
        end: () => stream.end(),
        close() {},
      });
    },
  });
  return {
    endpoint: listener.local,
    other: listener.local,
    get requests() {
      return requests;
    },
    close: () => listener.close(),
  };
}

/** Does what RFC 8489 and RFC 5780 say; `seen` replaces the address it tells. */
export function honest(seen?: Endpoint): Answer {
  return (request, from, other) => {
    const attributes = [
      kinds.attribute(kinds.XOR_MAPPED_ADDRESS, seen ?? from),
      kinds.attribute(kinds.OTHER_ADDRESS, other),
      kinds.attribute(kinds.SOFTWARE, "responder"),
    ];
    const fromOther = request.attributes.some(({ type }) => type === kinds.CHANGE_REQUEST.type);
    return [{ bytes: reply(request, "success", attributes), fromOther }];
  };
}

/** Answers every request with that error. */
export function failing(code: number, ...more: readonly kinds.Attribute[]): Answer {
  const error = kinds.attribute(kinds.ERROR_CODE, { code, reason: "no" });
  return (request) => [{ bytes: reply(request, "error", [error, ...more]) }];
}

export function reply(
  request: StunMessage,
  kind: StunClass,
  attributes: readonly kinds.Attribute[],
): Uint8Array {
  const { method, transactionId } = request;
  return encodeStun({ class: kind, method, transactionId, attributes });
}
