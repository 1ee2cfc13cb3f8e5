/**
 * The requests that change a standing allocation (RFC 8656 sections 8, 10 and 12): Refresh, CreatePermission and
 * ChannelBind, with the peers that are permitted and the numbers that are bound.
 */
import { type Endpoint, type Family, familyOf } from "../ip.ts";
import { attribute } from "../wire/stun-attributes.ts";
import { hasAttribute, readAttribute } from "../wire/stun.ts";
import * as turn from "../wire/turn.ts";
import type { PeerVerdict } from "./peer-policy.ts";
import { type Allocations, lifetimeSeconds } from "./turn-allocations.ts";
import type { Allocation, Permission } from "./turn-parts.ts";
import { successOf, type TurnRequest } from "./turn-request.ts";

/** RFC 8656 sections 9 and 12. */
const PERMISSION_MS = 300_000;
const CHANNEL_MS = 600_000;
/** What one allocation may have of each. */
const PERMISSIONS_MAX = 256;
const CHANNELS_MAX = 256;

type JudgePeer = (ip: string) => PeerVerdict;

/** The answer to a request on `allocation`, or the code of the error that it is. */
export function serveOnAllocation(
  request: TurnRequest,
  allocation: Allocation,
  allocations: Pick<Allocations, "remove" | "removeRelay">,
  judgePeer: JudgePeer,
): Uint8Array | number {
  switch (request.message.method) {
    case turn.REFRESH:
      return refresh(request, allocation, allocations);
    case turn.CREATE_PERMISSION:
      return createPermission(request, allocation, judgePeer);
    case turn.CHANNEL_BIND:
      return bindChannel(request, allocation, judgePeer);
    default:
      return 400;
  }
}

function refresh(
  request: TurnRequest,
  allocation: Allocation,
  allocations: Pick<Allocations, "remove" | "removeRelay">,
): Uint8Array | number {
  const { message, nowMs } = request;
  const wire = readAttribute(message, turn.REQUESTED_ADDRESS_FAMILY);
  if (wire === undefined && hasAttribute(message, turn.REQUESTED_ADDRESS_FAMILY)) return 400;
  const family: Family | undefined =
    wire === undefined ? undefined : wire === turn.FAMILY_IP4 ? 4 : wire === turn.FAMILY_IP6 ? 6 : undefined;
  if (wire !== undefined && (family === undefined || !allocation.relays.has(family))) return 443;
  if (readAttribute(message, turn.LIFETIME) === 0) {
    const answer = successOf(request, [attribute(turn.LIFETIME, 0)]);
    if (family !== undefined && allocation.relays.size > 1) allocations.removeRelay(allocation, family);
    else allocations.remove(allocation, "refreshed to 0");
    return answer;
  }
  const seconds = lifetimeSeconds(message);
  allocation.expiresMs = nowMs + 1000 * seconds;
  return successOf(request, [attribute(turn.LIFETIME, seconds)]);
}

function createPermission(
  request: TurnRequest,
  allocation: Allocation,
  judgePeer: JudgePeer,
): Uint8Array | number {
  const { message, nowMs } = request;
  const peers: Endpoint[] = [];
  for (const { type, start, length } of message.attributes) {
    if (type !== turn.XOR_PEER_ADDRESS.type) continue;
    const peer = turn.XOR_PEER_ADDRESS.read(message.bytes.subarray(start, start + length), message.bytes);
    if (peer === undefined) return 400;
    peers.push(peer);
  }
  if (peers.length === 0) return 400;
  // All of them or none.
  for (const { ip } of peers) {
    const wrong = refusalOf(allocation, ip, judgePeer);
    if (wrong !== undefined) return wrong;
  }
  const fresh = new Set(peers.map(({ ip }) => ip).filter((ip) => !allocation.permissions.has(ip)));
  if (allocation.permissions.size + fresh.size > PERMISSIONS_MAX) return 508;
  for (const { ip } of peers) permit(allocation, ip, judgePeer, nowMs);
  return successOf(request, []);
}

function bindChannel(
  request: TurnRequest,
  allocation: Allocation,
  judgePeer: JudgePeer,
): Uint8Array | number {
  const { message, nowMs } = request;
  const number = readAttribute(message, turn.CHANNEL_NUMBER);
  const peer = readAttribute(message, turn.XOR_PEER_ADDRESS);
  if (number === undefined || peer === undefined || peer.port === 0) return 400;
  if (allocation.transport !== "udp") return 400;
  if (number < turn.CHANNEL_FIRST || number > turn.CHANNEL_LAST) return 400;
  const wrong = refusalOf(allocation, peer.ip, judgePeer);
  if (wrong !== undefined) return wrong;
  const standing = allocation.channels.get(number);
  if (standing !== undefined && (standing.peer.ip !== peer.ip || standing.peer.port !== peer.port)) {
    if (standing.expiresMs > nowMs) return 400;
    standing.permission.channels.delete(standing.peer.port);
    allocation.channels.delete(number);
  }
  const other = allocation.permissions.get(peer.ip)?.channels.get(peer.port);
  if (other !== undefined && other.number !== number) {
    if (other.expiresMs > nowMs) return 400;
    allocation.channels.delete(other.number);
  }
  if (!allocation.channels.has(number) && allocation.channels.size >= CHANNELS_MAX) return 508;
  if (!allocation.permissions.has(peer.ip) && allocation.permissions.size >= PERMISSIONS_MAX) return 508;
  const relay = allocation.relays.get(familyOf(peer.ip));
  if (relay === undefined) return 443;
  const permission = permit(allocation, peer.ip, judgePeer, nowMs);
  const channel = { number, peer, permission, relay, expiresMs: nowMs + CHANNEL_MS };
  allocation.channels.set(number, channel);
  permission.channels.set(peer.port, channel);
  return successOf(request, []);
}

function refusalOf(allocation: Allocation, ip: string, judgePeer: JudgePeer): 403 | 443 | undefined {
  if (!allocation.relays.has(familyOf(ip))) return 443;
  return judgePeer(ip) === "denied" ? 403 : undefined;
}

function permit(allocation: Allocation, ip: string, judgePeer: JudgePeer, nowMs: number): Permission {
  const standing = allocation.permissions.get(ip);
  const permission = standing ?? { ip, verdict: judgePeer(ip), expiresMs: 0, channels: new Map() };
  permission.expiresMs = nowMs + PERMISSION_MS;
  if (standing === undefined) allocation.permissions.set(ip, permission);
  return permission;
}
