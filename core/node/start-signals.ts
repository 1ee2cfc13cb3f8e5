/** What signaling needs of a node's other parts, put together: addresses, listeners, punches, what arrives. */
import type { OwnNetworks } from "../connect/plan.ts";
import type { Log } from "../log.ts";
import type { World } from "../net/world.ts";
import type { Arrivals } from "./arrivals.ts";
import type { Identity } from "./identity.ts";
import type { Listener } from "./listener.ts";
import type { NatWatch } from "./nat-watch.ts";
import type { Network } from "./network.ts";
import type { StatusPart } from "./node-api.ts";
import type { NodeConfig } from "./node-config.ts";
import type { Punching } from "./punching.ts";
import { Relaying } from "./relaying.ts";
import { Signals } from "./signals.ts";

export interface SignalsParts {
  readonly config: NodeConfig;
  readonly identity: Identity;
  readonly listener: Listener;
  readonly network: Network;
  readonly nat: NatWatch;
  readonly punching: Punching;
  readonly arrivals: Arrivals;
  readonly log: Log;
  /** Our address line as it is now. */
  readonly address: () => string;
  /** Fires when the node stops. */
  readonly signal: AbortSignal;
  /** Told when brokers come and go. */
  readonly tell: (brokers: StatusPart) => void;
}

/** Throws `bad-argument` for an unreadable broker. */
export function startSignals(world: World, parts: SignalsParts): Signals {
  const { config, identity, listener, network, nat, punching, arrivals, log, address, signal, tell } = parts;
  const { mqttBrokers, strategies, interfaces } = config;
  const { machineId: machine, credentials } = identity;
  const own = (): OwnNetworks => ({ machine, nics: world.nics(), externals: network.externals });
  const quic = (): Listener["quic"] => listener.quic;
  const connected: Arrivals["connected"] = (arrival) => arrivals.connected(arrival);
  const facts = { credentials, network, nat, quic, own, address };
  const relaying = new Relaying(world, { config, ...facts, log, signal, connected });
  relaying.check();
  let told: string | undefined;
  const signals = new Signals(world, {
    identity,
    brokers: mqttBrokers,
    interfaces,
    log,
    address,
    suspected: () => network.recheck(),
    changed() {
      const [brokers] = signals.status();
      if (signal.aborted || brokers === undefined || brokers.detail === told) return;
      told = brokers.detail;
      tell(brokers);
    },
    connectBack: () => {
      if (!strategies.includes("reverse")) return undefined;
      const delayMs = strategies.includes("punch") ? punching.quietMs : 0;
      const { keepAliveMs } = punching;
      return { own: own(), credentials, quic: quic(), keepAliveMs, delayMs, signal };
    },
    punching: () => (strategies.includes("punch") ? punching : undefined),
    relaying,
    signal,
    connected,
  });
  return signals;
}
