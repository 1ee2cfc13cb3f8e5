/**
 * A router of a running laboratory as tests hold it: a NAT box whose settings, address and table they may read
 * and change while it runs, or the kernel's NAT with miniupnpd beside it.
 */
import { P2pdError } from "../../core/errors.ts";
import type { Endpoint } from "../../core/ip.ts";
import { changeSettings } from "../nat/settings.ts";
import type { NatSettings, NatSettingsChange } from "../nat/settings.ts";
import type { KernelPorts } from "../nat/topologies.ts";
import type { Fault } from "./faults.ts";
import { LAN_DEVICE, readdressLan, WAN_DEVICE } from "./lab-network.ts";
import { lanKindNow } from "../nat/lab-plan.ts";
import type { LabPlan, RouterSite } from "../nat/lab-plan.ts";
import { hasPort, startProcess } from "./lab-process.ts";
import type { LabProcess } from "./lab-process.ts";
import { labDirectory } from "./lab-registry.ts";
import { startNatbox } from "./natbox-control.ts";
import type { Natbox, NatboxState } from "./natbox-control.ts";
import { requireTools } from "./preflight.ts";
import { command, enterNamespace, ipBatch, setKernel } from "./shell.ts";

export interface LabRouter {
  readonly name: string;
  readonly namespace: string;
  /** The public address, as it is now. */
  readonly publicIp4: string;
  /** An address that reaches this router too: for `setAddress`. */
  readonly nextPublicIp4: string;
  readonly publicIp6: string;
  /** The address of the router in its LAN: the hosts' gateway. */
  readonly lanIp4: string;
  /** The settings of a NAT box. Asking a kernel router throws `unsupported`. */
  readonly settings: NatSettings;
  /** Replaces a box's settings; its table is empty then, and hosts are re-addressed where that matters. */
  set(settings: NatSettings, fault?: Fault): Promise<void>;
  /** As `set` with a part of the settings changed. */
  change(change: NatSettingsChange, fault?: Fault): Promise<void>;
  /** Forgets every mapping, as a power cut does. */
  reboot(): Promise<void>;
  /** Moves a router to another public address; the mappings of a box are gone then. */
  setAddress(ip: string): Promise<void>;
  /** Forwards a port of a box by hand. */
  forward(protocol: "udp" | "tcp", port: number, internal: Endpoint, lifetimeMs: number): Promise<void>;
  /**
   * Starts miniupnpd (UPnP IGD 2, NAT-PMP, PCP) on a kernel router, as freshly booted: what an earlier one mapped is
   * gone.
   * @param settings lines of its configuration, to add or replace
   */
  startPortMapping(settings?: Readonly<Record<string, string>>): Promise<LabProcess>;
  /** A box's live table and counters. */
  state(): Promise<NatboxState>;
}

/** Starts the router's box; `kindChanged` hears of LANs that got other addresses. */
export async function startBoxRouter(
  plan: LabPlan,
  site: RouterSite,
  kindChanged: (site: RouterSite, kind: ReturnType<typeof lanKindNow>) => void,
): Promise<{ router: LabRouter; box: Natbox }> {
  if (site.spec.nat.kind !== "box") throw new P2pdError("bad-argument", `${site.spec.name} has no NAT box`);
  let settings = site.spec.nat.settings;
  let publicIp4 = site.wan.ip4;
  const proxied = new Set([site.wan.ip4, site.wan.nextIp4]);
  const box = await startNatbox(site.namespace, {
    lanDevice: LAN_DEVICE,
    wanDevice: WAN_DEVICE,
    publicIp4,
    settings,
  });
  const kindOf = (of: NatSettings) => lanKindNow(site, { kind: "box", settings: of });
  const set = async (next: NatSettings, fault?: Fault): Promise<void> => {
    await box.ask({ do: "settings", settings: next, fault });
    const [before, after] = [kindOf(settings), kindOf(next)];
    settings = next;
    if (before === after) return;
    await readdressLan(plan, site, before, after);
    kindChanged(site, after);
  };
  const router: LabRouter = {
    name: site.spec.name,
    namespace: site.namespace,
    nextPublicIp4: site.wan.nextIp4,
    publicIp6: site.wan.ip6,
    get publicIp4() {
      return publicIp4;
    },
    get lanIp4() {
      return site.lan(kindOf(settings)).lanIp4;
    },
    get settings() {
      return settings;
    },
    set,
    change: async (change, fault) => set(changeSettings(settings, change), fault),
    async reboot() {
      await box.ask({ do: "reboot" });
    },
    async setAddress(ip) {
      if (!proxied.has(ip)) await ipBatch(site.namespace, [`neigh add proxy ${ip} dev wan0`]);
      proxied.add(ip);
      await box.ask({ do: "address", ip });
      publicIp4 = ip;
    },
    async forward(protocol, port, internal, lifetimeMs) {
      await box.ask({ do: "forward", protocol, port, internal, lifetimeMs });
    },
    startPortMapping: async () => {
      throw new P2pdError(
        "unsupported",
        `router ${site.spec.name} is a NAT box; miniupnpd needs a kernel router`,
      );
    },
    async state() {
      return (await box.ask({ do: "state" })).state as NatboxState;
    },
  };
  return { router, box };
}

