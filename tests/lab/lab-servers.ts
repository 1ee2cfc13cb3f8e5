/**
 * Servers on the internet of a laboratory: coturn, mosquitto and ones of our own, each started when asked for,
 * and any of them frozen, thawed or killed while it runs.
 */
import { P2pdError } from "../../core/errors.ts";
import type { LabPlan } from "./lab-plan.ts";
import { enterNamespace, tryCommand } from "./shell.ts";

/** One server that runs. */
export interface LabServer {
  readonly name: string;
  readonly pid: number;
  /** Stops it where it stands: its sockets stay, and nothing answers (SIGSTOP). */
  freeze(): void;
  thaw(): void;
  /** Ends it at once, as a crash does. */
  kill(): Promise<void>;
}

export interface LabServers {
  readonly all: readonly LabServer[];
  /** Starts a command in the internet's namespace and waits until `ready` says so. */
  start(name: string, command: readonly string[], ready: () => Promise<boolean>): Promise<LabServer>;
  /** Whether something listens on a TCP port, or has a UDP port, of the internet's namespace. */
  listensTcp(port: number): Promise<boolean>;
  listensUdp(port: number): Promise<boolean>;
  stopAll(): Promise<void>;
}

const READY_MS = 10_000;

export function createServers(plan: LabPlan): LabServers {
  const running: LabServer[] = [];
  const hasPort = async (tables: readonly string[], port: number): Promise<boolean> => {
    const files = tables.map((table) => `/proc/self/net/${table}`);
    const { stdout } = await tryCommand([...enterNamespace(plan.internet), "cat", ...files]);
    const hex = port.toString(16).toUpperCase().padStart(4, "0");
    return new RegExp(`^ *[0-9]+: [0-9A-F]+:${hex} [0-9A-F]+:0000 `, "m").test(stdout);
  };
  return {
    all: running,
    async start(name, command, ready) {
      const child = Bun.spawn([...enterNamespace(plan.internet), ...command], {
        stdin: "ignore",
        stdout: "ignore",
        stderr: "pipe",
      });
      let ended = false;
      void child.exited.then(() => {
        ended = true;
      });
      const server: LabServer = {
        name,
        pid: child.pid,
        freeze: () => child.kill("SIGSTOP"),
        thaw: () => child.kill("SIGCONT"),
        async kill() {
          child.kill("SIGKILL");
          await child.exited;
          const at = running.indexOf(server);
          if (at >= 0) running.splice(at, 1);
        },
      };
      running.push(server);
      const deadline = performance.now() + READY_MS;
      while (!(await ready())) {
        if (ended || performance.now() > deadline) {
          await server.kill();
          const said = await new Response(child.stderr).text();
          throw new P2pdError("unavailable", `${name} did not start: ${said.trim() || "it said nothing"}`);
        }
        await Bun.sleep(20);
      }
      return server;
    },
    listensTcp: (port) => hasPort(["tcp", "tcp6"], port),
    listensUdp: (port) => hasPort(["udp", "udp6"], port),
    async stopAll() {
      await Promise.all([...running].map((server) => server.kill()));
    },
  };
}
