/**
 * Carries data between a client and its peers (RFC 8656 sections 10 to 12): the part of the TURN server that every
 * packet passes. Two look-ups by cheap keys each way, no allocation on the way to a peer, one copy on the way back,
 * where a header goes in front.
 */
import type { Endpoint } from "../ip.ts";
import { attribute } from "../wire/stun-attributes.ts";
import { encodeStun } from "../wire/stun.ts";
import {
  CHANNEL_HEADER_OCTETS,
  channelDataOctets,
  DATA,
  DATA_METHOD,
  encodeChannelData,
  XOR_PEER_ADDRESS,
} from "../wire/turn.ts";
import type { Allocation, Permission, Relay, TurnCounts } from "./turn-parts.ts";

export interface Relaying {
  /** A ChannelData message of a client. */
  fromClient(allocation: Allocation, bytes: Uint8Array, nowMs: number): void;
  /** The data of a client's Send indication. */
  toPeer(allocation: Allocation, peer: Endpoint, data: Uint8Array, mayFragment: boolean, nowMs: number): void;
  /** A datagram that came to a relayed address. */
  readonly fromPeer: (relay: Relay, bytes: Uint8Array, from: Endpoint, nowMs: number) => void;
}

/**
 * @param isRelay whether an address of this server is that of a relay
 * @param random fills transaction ids
 */
export function createRelaying(
  counts: TurnCounts,
  isRelay: (transport: "udp", ip: string, port: number) => boolean,
  random: (count: number) => Uint8Array,
): Relaying {
  const scratch = new Uint8Array(channelDataOctets(65_535, true));

  function send(
    allocation: Allocation,
    relay: Relay | undefined,
    permission: Permission,
    peer: Endpoint,
    data: Uint8Array,
    mayFragment: boolean,
  ): void {
    if (peer.port === 0 || (permission.verdict === "relays" && !isRelay("udp", peer.ip, peer.port))) {
      counts.dropOwnAddress++;
      return;
    }
    if (relay?.socket === undefined) return;
    allocation.toPeers += data.length;
    counts.packetsToPeers++;
    counts.octetsToPeers += data.length;
    relay.socket.send(data, peer, mayFragment);
  }

  return {
    fromClient(allocation, bytes, nowMs) {
      const number = ((bytes[0] as number) << 8) | (bytes[1] as number);
      const length = ((bytes[2] as number) << 8) | (bytes[3] as number);
      const channel = allocation.channels.get(number);
      // Over UDP there may be padding behind the data (section 12.5).
      if (bytes.length < CHANNEL_HEADER_OCTETS + length || channel === undefined) {
        counts.dropNoChannel++;
      } else if (channel.expiresMs <= nowMs) {
        counts.dropNoChannel++;
      } else if (channel.permission.expiresMs <= nowMs) {
        counts.dropNoPermission++;
      } else {
        const data = bytes.subarray(CHANNEL_HEADER_OCTETS, CHANNEL_HEADER_OCTETS + length);
        send(allocation, channel.relay, channel.permission, channel.peer, data, true);
      }
    },
    toPeer(allocation, peer, data, mayFragment, nowMs) {
      const permission = allocation.permissions.get(peer.ip);
      if (permission === undefined || permission.expiresMs <= nowMs) {
        counts.dropNoPermission++;
        return;
      }
      const relay = allocation.relays.get(peer.ip.includes(":") ? 6 : 4);
      send(allocation, relay, permission, peer, data, mayFragment);
    },
    fromPeer({ allocation }, bytes, from, nowMs) {
      const permission = allocation.permissions.get(from.ip);
      if (permission === undefined || permission.expiresMs <= nowMs) {
        counts.dropNoPermission++;
        return;
      }
      allocation.toClient += bytes.length;
      counts.packetsToClients++;
      counts.octetsToClients += bytes.length;
      const { path } = allocation;
      const channel = permission.channels.get(from.port);
      if (channel !== undefined && channel.expiresMs > nowMs) {
        // A connection may keep what it is given; a datagram is gone when `send` returns.
        path.send(
          path.transport === "udp"
            ? encodeChannelData(channel.number, bytes, false, scratch)
            : encodeChannelData(channel.number, bytes, true),
        );
        return;
      }
      // A Data indication has no room for the largest datagrams.
      if (bytes.length > 65_400) return;
      path.send(
        encodeStun({
          class: "indication",
          method: DATA_METHOD,
          transactionId: random(12),
          attributes: [attribute(XOR_PEER_ADDRESS, from), attribute(DATA, bytes)],
        }),
      );
    },
  };
}
