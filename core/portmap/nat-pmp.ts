/** The NAT-PMP client (RFC 6886) of one place. */
import { P2pdError } from "../errors.ts";
import type { World } from "../net/world.ts";
import {
  decodeNatPmpAnswer,
  encodeNatPmpAddressRequest,
  encodeNatPmpMapRequest,
  NAT_PMP_PORT,
  type NatPmpAnswer,
  natPmpResult,
} from "../wire/nat-pmp.ts";
import { CLEANUP_MS, createRouterAsker } from "./ask-router.ts";
import {
  LIFETIME_SECONDS,
  type Place,
  type PortmapCounters,
  type RouterClient,
  type Transport,
} from "./mapping.ts";
import { type EpochReading, isSameEpoch } from "./upkeep.ts";

/** Result code "network failure". */
const NO_ADDRESS = 3;

type AddressAnswer = Extract<NatPmpAnswer, { kind: "address" }>;
type MapAnswer = Extract<NatPmpAnswer, { kind: "map" }>;

export function createNatPmpClient(world: World, place: Place, counters: PortmapCounters): RouterClient {
  const router = createRouterAsker(world, place, NAT_PMP_PORT, counters);
  let epoch: EpochReading | undefined;
  let externalIp: string | undefined;
  let lacksAddress = false;

  /** Whether the router has kept its table since it was last heard. */
  function note(answer: NatPmpAnswer): boolean {
    const reading = { seconds: answer.epochSeconds, atMs: world.time.now() };
    const same = epoch === undefined || isSameEpoch(epoch, reading);
    epoch = reading;
    return same;
  }

  async function askAddress(signal?: AbortSignal): Promise<AddressAnswer> {
    return router.ask(encodeNatPmpAddressRequest(), readAddress, signal === undefined ? {} : { signal });
  }

  async function end(transport: Transport, internalPort: number, timeoutMs: number): Promise<void> {
    const request = encodeNatPmpMapRequest({ transport, internalPort, externalPort: 0, lifetimeSeconds: 0 });
    await router.ask(request, (bytes) => readMap(bytes, transport, internalPort), { timeoutMs });
  }

  return {
    protocol: "nat-pmp",
    get externalIp() {
      return externalIp;
    },
    get lacksAddress() {
      return lacksAddress;
    },
    async reach(signal) {
      const answer = await askAddress(signal);
      note(answer);
      // A router without a connection may have one later; a mapping it refuses in words of its own.
      if (answer.result === 0) externalIp = answer.externalIp;
      else if (answer.result !== NO_ADDRESS) throw refusal(answer.result);
    },
    async map({ transport, internalPort, externalPort }, earlier) {
      const request = encodeNatPmpMapRequest({
        transport,
        internalPort,
        externalPort: earlier?.externalPort ?? externalPort,
        lifetimeSeconds: LIFETIME_SECONDS,
      });
      const read = (bytes: Uint8Array): MapAnswer | undefined => readMap(bytes, transport, internalPort);
      const answer = await router.ask(request, read).catch(async (thrown: unknown) => {
        // It may have mapped all the same.
        await end(transport, internalPort, CLEANUP_MS).catch(() => undefined);
        throw thrown;
      });
      note(answer);
      lacksAddress = answer.result === NO_ADDRESS;
      if (answer.result !== 0) throw refusal(answer.result);
      if (answer.externalPort === 0 || answer.lifetimeSeconds === 0) {
        await end(transport, internalPort, CLEANUP_MS).catch(() => undefined);
        throw new P2pdError("protocol", "the router granted a mapping without a port or a lifetime");
      }
      const address = await askAddress();
      note(address);
      externalIp = address.result === 0 ? address.externalIp : undefined;
      return {
        protocol: "nat-pmp",
        gateway: place.gateway,
        transport,
        internalIp: place.ip,
        internalPort,
        ...(externalIp === undefined ? {} : { externalIp }),
        externalPort: answer.externalPort,
        lifetimeSeconds: answer.lifetimeSeconds,
      };
    },
    unmap: ({ transport, internalPort }) => end(transport, internalPort, 800),
    async isIntact() {
      const before = externalIp;
      const answer = await askAddress();
      if (answer.result === 0) externalIp = answer.externalIp;
      return note(answer) && answer.result === 0 && externalIp === before;
    },
    close: () => router.close(),
  };
}

function readAddress(bytes: Uint8Array): AddressAnswer | undefined {
  const answer = decodeNatPmpAnswer(bytes);
  return answer?.kind === "address" ? answer : undefined;
}

function readMap(bytes: Uint8Array, transport: string, internalPort: number): MapAnswer | undefined {
  const answer = decodeNatPmpAnswer(bytes);
  if (answer?.kind !== "map" || answer.transport !== transport) return undefined;
  return answer.internalPort === internalPort ? answer : undefined;
}

function refusal(result: number): P2pdError {
  return new P2pdError("refused", natPmpResult(result), { result });
}