const MASQUERADE: Readonly<Record<KernelPorts, string>> = {
  keep: "masquerade",
  random: "masquerade random",
  "fully-random": "masquerade fully-random",
};

/** Rules of a kernel router: everything out, only answers and what miniupnpd opened in. */
function kernelRules(ports: KernelPorts): string {
  return `
table inet filter {
  chain miniupnpd { }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname "lan0" accept
    jump miniupnpd
  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    jump prerouting_miniupnpd
  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    jump postrouting_miniupnpd
    meta nfproto ipv4 oifname "wan0" ${MASQUERADE[ports]}
  }
}
`;
}

async function startMiniupnpd(
  plan: LabPlan,
  site: RouterSite,
  changes: Readonly<Record<string, string>>,
): Promise<LabProcess> {
  requireTools(["miniupnpd"]);
  const chains = ["miniupnpd", "prerouting_miniupnpd", "postrouting_miniupnpd"];
  const flush = chains.map((chain) => `flush chain inet filter ${chain}\n`).join("");
  await command([...enterNamespace(site.namespace), "nft", "-f", "-"], flush);
  const base = `${labDirectory(plan.id)}/miniupnpd-${site.spec.name}`;
  const settings = {
    ext_ifname: "wan0",
    listening_ip: "lan0",
    enable_natpmp: "yes",
    enable_upnp: "yes",
    min_lifetime: "2",
    system_uptime: "no",
    uuid: `0daeea01-ecd0-45a0-bc86-${site.index.toString(16).padStart(12, "0")}`,
    upnp_table_name: "filter",
    upnp_nat_table_name: "filter",
    upnp_forward_chain: "miniupnpd",
    upnp_nat_chain: "prerouting_miniupnpd",
    upnp_nat_postrouting_chain: "postrouting_miniupnpd",
    ...changes,
  };
  const lines = Object.entries(settings).map(([key, value]) => `${key}=${value}\n`);
  await Bun.write(`${base}.conf`, lines.join(""));
  const words = ["miniupnpd", "-d", "-f", `${base}.conf`, "-P", `${base}.pid`];
  const [protocol, port] =
    settings.enable_natpmp === "yes" ? (["udp", 5351] as const) : (["udp", 1900] as const);
  return startProcess(site.namespace, "miniupnpd", words, () => hasPort(site.namespace, protocol, port));
}

/** Loads the kernel's NAT into a router. */
export async function startKernelRouter(plan: LabPlan, site: RouterSite): Promise<LabRouter> {
  const { nat } = site.spec;
  if (nat.kind !== "kernel") throw new P2pdError("bad-argument", `${site.spec.name} is no kernel router`);
  await command([...enterNamespace(site.namespace), "nft", "-f", "-"], kernelRules(nat.ports));
  const no = (what: string): never => {
    throw new P2pdError("unsupported", `router ${site.spec.name} is the kernel's NAT, it has no ${what}`);
  };
  let publicIp4 = site.wan.ip4;
  return {
    name: site.spec.name,
    namespace: site.namespace,
    get publicIp4() {
      return publicIp4;
    },
    nextPublicIp4: site.wan.nextIp4,
    publicIp6: site.wan.ip6,
    lanIp4: site.lan(lanKindNow(site, nat)).lanIp4,
    get settings(): NatSettings {
      return no("settings of a NAT box");
    },
    set: async () => no("settings of a NAT box"),
    change: async () => no("settings of a NAT box"),
    reboot: async () => no("reboot"),
    async setAddress(ip) {
      // An address that goes must not take the one that came, nor the routes, with it.
      await setKernel(site.namespace, { "net.ipv4.conf.wan0.promote_secondaries": 1 });
      await ipBatch(site.namespace, [`addr add ${ip}/16 dev wan0`, `addr del ${publicIp4}/16 dev wan0`]);
      publicIp4 = ip;
    },
    forward: async () => no("forwarding by hand"),
    startPortMapping: (settings = {}) => startMiniupnpd(plan, site, settings),
    state: async () => no("table of a NAT box"),
  };
}
