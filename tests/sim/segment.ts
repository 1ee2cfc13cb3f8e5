/**
 * A network that hosts and routers are plugged into: the internet, or a router's LAN. It hands a packet to
 * whoever has the destination, else to the gateway. It costs no time: delay and loss belong to NICs and routers.
 */
import { scopeOf } from "../../core/ip.ts";
import { describePacket, type SimPacket, unreachableFor } from "./packet.ts";
import type { Trace } from "./trace.ts";

/** One plug: a host's NIC, or a side of a router. */
export interface Plug {
  /** Whether packets to this address go here. */
  owns(ip: string): boolean;
  /** Whether multicast packets go here too: to hosts, not through routers. */
  readonly isHost: boolean;
  receive(packet: SimPacket): void;
}

export interface Segment {
  readonly name: string;
  /** Plugs something in; returns how to pull it out. */
  plug(plug: Plug): () => void;
  /** Where packets for strangers go; none at the internet. */
  setGateway(plug: Plug): void;
  /** Brings a packet that `from` sent to where it belongs. */
  carry(packet: SimPacket, from: Plug): void;
  /** To be called after the addresses of a plug changed. */
  addressesChanged(): void;
}

/** Whether an address is a group's. */
export function isMulticast(ip: string): boolean {
  return /^(22[4-9]|23[0-9])\.|^ff/.test(ip);
}

export function createSegment(name: string, trace: Trace): Segment {
  const plugs = new Set<Plug>();
  const owners = new Map<string, Plug>();
  let gateway: Plug | undefined;

  function ownerOf(ip: string): Plug | undefined {
    const known = owners.get(ip);
    if (known !== undefined) return known;
    for (const plug of plugs) {
      if (!plug.owns(ip)) continue;
      owners.set(ip, plug);
      return plug;
    }
    return undefined;
  }

  return {
    name,
    plug(plug) {
      plugs.add(plug);
      owners.clear();
      return () => {
        plugs.delete(plug);
        owners.clear();
      };
    },
    setGateway(plug) {
      gateway = plug;
    },
    addressesChanged: () => owners.clear(),
    carry(packet, from) {
      const { ip } = packet.destination;
      if (isMulticast(ip)) {
        for (const plug of plugs) if (plug.isHost && plug !== from) plug.receive(packet);
        return;
      }
      const to = ownerOf(ip) ?? (from === gateway ? undefined : gateway);
      if (to !== undefined) return to.receive(packet);
      trace.add(`${name} has no way to ${ip}: ${describePacket(packet)}`);
      // Backbones say that private networks do not exist; an address that nobody has is silence.
      const isPrivate = scopeOf(ip) === "private" || scopeOf(ip) === "shared";
      if (gateway !== undefined || !isPrivate) return;
      const error = unreachableFor(packet, "host");
      if (error !== undefined) ownerOf(error.destination.ip)?.receive(error);
    },
  };
}
