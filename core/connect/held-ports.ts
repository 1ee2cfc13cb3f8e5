/**
 * Local TCP ports that are kept for a punch: a shared listener on each, so that no other program gets them, that
 * connects may leave from them, and that a SYN which comes while no connect is on its way is answered all the same.
 * What comes in before anybody wants it waits.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { formatEndpoint } from "../ip.ts";
import type { ByteStream, TcpListener, World } from "../net/world.ts";

export interface HeldPorts {
  readonly ports: readonly number[];
  /** Sets who receives what comes in; undefined: it waits. */
  onArrival(receive: ((stream: ByteStream) => void) | undefined): void;
  /** Frees the ports; what waits is reset, what was received lives on. */
  close(): void;
}

export interface HoldOptions {
  readonly ip: string;
  readonly device?: string | undefined;
  /** So many consecutive ones, or exactly these. */
  readonly ports: number | readonly number[];
  /** Where consecutive ones must lie; absent where anywhere will do. */
  readonly within?: readonly [low: number, high: number] | undefined;
}

type HoldWorld = Pick<World, "listenTcp" | "randomBytes">;

/** Above what servers listen on, below what systems hand out: nobody gets the next one by chance. */
const FREE_PORTS = [16_384, 32_700] as const;
const MAX_BLOCKS = 32;
const MAX_WAITING = 8;

/** Rejects with `address-in-use`, `unreachable` or `unsupported`; nothing is held then. */
export async function holdPorts(world: HoldWorld, options: HoldOptions): Promise<HeldPorts> {
  const { ports, within } = options;
  if (typeof ports !== "number") return holdThese(world, options, ports);
  const [low, high] = rangeFor(within, ports);
  for (let block = 1; ; block++) {
    const first = low + randomBelow(world, high - low - ports + 2);
    try {
      return await holdThese(
        world,
        options,
        Array.from({ length: ports }, (_, i) => first + i),
      );
    } catch (thrown) {
      if (toP2pdError(thrown).code !== "address-in-use" || block === MAX_BLOCKS) throw thrown;
    }
  }
}

async function holdThese(
  world: HoldWorld,
  { ip, device }: HoldOptions,
  ports: readonly number[],
): Promise<HeldPorts> {
  const waiting: ByteStream[] = [];
  let receive: ((stream: ByteStream) => void) | undefined;
  let closed = false;
  const accept = (stream: ByteStream): void => {
    if (receive !== undefined) receive(stream);
    else if (closed || waiting.length >= MAX_WAITING) stream.abort();
    else waiting.push(stream);
  };
  const listeners: TcpListener[] = [];
  const close = (): void => {
    closed = true;
    receive = undefined;
    for (const listener of listeners.splice(0)) listener.close();
    for (const stream of waiting.splice(0)) stream.abort();
  };
  const named = device === undefined ? {} : { device };
  const opened = await Promise.allSettled(
    ports.map(async (port) => {
      listeners.push(await world.listenTcp({ local: { ip, port }, ...named, shared: true, accept }));
    }),
  );
  const failed = opened.findIndex(({ status }) => status === "rejected");
  if (failed >= 0) {
    close();
    const { reason } = opened[failed] as PromiseRejectedResult;
    const { code, message } = toP2pdError(reason);
    const text = `${formatEndpoint({ ip, port: ports[failed] ?? 0 })} cannot be kept for a punch: ${message}`;
    throw new P2pdError(code, text, {}, { cause: reason });
  }
  return {
    ports,
    onArrival(next) {
      receive = closed ? undefined : next;
      if (receive !== undefined) for (const stream of waiting.splice(0)) receive(stream);
    },
    close,
  };
}

function rangeFor(within: HoldOptions["within"], count: number): readonly [low: number, high: number] {
  if (within === undefined) return FREE_PORTS;
  const low = Math.max(within[0], FREE_PORTS[0]);
  const high = Math.min(within[1], FREE_PORTS[1]);
  return high - low > 2 * count ? [low, high] : within;
}

function randomBelow(world: Pick<World, "randomBytes">, limit: number): number {
  const [a = 0, b = 0, c = 0] = world.randomBytes(3);
  return ((a << 16) | (b << 8) | c) % limit;
}
