/** Brokers for tests: aedes in this process (MQTT 3.1.1), by TCP and WebSocket, and Debian's mosquitto (both versions). */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { Aedes } from "aedes";

export interface TestBroker {
  readonly port: number;
  readonly url: string;
  close(): Promise<void>;
}

export interface AedesBroker extends TestBroker {
  readonly aedes: Aedes;
  /** Cuts every connection; the broker goes on. */
  cut(): void;
}

/** The same port again, where one is given. */
export async function startAedes(
  options: { port?: number; host?: string; tls?: { key: string; cert: string } } = {},
): Promise<AedesBroker> {
  const aedes = await Aedes.createBroker();
  const sockets = new Set<Socket>();
  const take = (socket: Socket): void => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    aedes.handle(socket);
  };
  const server: Server =
    options.tls === undefined
      ? createServer(take)
      : createTlsServer({ key: options.tls.key, cert: options.tls.cert }, take);
  const host = options.host ?? "127.0.0.1";
  server.listen(options.port ?? 0, host);
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const scheme = options.tls === undefined ? "mqtt" : "mqtts";
  return {
    aedes,
    port,
    url: `${scheme}://${host.includes(":") ? `[${host}]` : host}:${port}`,
    cut() {
      for (const socket of sockets) socket.destroy();
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => aedes.close(resolve));
      await new Promise<void>((resolve) => void server.close(() => resolve()));
    },
  };
}

/** A server that accepts connections and says nothing. */
export async function startSilent(): Promise<TestBroker> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    port,
    url: `mqtt://127.0.0.1:${port}`,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => void server.close(() => resolve()));
    },
  };
}

/** A port of 127.0.0.1 at which nobody listens. */
export async function freePort(): Promise<number> {
  const server = createHttpServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  await new Promise<void>((resolve) => void server.close(() => resolve()));
  return port;
}

export interface MosquittoBroker extends TestBroker {
  readonly webSocketUrl: string;
  readonly pid: number;
}

/** Debian's broker, on loopback ports of its own. */
export async function startMosquitto(lines: readonly string[] = []): Promise<MosquittoBroker> {
  const directory = mkdtempSync(join(tmpdir(), "p2pd-mosquitto-"));
  const [port, webPort] = [await freePort(), await freePort()];
  const config = join(directory, "mosquitto.conf");
  writeFileSync(
    config,
    [
      "per_listener_settings false",
      "allow_anonymous true",
      "persistence false",
      `listener ${port} 127.0.0.1`,
      `listener ${webPort} 127.0.0.1`,
      "protocol websockets",
      ...lines,
      "",
    ].join("\n"),
  );
  const child = spawn("mosquitto", ["-c", config, "-v"], { stdio: ["ignore", "ignore", "pipe"] });
  const ended = once(child, "exit");
  let output = "";
  await new Promise<void>((resolve, reject) => {
    child.stderr.on("data", (chunk: Buffer) => {
      output += chunk.toString();
      if (output.includes("running")) resolve();
    });
    child.once("exit", () => reject(new Error(`mosquitto ended: ${output}`)));
  });
  return {
    port,
    pid: child.pid as number,
    url: `mqtt://127.0.0.1:${port}`,
    webSocketUrl: `ws://127.0.0.1:${webPort}/mqtt`,
    async close() {
      child.kill("SIGKILL");
      await ended;
      rmSync(directory, { recursive: true });
    },
  };
}
