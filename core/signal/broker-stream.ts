/**
 * The way to a broker: its name's addresses of both families, tried with a short stagger (RFC 8305), then TLS and
 * WebSocket as its URL says. What is spoken on it is left to `mqtt-session.ts`.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { familyOf } from "../ip.ts";
import type { ByteStream, World } from "../net/world.ts";
import { type Broker, formatBroker } from "./broker-url.ts";
import { openWebSocket } from "./websocket-stream.ts";

const STAGGER_MS = 250;
const ADDRESSES_MAX = 6;

/** A resolver behind a router that has just come back may be slower than the router. */
const LOOKUP_PATIENCE_MS = 250;

export interface BrokerStreamOptions {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** Name of the NIC to connect by; absent: the system chooses. */
  readonly device?: string;
  /** The address at which the broker answered last: tried when its name is not resolved soon, or not at all. */
  readonly known?: string;
  /** Called once TCP stands; TLS and WebSocket follow. */
  readonly reached?: () => void;
}

/** Rejects with the reason of the last attempt. */
export async function connectBroker(
  world: World,
  broker: Broker,
  options: BrokerStreamOptions,
): Promise<ByteStream> {
  const { timeoutMs, signal } = options;
  const ips = interleave(await addressesOf(world, broker.host, options.known)).slice(0, ADDRESSES_MAX);
  let stream = await firstOf(world, ips, broker.port, options);
  options.reached?.();
  if (broker.scheme === "mqtts" || broker.scheme === "wss") {
    if (world.secureServer === undefined) {
      stream.abort();
      throw new P2pdError("unsupported", `${formatBroker(broker)}: there is no TLS to servers here`);
    }
    stream = await world.secureServer(stream, { serverName: broker.host, timeoutMs, signal });
  }
  if (broker.scheme === "ws" || broker.scheme === "wss") {
    const host = formatBroker({ ...broker, path: "" }).slice(`${broker.scheme}://`.length);
    stream = await openWebSocket(world, stream, { host, path: broker.path, signal });
  }
  return stream;
}

async function addressesOf(
  world: World,
  host: string,
  known: string | undefined,
): Promise<readonly string[]> {
  const found = world.lookup(host);
  if (known === undefined) return await found;
  const { promise: tooLong, resolve } = Promise.withResolvers<readonly string[]>();
  const timer = world.time.after(LOOKUP_PATIENCE_MS, () => resolve([known]), { background: true });
  try {
    return await Promise.race([found.catch(() => [known]), tooLong]);
  } finally {
    timer.cancel();
  }
}

/** Families in turn, the first address's first. */
function interleave(ips: readonly string[]): readonly string[] {
  const [first] = ips;
  if (first === undefined) return [];
  const one = ips.filter((ip) => familyOf(ip) === familyOf(first));
  const other = ips.filter((ip) => familyOf(ip) !== familyOf(first));
  return one.flatMap((ip, i) => [ip, ...other.slice(i, i + 1)]).concat(other.slice(one.length));
}

function firstOf(
  world: World,
  ips: readonly string[],
  port: number,
  { timeoutMs, signal, device }: BrokerStreamOptions,
): Promise<ByteStream> {
  const { promise, resolve, reject } = Promise.withResolvers<ByteStream>();
  const losers = new AbortController();
  let next = 0;
  let running = 0;
  let won = false;

  const step = (): void => {
    const ip = ips[next++];
    if (ip === undefined || won) return;
    running++;
    const stagger = world.time.after(STAGGER_MS, step);
    const both = AbortSignal.any([signal, losers.signal]);
    const tied = device === undefined ? {} : { device };
    void world.connectTcp({ remote: { ip, port }, ...tied, timeoutMs, signal: both }).then(
      (stream) => {
        stagger.cancel();
        if (won) return stream.abort();
        won = true;
        losers.abort();
        resolve(stream);
      },
      (thrown: unknown) => {
        stagger.cancel();
        running--;
        if (won) return;
        if (next < ips.length && !signal.aborted) step();
        else if (running === 0) reject(toP2pdError(thrown, "unreachable"));
      },
    );
  };
  if (ips.length === 0) reject(new P2pdError("unreachable", "the broker's name has no address"));
  step();
  return promise;
}
