/** What `p2pd demo` plays on: servers and two nodes, which know nothing of each other but what the servers tell. */
import { join } from "node:path";
import { P2pdError, toP2pdError } from "../../core/errors.ts";
import { startInfra } from "../../core/infra/infra.ts";
import type { Log } from "../../core/log.ts";
import type { World } from "../../core/net/world.ts";
import { CONFIG_NAMES, type ConfigName, flagName } from "../../core/node/config.ts";
import { defaultConfig, loadConfig } from "../../core/node/load-config.ts";
import type { Connection, OpenOptions } from "../../core/node/node-api.ts";
import { Node } from "../../core/node/node.ts";

const LOOPBACK = "127.0.0.1";
const BROKER_TIMEOUT_MS = 5000;
const ARRIVAL_TIMEOUT_MS = 5000;

export class DemoStage {
  readonly #closers: (() => Promise<void>)[] = [];
  readonly #nodes = new Map<string, Node>();

  /**
   * @param directory for everything that is written
   * @param stopping ends whatever goes on
   */
  constructor(
    readonly world: World,
    private readonly directory: string,
    private readonly log: Log,
    private readonly stopping: AbortSignal,
  ) {}

  /** Where B puts its copy of what comes by a connection. */
  copyOf(connection: string): string {
    return join(this.directory, `copy-${connection}`);
  }

  /** Starts them on free ports and returns the line that clients need. */
  async startServers(): Promise<string> {
    const config = defaultConfig({
      dataDir: join(this.directory, "infra"),
      infraIps: [LOOPBACK],
      infraPort: 0,
      infraOtherPort: 0,
      infraMqttPort: 0,
      infraWebSocketPort: 0,
      infraAllowPeers: [{ ip: LOOPBACK, prefixLength: 32 }],
    });
    const infra = await startInfra(this.world, config, this.log);
    this.#closers.push(() => infra.close());
    this.stopping.throwIfAborted();
    return infra.clientLine;
  }

  /** Starts A and B as the line says; loopback is the only NIC they use. */
  async startNodes(clientLine: string): Promise<readonly [Node, Node]> {
    const words = clientLine.split(" ");
    const told = CONFIG_NAMES.flatMap((name): [ConfigName, string][] => {
      const value = words[words.indexOf(flagName(name)) + 1];
      return words.includes(flagName(name)) && value !== undefined ? [[name, value]] : [];
    });
    const loopback = this.world.nics().find(({ kind }) => kind === "loopback");
    const start = async (name: string): Promise<Node> => {
      const { config } = await loadConfig({
        platform: process.platform,
        home: this.directory,
        cwd: this.directory,
        env: {},
        flags: {
          ...Object.fromEntries(told),
          dataDir: join(this.directory, name),
          listenPort: "0",
          portMapping: "off",
          ntpServers: "",
          ...(loopback === undefined ? {} : { interfaces: loopback.name }),
        },
      });
      const node = await Node.start(this.world, config, { log: this.log });
      this.#nodes.set(name, node);
      this.#closers.push(() => node.close());
      this.stopping.throwIfAborted();
      return node;
    };
    return [await start("A"), await start("B")];
  }

  /** Resolves when both nodes are connected with the broker. */
  async untilSignaling(): Promise<void> {
    await Promise.all([...this.#nodes].map(([name, node]) => this.#untilSignaling(name, node)));
  }

  /** Opens B from A by its id: the connection as A has it, and as B does. */
  async open(
    a: Node,
    b: Node,
    name: string,
    options: OpenOptions = {},
  ): Promise<readonly [Connection, Connection]> {
    const arrived = Promise.withResolvers<Connection>();
    const forget = b.onConnection(arrived.resolve);
    try {
      const here = await a.open(name, b.id, options);
      const there = this.#within(
        arrived.promise,
        ARRIVAL_TIMEOUT_MS,
        () => "B has no connection, although A has",
      );
      return [here, await there];
    } finally {
      forget();
    }
  }

  /** What `working` comes to; a stop breaks the connections off that it works with, and is the reason it rejects with. */
  async unlessStopped<Result>(working: Promise<Result>, connections: readonly Connection[]): Promise<Result> {
    const stop = (): void => {
      for (const { pipe } of connections) void pipe.close(toP2pdError(this.stopping.reason));
    };
    this.stopping.addEventListener("abort", stop, { once: true });
    try {
      this.stopping.throwIfAborted();
      return await working;
    } catch (thrown) {
      this.stopping.throwIfAborted();
      throw thrown;
    } finally {
      this.stopping.removeEventListener("abort", stop);
    }
  }

  /** Closes what was started, the last first. */
  async close(): Promise<void> {
    for (const close of this.#closers.toReversed()) await close();
  }

  async #untilSignaling(name: string, node: Node): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const look = (): void => {
      if (node.status().some(({ part, state }) => part === "brokers" && state === "up")) resolve();
    };
    const forget = node.subscribe(look);
    look();
    try {
      await this.#within(promise, BROKER_TIMEOUT_MS, () => {
        const broker = node.status().find(({ part }) => part.startsWith("broker "));
        return `node ${name} is not connected with the broker: ${broker?.detail ?? "it has none"}`;
      });
    } finally {
      forget();
    }
  }

  /** Rejects with `timeout` and what `late` says, or with the reason of a stop. */
  async #within<Result>(awaited: Promise<Result>, timeoutMs: number, late: () => string): Promise<Result> {
    const { promise, reject } = Promise.withResolvers<never>();
    const stop = (): void => reject(toP2pdError(this.stopping.reason));
    const timer = this.world.time.after(timeoutMs, () =>
      reject(new P2pdError("timeout", `${late()} (after ${timeoutMs / 1000} s)`)),
    );
    this.stopping.addEventListener("abort", stop, { once: true });
    try {
      this.stopping.throwIfAborted();
      return await Promise.race([awaited, promise]);
    } finally {
      timer.cancel();
      this.stopping.removeEventListener("abort", stop);
    }
  }
}
