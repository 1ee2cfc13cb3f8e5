/**
 * The laboratory on the command line: `bun run lab up A B`, `test`, `list`, `clean`. Builds, waits, removes;
 * what a laboratory is, is in `laboratory.ts`.
 */
import { P2pdError } from "../../core/errors.ts";
import { CONFIGURATIONS } from "../nat/configurations.ts";
import { parseRouterKind, twoHosts } from "../nat/topologies.ts";
import { knownLabs, removeLab } from "./lab-registry.ts";
import { Lab } from "./laboratory.ts";
import { linesOf } from "./natbox-control.ts";
import { missing, PACKAGES } from "./preflight.ts";
import { runSelfTest } from "./self-test.ts";

const USAGE = `A laboratory of real NATs in network namespaces. Needs Linux and root.

  bun run lab up A B        two hosts behind routers A and B; Ctrl-C removes everything
  bun run lab test [WORD]   proves the laboratory against itself; only checks that contain WORD
  bun run lab detect [bad] [SEEDS] [WORD]
                            detects every configuration (or those with WORD) with 10 or so many seeds, five
                            minutes for all; bad: loss, dead, mistaken and lying servers, of which 1 run in 70 may
                            be wrong, and none too open
  bun run lab matrix [relay|infra] [RUNS] [WORD]
                            opens every ordered pair of the configurations of docs/punching.md (or those with
                            WORD) between whole daemons, and compares with the theory; five minutes for one run.
                            relay: with coturn to relay, so that every pair must be connected; infra: with p2pd
                            infra for all servers
  bun run lab transfer [MIB]
                            carries 1 GiB or so much through pipes punched over UDP and over TCP with 1 % loss,
                            beside iperf3
  bun run lab moving [RUNS] [MIB] [WORD]
                            carries 500 MiB or so much through one pipe while it moves from a relay to a direct path,
                            a router reboots, a public address changes, a NIC goes (or those with WORD)
  bun run lab list          laboratories on this machine
  bun run lab clean         removes those whose owner has died

A and B: TYPE/DELTA as in ${CONFIGURATIONS.at(-3)?.name}, with a step and a port range where wanted
(symmetric/independent:-2@40000-50000), or kernel, kernel/random, kernel/fully-random.
Debian's packages: ${PACKAGES}`;

const CONSOLE = `Type a line to act on it while it runs:
  table a          the live table of router a as JSON
  set a TYPE/DELTA other settings for router a
  reboot a         router a forgets its mappings
  move a           router a gets another public address
  freeze NAME, thaw NAME, kill NAME    a server: coturn, mosquitto, ntp, echo`;

async function main([verb = "", ...words]: readonly string[]): Promise<number> {
  switch (verb) {
    case "up":
      return up(words);
    case "test":
      return selfTest(words[0] ?? "");
    case "detect":
      return (await import("./detection-report.ts")).reportDetections(words, console.log);
    case "transfer":
      return transfer(words[0]);
    case "matrix":
      return (await import("./matrix-report.ts")).reportMatrix(words, console.log);
    case "moving":
      return (await import("./moving-report.ts")).reportMoving(words, console.log);
    case "list":
      return list();
    case "clean":
      return clean();
    case "help":
    case "--help":
    case "-h":
      console.log(USAGE);
      return 0;
    default:
      throw new P2pdError(
        "bad-argument",
        `${verb === "" ? "say what to do" : `"${verb}" is no command`}.\n\n${USAGE}`,
      );
  }
}

async function up(names: readonly string[]): Promise<number> {
  const [a, b, ...rest] = names;
  if (a === undefined || b === undefined || rest.length > 0) {
    throw new P2pdError(
      "bad-argument",
      `"up" takes two NATs, for example: bun run lab up symmetric/random full-cone/equal`,
    );
  }
  const topology = twoHosts(parseRouterKind(a), parseRouterKind(b));
  mentionLeftovers();
  await using lab = await Lab.create(topology);
  const started = await startServers(lab);
  console.log(`Laboratory ${lab.id} is up.\n`);
  for (const [i, host] of lab.hosts.entries()) {
    const router = lab.routers[i];
    console.log(`  ${host.name}  ${host.ip4}  ${host.ip6}  behind ${names[i]} at ${router?.publicIp4}`);
    console.log(`         enter it:  ${host.enter()}`);
  }
  console.log("\nOn the internet:");
  for (const [name, server] of started)
    console.log(`  ${name.padEnd(9)}  ${server.endpoint.ip}:${server.endpoint.port}`);
  console.log(
    `  enter it:  nsenter --net=/run/netns/${lab.internet} -- bash\n\n${CONSOLE}\n\nCtrl-C removes it.`,
  );
  for await (const line of linesOf(Bun.stdin.stream())) {
    try {
      const said = await obey(lab, started, line.trim().split(/\s+/));
      if (said !== "") console.log(said);
    } catch (error) {
      console.error(error instanceof Error ? error.message : String(error));
    }
  }
  await new Promise(() => setInterval(() => undefined, 3_600_000)); // input has ended; a signal ends the rest
  return 0;
}

