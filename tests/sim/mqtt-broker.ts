/**
 * An MQTT 3.1.1 broker for simulations: QoS 0, exact topics, retained messages. It refuses MQTT 5 as a broker of
 * 3.1.1 does, and can freeze: it then takes what comes and says nothing.
 */
import type { ByteStream, World } from "../../core/net/world.ts";

export interface SimMqttBroker {
  /** `mqtt://192.0.2.1:1883`. */
  readonly url: string;
  readonly clients: number;
  /** Pings that came, over all connections. */
  readonly pings: number;
  /** Connections that came. */
  readonly accepted: number;
  freeze(isFrozen: boolean): void;
  /** Cuts all connections; who comes again is welcome. */
  cut(): void;
  /** Cuts all connections and listens no more. */
  close(): void;
}

const PORT = 1883;

export async function startMqttBroker(world: World, ip: string): Promise<SimMqttBroker> {
  const retained = new Map<string, Uint8Array>();
  const clients = new Map<ByteStream, Set<string>>();
  let isFrozen = false;
  let pings = 0;
  let accepted = 0;

  function packet(stream: ByteStream, topics: Set<string>, first: number, body: Buffer): void {
    const type = first >> 4;
    if (type === 1) {
      const isOld = body[6] === 4;
      stream.write(Uint8Array.of(0x20, 2, 0, isOld ? 0 : 1));
      if (!isOld) stream.end();
    } else if (type === 3) {
      const topic = body.toString("latin1", 2, 2 + body.readUInt16BE(0));
      const plain = frame(0x30, body);
      for (const [other, wanted] of clients) if (wanted.has(topic)) other.write(plain);
      if ((first & 1) !== 0) retained.set(topic, frame(0x31, body));
    } else if (type === 8) {
      const topic = body.toString("latin1", 4, 4 + body.readUInt16BE(2));
      topics.add(topic);
      stream.write(Uint8Array.of(0x90, 3, body[0] as number, body[1] as number, 0));
      const kept = retained.get(topic);
      if (kept !== undefined) stream.write(kept);
    } else if (type === 10) {
      topics.delete(body.toString("latin1", 4, 4 + body.readUInt16BE(2)));
      stream.write(Uint8Array.of(0xb0, 2, body[0] as number, body[1] as number));
    } else if (type === 12) {
      pings++;
      stream.write(Uint8Array.of(0xd0, 0));
    } else if (type === 14) {
      stream.end();
    }
  }

  const listener = await world.listenTcp({
    local: { ip, port: PORT },
    accept(stream) {
      const topics = new Set<string>();
      let rest = Buffer.alloc(0);
      accepted++;
      clients.set(stream, topics);
      stream.attach({
        data(bytes) {
          if (isFrozen) return;
          rest = Buffer.concat([rest, bytes]);
          for (let cut = cutPacket(rest); cut !== undefined; cut = cutPacket(rest)) {
            rest = rest.subarray(cut.length);
            packet(stream, topics, cut.first, cut.body);
          }
        },
        drain() {},
        end: () => stream.end(),
        close: () => void clients.delete(stream),
      });
    },
  });
  return {
    url: `mqtt://${ip.includes(":") ? `[${ip}]` : ip}:${PORT}`,
    get clients() {
      return clients.size;
    },
    get pings() {
      return pings;
    },
    get accepted() {
      return accepted;
    },
    freeze(next) {
      isFrozen = next;
    },
    cut() {
      for (const stream of clients.keys()) stream.abort();
    },
    close() {
      listener.close();
      for (const stream of clients.keys()) stream.abort();
    },
  };
}

function frame(first: number, body: Uint8Array): Uint8Array {
  const { length } = body;
  const size = length < 128 ? [length] : [(length & 127) | 128, length >> 7];
  return Buffer.concat([Uint8Array.of(first, ...size), body]);
}

/** The first whole packet; undefined until it is there. Its length has at most two octets. */
function cutPacket(bytes: Buffer): { first: number; body: Buffer; length: number } | undefined {
  const [first, low, high] = bytes;
  if (first === undefined || low === undefined) return undefined;
  const isLong = low >= 128;
  if (isLong && high === undefined) return undefined;
  const size = isLong ? (low & 127) | ((high as number) << 7) : low;
  const start = isLong ? 3 : 2;
  if (bytes.length < start + size) return undefined;
  return { first, body: bytes.subarray(start, start + size), length: start + size };
}
