/** Local UDP ports in a row, bound for a punch. */
import { P2pdError, toP2pdError } from "../errors.ts";
import type { UdpSocket, World } from "../net/world.ts";

export interface OpenPortsOptions {
  readonly localIp: string;
  readonly device?: string | undefined;
  readonly count: number;
  /** Where they must lie; absent where anywhere will do. */
  readonly within?: readonly [low: number, high: number] | undefined;
}

const PORT_TRIES = 16;
/** Above what servers listen on, below what most systems hand out by themselves. */
const FREE_PORTS = [16_384, 32_700] as const;

/** In their order. Rejects as `World.openUdp` does; nothing stays open then. */
export async function openPorts(
  world: Pick<World, "randomBytes" | "openUdp">,
  { localIp, device, count, within }: OpenPortsOptions,
): Promise<readonly UdpSocket[]> {
  const [low, high] = rangeFor(within, count);
  let failure: P2pdError | undefined;
  for (let tries = 0; tries < PORT_TRIES; tries++) {
    const sockets: UdpSocket[] = [];
    const first = low + (new DataView(world.randomBytes(4).buffer).getUint32(0) % (high - low - count + 1));
    try {
      for (let port = first; port < first + count; port++) {
        const local = { ip: localIp, port };
        sockets.push(await world.openUdp({ local, ...(device === undefined ? {} : { device }) }));
      }
      return sockets;
    } catch (thrown) {
      for (const socket of sockets) socket.close();
      failure = toP2pdError(thrown);
      if (failure.code !== "address-in-use") throw failure;
    }
  }
  throw failure ?? new P2pdError("address-in-use", "no local ports are free");
}

function rangeFor(
  within: readonly [low: number, high: number] | undefined,
  count: number,
): readonly [low: number, high: number] {
  if (within === undefined) return FREE_PORTS;
  const low = Math.max(within[0], FREE_PORTS[0]);
  const high = Math.min(within[1], FREE_PORTS[1]);
  return high - low > 2 * count ? [low, high] : within;
}
