/** The PCP client (RFC 6887) of one place: MAP, for IPv4 ports and IPv6 pin holes alike. */
import { P2pdError } from "../errors.ts";
import { scopeOf } from "../ip.ts";
import type { World } from "../net/world.ts";
import {
  decodePcpAnswer,
  encodePcpAnnounce,
  encodePcpMap,
  PCP_NONCE_OCTETS,
  PCP_PORT,
  type PcpAnswer,
  pcpResult,
} from "../wire/pcp.ts";
import { CLEANUP_MS, createRouterAsker } from "./ask-router.ts";
import {
  LIFETIME_SECONDS,
  type Mapping,
  type Place,
  type PortmapCounters,
  type RouterClient,
} from "./mapping.ts";
import { type EpochReading, isSameEpoch } from "./upkeep.ts";

/** Result code NETWORK_FAILURE. */
const NO_ADDRESS = 7;

type MapAnswer = Extract<PcpAnswer, { kind: "map" }>;

export function createPcpClient(world: World, place: Place, counters: PortmapCounters): RouterClient {
  const router = createRouterAsker(world, place, PCP_PORT, counters);
  let epoch: EpochReading | undefined;
  let externalIp: string | undefined;
  let lacksAddress = false;

  /** Whether the router has kept its table since it was last heard. */
  function note(answer: PcpAnswer): boolean {
    const reading = { seconds: answer.epochSeconds, atMs: world.time.now() };
    const same = epoch === undefined || isSameEpoch(epoch, reading);
    epoch = reading;
    return same;
  }

  async function announce(signal?: AbortSignal): Promise<PcpAnswer> {
    const read = (bytes: Uint8Array): PcpAnswer | undefined => {
      const answer = decodePcpAnswer(bytes);
      return answer?.kind === "announce" ? answer : undefined;
    };
    const answer = await router.ask(
      encodePcpAnnounce(place.ip),
      read,
      signal === undefined ? {} : { signal },
    );
    if (answer.result !== 0) throw refusal(answer.result);
    return answer;
  }

  function askMap(mapping: Omit<Mapping, "gateway" | "protocol">, timeoutMs?: number): Promise<MapAnswer> {
    const nonce = Buffer.from(mapping.nonce ?? "", "hex");
    const { transport, internalPort, externalPort, externalIp: suggested, lifetimeSeconds } = mapping;
    const request = encodePcpMap({
      clientIp: place.ip,
      nonce,
      transport,
      internalPort,
      externalPort,
      ...(suggested === undefined ? {} : { externalIp: suggested }),
      lifetimeSeconds,
    });
    const read = (bytes: Uint8Array): MapAnswer | undefined => {
      const answer = decodePcpAnswer(bytes);
      const isOurs =
        answer?.kind === "map" &&
        nonce.equals(answer.nonce) &&
        answer.transport === transport &&
        answer.internalPort === internalPort;
      return isOurs ? answer : undefined;
    };
    return router.ask(request, read, timeoutMs === undefined ? {} : { timeoutMs });
  }

  /** Ends what a router may hold although its answer was none. */
  async function endQuietly(mapping: Omit<Mapping, "gateway" | "protocol">): Promise<void> {
    const end = { ...mapping, externalPort: 0, lifetimeSeconds: 0 };
    await askMap(end, CLEANUP_MS).catch(() => undefined);
  }

  return {
    protocol: "pcp",
    get externalIp() {
      return externalIp;
    },
    get lacksAddress() {
      return lacksAddress;
    },
    async reach(signal) {
      note(await announce(signal));
    },
    async map({ transport, internalPort, externalPort }, earlier) {
      const kept = earlier?.protocol === "pcp" ? earlier : undefined;
      const nonce = kept?.nonce ?? Buffer.from(world.randomBytes(PCP_NONCE_OCTETS)).toString("hex");
      const wish = {
        transport,
        internalIp: place.ip,
        internalPort,
        externalPort: earlier?.externalPort ?? externalPort,
        lifetimeSeconds: LIFETIME_SECONDS,
        nonce,
      };
      const answer = await askMap(wish).catch(async (thrown: unknown) => {
        // It may have mapped all the same.
        await endQuietly(wish);
        throw thrown;
      });
      note(answer);
      lacksAddress = answer.result === NO_ADDRESS;
      // None was suggested, so one in the answer is the router's own, even where it refuses.
      externalIp = scopeOf(answer.externalIp) === "unspecified" ? undefined : answer.externalIp;
      if (answer.result !== 0) throw refusal(answer.result);
      if (answer.externalPort === 0 || answer.lifetimeSeconds === 0) {
        await endQuietly(wish);
        throw new P2pdError("protocol", "the router granted a mapping without a port or a lifetime");
      }
      return {
        protocol: "pcp",
        gateway: place.gateway,
        transport,
        internalIp: place.ip,
        internalPort,
        ...(externalIp === undefined ? {} : { externalIp }),
        externalPort: answer.externalPort,
        lifetimeSeconds: answer.lifetimeSeconds,
        nonce,
      };
    },
    async unmap({ transport, internalIp, internalPort, nonce }) {
      if (nonce === undefined) return;
      await askMap({ transport, internalIp, internalPort, externalPort: 0, lifetimeSeconds: 0, nonce }, 800);
    },
    async isIntact() {
      return note(await announce());
    },
    close: () => router.close(),
  };
}

function refusal(result: number): P2pdError {
  return new P2pdError("refused", pcpResult(result), { result });
}