/** 1 GiB unless told otherwise, with one packet in a hundred lost at each router. */
async function transfer(size = "1024"): Promise<number> {
  if (!/^[1-9][0-9]{0,4}$/.test(size))
    throw new P2pdError("bad-argument", `"${size}" is no size; expected MiB, 1 to 99999`);
  const { describeTransfer, transferPunched } = await import("./punched-transfer.ts");
  let isEqual = true;
  for (const transport of ["udp", "tcp"] as const) {
    const options = { transport, mib: Number(size), loss: 0.01 };
    const transferred = await transferPunched(options);
    console.log(describeTransfer(options, transferred));
    isEqual &&= transferred.isEqual;
  }
  return isEqual ? 0 : 1;
}

type Servers = ReadonlyMap<string, Awaited<ReturnType<Lab["servers"]["echo"]>>>;

/** The servers whose programs are there; says which are not. */
async function startServers(lab: Lab): Promise<Servers> {
  const started = new Map<string, Awaited<ReturnType<Lab["servers"]["echo"]>>>();
  const starters = {
    coturn: () => lab.servers.coturn(),
    mosquitto: () => lab.servers.mosquitto(),
    ntp: () => lab.servers.ntp(),
    echo: () => lab.servers.echo(),
  };
  for (const [name, start] of Object.entries(starters)) {
    try {
      started.set(name, await start());
    } catch (error) {
      console.error(`Goes on without ${name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  for (const router of lab.routers) await router.startPortMapping().catch(() => undefined); // only kernel routers can
  return started;
}

/** One line of the console; returns what to print. */
async function obey(
  lab: Lab,
  servers: Servers,
  [verb = "", name = "", setting = ""]: readonly string[],
): Promise<string> {
  const server = () => {
    const found = servers.get(name);
    if (found === undefined)
      throw new P2pdError("bad-argument", `no server "${name}"; there are ${[...servers.keys()].join(", ")}`);
    return found;
  };
  switch (verb) {
    case "":
      return "";
    case "table":
      return JSON.stringify(await lab.router(name).state(), undefined, 2);
    case "set": {
      const nat = parseRouterKind(setting);
      if (nat.kind !== "box")
        throw new P2pdError("unsupported", "a router cannot become a kernel router while it runs");
      await lab.router(name).set(nat.settings);
      return `router ${name} is ${setting}; its hosts: ${lab.hosts.map((host) => `${host.name} ${host.ip4}`).join(", ")}`;
    }
    case "reboot":
      await lab.router(name).reboot();
      return `router ${name} has forgotten its mappings`;
    case "move": {
      const router = lab.router(name);
      await router.setAddress(router.nextPublicIp4);
      return `router ${name} is at ${router.publicIp4}`;
    }
    case "freeze":
    case "thaw":
      server()[verb]();
      return `${name}: ${verb}`;
    case "kill":
      await server().kill();
      return `${name}: killed`;
    default:
      throw new P2pdError("bad-argument", `"${verb}" is no command here.\n${CONSOLE}`);
  }
}

async function selfTest(filter: string): Promise<number> {
  mentionLeftovers();
  const began = performance.now();
  const { passed, failed } = await runSelfTest(filter, console.log);
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  console.log(`\n${passed} checks hold, ${failed.length} do not, in ${seconds} s.`);
  if (passed + failed.length === 0)
    throw new P2pdError("bad-argument", `no check's name contains "${filter}"`);
  return failed.length === 0 ? 0 : 1;
}

function list(): number {
  const labs = knownLabs();
  if (labs.length === 0) console.log("No laboratories.");
  for (const { id, ownerPid, ownerAlive, namespaces } of labs) {
    const state = ownerAlive ? `owned by process ${ownerPid}` : `left over: process ${ownerPid} is dead`;
    console.log(`${id}  ${namespaces.length} namespaces, ${state}`);
  }
  return 0;
}

function clean(): number {
  const problems = missing(["ip"]);
  if (problems.length > 0)
    throw new P2pdError("unavailable", `cannot clean up:\n  - ${problems.join("\n  - ")}`);
  let left = 0;
  for (const { id, ownerPid, ownerAlive } of knownLabs()) {
    if (ownerAlive) {
      console.log(`${id}: stays, process ${ownerPid} owns it`);
      continue;
    }
    const remaining = removeLab(id);
    left += remaining.length;
    console.log(
      remaining.length === 0 ? `${id}: removed` : `${id}: could not remove ${remaining.join(", ")}`,
    );
  }
  return left === 0 ? 0 : 1;
}

function mentionLeftovers(): void {
  const dead = knownLabs().filter(({ ownerAlive }) => !ownerAlive);
  if (dead.length > 0) {
    console.error(
      `Left over from owners that died: ${dead.map(({ id }) => id).join(", ")}. "bun run lab clean" removes them.`,
    );
  }
}

if (import.meta.main) {
  try {
    process.exit(await main(process.argv.slice(2)));
  } catch (error) {
    console.error(error instanceof P2pdError ? error.message : error);
    process.exit(error instanceof P2pdError && error.code === "bad-argument" ? 2 : 1);
  }
}
