/**
 * What sort of thing a NIC is, from the words the system has for it. Decides which NICs a node starts from,
 * nothing else.
 */
import type { NicKind } from "./world.ts";

/** What is known of a NIC; `driver` is rtnetlink's kind, undefined where the system does not tell. */
export interface NicTraits {
  readonly name: string;
  readonly loopback: boolean;
  readonly driver?: string;
  /** Member of a bridge or a bond. */
  readonly enslaved?: boolean;
  /** Has a default route of its own. */
  readonly hasDefault?: boolean;
  /** Hardware without link addresses: point-to-point links, tunnels. */
  readonly hardware?: number;
}

const CONTAINER_NAMES =
  /^(docker|br-[0-9a-f]{12}$|cni|lxc|lxd|podman|cali|flannel|weave|kube|nerdctl|veth|vnic|cilium|antrea|incus|mpqemu)/;
const TUNNEL_NAMES =
  /^(tun|tap|wg|tailscale|utun|ipsec|gif|stf|ppp|zt|nebula|gre|sit|ip6tnl|tunl|vti|nordlynx|proton)/;
const BRIDGE_NAMES = /^(br|bridge|virbr|vmbr|vmnet|vboxnet|vEthernet)/;
const VIRTUAL_NAMES =
  /^(dummy|ifb|bond|team|macvlan|macvtap|ipvlan|vlan|vnet|awdl|llw|anpi|ap\d|epair|vxlan)/;

const TUNNEL_DRIVERS = new Set([
  ..."tun wireguard ppp ipip gre gretap erspan sit ip6tnl ip6gre ip6gretap vti vti6 xfrm amt".split(" "),
  ..."ovpn l2tp gtp fou bareudp".split(" "),
]);

/** Hardware kinds (ARPHRD_*) that are tunnels although no driver kind is told: PPP, IPIP, IP6IP6, SIT, GRE. */
const TUNNEL_HARDWARE = new Set([512, 768, 769, 776, 778, 823]);

/** The kind of a NIC. A container's own way out (a veth with a default route) is `virtual`, not `container`. */
export function nicKind(traits: NicTraits): NicKind {
  const { name, driver, loopback, hardware = 1 } = traits;
  if (loopback) return "loopback";
  if (driver === undefined) return kindByName(name);
  if (driver === "bridge" || driver === "openvswitch")
    return CONTAINER_NAMES.test(name) ? "container" : "bridge";
  if (TUNNEL_DRIVERS.has(driver)) return traits.enslaved === true ? "virtual" : "tunnel";
  if (traits.hasDefault !== true) {
    if (CONTAINER_NAMES.test(name) || (driver === "veth" && traits.enslaved === true)) return "container";
  }
  if (driver !== "") return "virtual";
  return TUNNEL_HARDWARE.has(hardware) ? "tunnel" : "physical";
}

function kindByName(name: string): NicKind {
  if (CONTAINER_NAMES.test(name)) return "container";
  if (TUNNEL_NAMES.test(name)) return "tunnel";
  if (BRIDGE_NAMES.test(name)) return "bridge";
  return VIRTUAL_NAMES.test(name) ? "virtual" : "physical";
}
