/**
 * A laboratory: a topology of real network namespaces that exists for as long as the object does. For tests:
 *
 *     await using lab = await Lab.create(twoHosts(a, b));
 *     await lab.host("alice").run(["ping", "-c1", lab.router("b").publicIp4]);
 *
 * However the process ends (but by SIGKILL), nothing stays behind.
 */
import { mkdirSync } from "node:fs";
import { P2pdError } from "../../core/errors.ts";
import type { LanKind, Topology } from "../nat/topologies.ts";
import { startKernelRouter, startBoxRouter } from "./lab-router.ts";
import type { LabRouter } from "./lab-router.ts";
import { buildNetwork } from "./lab-network.ts";
import { lanKindNow, planLab } from "../nat/lab-plan.ts";
import type { HostSite, RouterSite } from "../nat/lab-plan.ts";
import { labDirectory, newLabId, removeLab } from "./lab-registry.ts";
import { createServers } from "./lab-servers.ts";
import type { LabServers } from "./lab-servers.ts";
import type { Natbox } from "./natbox-control.ts";
import { BASE_TOOLS, requireNamespaces, requireTools } from "./preflight.ts";
import { enterNamespace, tryCommand } from "./shell.ts";
import type { Outcome } from "./shell.ts";

export interface LabNic {
  readonly name: string;
  readonly ip4: string;
  readonly ip6: string;
}

export interface LabHost {
  readonly name: string;
  readonly namespace: string;
  /** As they are now: a router that stops translating gives its hosts other addresses. */
  readonly nics: readonly LabNic[];
  /** IPv4 and IPv6 address of the first NIC. */
  readonly ip4: string;
  readonly ip6: string;
  /** Runs a command in the host to its end, whatever its exit code. */
  run(command: readonly string[], input?: string): Promise<Outcome>;
  /** Starts a process in the host; it ends with the laboratory at the latest. */
  spawn(command: readonly string[], options?: LabSpawnOptions): Bun.Subprocess<"pipe", "pipe", "pipe">;
  /** The words that enter the host from a shell. */
  enter(command?: string): string;
}

export interface LabSpawnOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

export interface Lab extends AsyncDisposable {
  readonly id: string;
  /** Namespace of the internet, where the servers are. */
  readonly internet: string;
  /** A directory for files, removed with the laboratory. */
  readonly directory: string;
  readonly hosts: readonly LabHost[];
  readonly routers: readonly LabRouter[];
  /** Servers on the internet. */
  readonly servers: LabServers;
  host(name: string): LabHost;
  router(name: string): LabRouter;
  /** Ends it: processes, namespaces, files. May be called twice. */
  close(): Promise<void>;
}

export const Lab = {
  /**
   * Builds a laboratory. Rejects with `unavailable` when the machine cannot hold one (the message says what is
   * missing), `bad-argument` when the topology is wrong; nothing is left behind then.
   */
  async create(topology: Topology): Promise<Lab> {
    const kernel = topology.routers.some(({ nat }) => nat.kind === "kernel");
    requireTools([...BASE_TOOLS, ...(kernel ? ["nft"] : [])]);
    requireNamespaces();
    const plan = planLab(newLabId(), topology);
    watchExit();
    living.add(plan.id);
    try {
      mkdirSync(labDirectory(plan.id), { mode: 0o755 });
      return await build(plan);
    } catch (error) {
      removeNow(plan.id);
      throw error;
    }
  },
};

async function build(plan: ReturnType<typeof planLab>): Promise<Lab> {
  await buildNetwork(plan);
  const kinds = new Map<RouterSite, LanKind>(
    plan.routers.map((site) => [site, lanKindNow(site, site.spec.nat)]),
  );
  const boxes: Natbox[] = [];
  const routers = await Promise.all(
    plan.routers.map(async (site) => {
      if (site.spec.nat.kind === "kernel") return startKernelRouter(plan, site);
      const { router, box } = await startBoxRouter(plan, site, (changed, kind) => kinds.set(changed, kind));
      boxes.push(box);
      return router;
    }),
  );
  const hosts = plan.hosts.map((site) => createHost(site, (router) => kinds.get(router) as LanKind));
  const servers = createServers(plan);
  const find = <T extends { name: string }>(what: string, all: readonly T[], name: string): T => {
    const found = all.find((one) => one.name === name);
    if (found !== undefined) return found;
    const names = all.map((one) => one.name).join(", ");
    throw new P2pdError("bad-argument", `no ${what} "${name}" in this laboratory; there are ${names}`);
  };
  const close = async (): Promise<void> => {
    if (!living.has(plan.id)) return;
    await servers.stopAll();
    await Promise.all(boxes.map((box) => box.stop()));
    removeNow(plan.id);
  };
  return {
    id: plan.id,
    internet: plan.internet,
    directory: labDirectory(plan.id),
    hosts,
    routers,
    servers,
    host: (name) => find("host", hosts, name),
    router: (name) => find("router", routers, name),
    close,
    [Symbol.asyncDispose]: close,
  };
}

function createHost(site: HostSite, kindOf: (router: RouterSite) => LanKind): LabHost {
  const enter = enterNamespace(site.namespace);
  const nics = (): LabNic[] =>
    site.nics.map(({ name, router, ip4, ip6 }) => ({
      name,
      ip4: ip4(router === undefined ? "public" : kindOf(router)),
      ip6,
    }));
  return {
    name: site.name,
    namespace: site.namespace,
    get nics() {
      return nics();
    },
    get ip4() {
      return nics()[0]?.ip4 ?? "";
    },
    get ip6() {
      return nics()[0]?.ip6 ?? "";
    },
    run: (command, input) => tryCommand([...enter, ...command], input),
    spawn: (command, options = {}) =>
      Bun.spawn([...enter, ...command], {
        stdin: "pipe",
        stdout: "pipe",
        stderr: "pipe",
        env: { ...process.env, ...options.env },
        ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      }),
    enter: (command = "bash") => [...enter, command].join(" "),
  };
}

/** Laboratories of this process that have not been removed. */
const living = new Set<string>();
let watching = false;

function removeNow(id: string): void {
  const left = removeLab(id);
  living.delete(id);
  if (left.length > 0) {
    throw new P2pdError(
      "internal",
      `could not remove the namespaces ${left.join(", ")}; try "bun run lab clean"`,
    );
  }
}

/** Removes what lives when the process ends, by whatever way leaves it a moment. */
function watchExit(): void {
  if (watching) return;
  watching = true;
  process.on("exit", () => {
    for (const id of living) removeLab(id);
  });
  for (const [signal, number] of [
    ["SIGINT", 2],
    ["SIGTERM", 15],
    ["SIGHUP", 1],
  ] as const) {
    process.on(signal, () => process.exit(128 + number));
  }
}
