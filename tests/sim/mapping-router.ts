/**
 * What a simulated router is to those who ask it for forwarded ports: NAT-PMP, PCP and UPnP on its LAN side, served
 * from the NAT engine's own table. Each answer can be bent, as those of bad routers are.
 */
import { formatEndpoint, parseIp } from "../../core/ip.ts";
import type { ByteStream, UdpSocket } from "../../core/net/world.ts";
import { formatIp } from "../../core/ip.ts";
import type { SimHost } from "./host.ts";
import type { Simulation } from "./simulation.ts";

export interface MappingRouterOptions {
  readonly natPmp?: boolean;
  readonly pcp?: boolean;
  readonly upnp?: boolean;
  /** The longest life that it grants, in seconds; 7200 unless given. */
  readonly lifetimeSeconds?: number;
  /** The external port for the one that is wished for; the same unless given. */
  readonly portFor?: (wished: number) => number;
  /** Bends an answer on port 5351; undefined: silence. */
  readonly bend?: (answer: Uint8Array, request: Uint8Array) => Uint8Array | undefined;
  /** The address it says to have. */
  readonly externalIp?: string;
  readonly location?: string;
  readonly description?: string;
  /** A SOAP call's answer in place of the router's own: an error number, or the whole HTTP answer. */
  readonly soap?: (action: string, values: Readonly<Record<string, string>>) => number | string | undefined;
  /** The whole HTTP answer to a GET; "": none ever comes. */
  readonly get?: () => string;
  /** Where UPnP answers are sent from; the router's own LAN side unless given. */
  readonly host?: SimHost;
}

export interface MappingRouter {
  /** Requests heard, by what they ask. */
  readonly heard: Map<string, number>;
  /** Forgets its mappings and begins a new epoch. */
  restart(): void;
  /** Ports that it forwards, as `tcp 20000`. */
  forwarded(): readonly string[];
  close(): void;
}

const SERVICE = "urn:schemas-upnp-org:service:WANIPConnection:1";
const HTTP_PORT = 5000;

export async function startMappingRouter(
  sim: Simulation,
  name: string,
  options: MappingRouterOptions = {},
): Promise<MappingRouter> {
  const engine = sim.router(name).ipv4;
  const host = options.host ?? sim.gateway(name);
  const { world } = host;
  const heard = new Map<string, number>();
  const nonces = new Map<string, string>();
  let bornMs = sim.scheduler.nowMs;
  const sockets: UdpSocket[] = [];
  const note = (what: string): void => void heard.set(what, (heard.get(what) ?? 0) + 1);
  const externalIp = (): string => options.externalIp ?? engine.externalIp;
  const epoch = (): number => Math.floor((sim.scheduler.nowMs - bornMs) / 1000);

  /** Grants or ends; the port and the life that were granted. */
  function map(
    protocol: "tcp" | "udp",
    ip: string,
    internal: number,
    wished: number,
    life: number,
  ): { port: number; life: number } | undefined {
    const held = entries().find(
      (entry) => entry.protocol === protocol && entry.ip === ip && entry.internal === internal,
    );
    if (life === 0) {
      if (held !== undefined) engine.unforwardPort(sim.scheduler.nowMs, protocol, held.port);
      return { port: 0, life: 0 };
    }
    const granted = Math.min(life, options.lifetimeSeconds ?? 7200);
    const port = held?.port ?? options.portFor?.(wished) ?? wished;
    const isOurs = engine.forwardPort(
      sim.scheduler.nowMs,
      protocol,
      port,
      { ip, port: internal },
      granted * 1000,
    );
    return isOurs ? { port, life: granted } : undefined;
  }

  function entries() {
    return engine
      .table(sim.scheduler.nowMs)
      .filter(({ forwarded }) => forwarded)
      .map(({ protocol, internal, external }) => ({
        protocol,
        ip: internal.ip,
        internal: internal.port,
        port: external.port,
      }));
  }

  function answerNatPmp(request: Uint8Array, from: string): Uint8Array | undefined {
    const [, opcode = 0] = request;
    const view = new DataView(request.buffer, request.byteOffset);
    const answer = new Uint8Array(opcode === 0 ? 12 : 16);
    const out = new DataView(answer.buffer);
    answer[1] = 128 + opcode;
    out.setUint32(4, epoch());
    if (opcode === 0) {
      note("nat-pmp address");
      answer.set(parseIp(externalIp()) as Uint8Array, 8);
      return answer;
    }
    note("nat-pmp map");
    const protocol = opcode === 1 ? "udp" : "tcp";
    const granted = map(protocol, from, view.getUint16(4), view.getUint16(6), view.getUint32(8));
    if (granted === undefined) out.setUint16(2, 4);
    out.setUint16(8, view.getUint16(4));
    out.setUint16(10, granted?.port ?? 0);
    out.setUint32(12, granted?.life ?? 0);
    return answer;
  }

  function answerPcp(request: Uint8Array, from: string): Uint8Array | undefined {
    const answer = request.slice();
    const view = new DataView(answer.buffer);
    const result = (code: number): Uint8Array => {
      answer[3] = code;
      view.setUint32(8, epoch());
      answer.fill(0, 12, 24);
      return answer;
    };
    answer[1] = 0x80 | (request[1] ?? 0);
    if (request[1] === 0) {
      note("pcp announce");
      return result(0);
    }
    note("pcp map");
    if (formatIp(request.subarray(8, 24)) !== from) return result(12);
    const protocol = request[36] === 6 ? "tcp" : "udp";
    const nonce = Buffer.from(request.subarray(24, 36)).toString("hex");
    const key = `${protocol} ${from} ${view.getUint16(40)}`;
    const isHeld = entries().some((entry) => `${entry.protocol} ${entry.ip} ${entry.internal}` === key);
    if (isHeld && nonces.get(key) !== nonce) return result(2);
    nonces.set(key, nonce);
    const granted = map(protocol, from, view.getUint16(40), view.getUint16(42), view.getUint32(4));
    if (granted === undefined) return result(11);
    view.setUint32(4, granted.life);
    view.setUint16(42, granted.port);
    answer.set([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, ...(parseIp(externalIp()) as Uint8Array)], 44);
    return result(0);
  }

  const udp = async (port: number, answer: (bytes: Uint8Array, from: string) => Uint8Array | undefined) => {
    const socket = await world.openUdp({
      local: { ip: "0.0.0.0", port },
      handlers: {
        message(bytes, from) {
          const reply = answer(bytes.slice(), from.ip);
          if (reply !== undefined) socket.send(reply, from);
        },
      },
    });
    sockets.push(socket);
  };

  if (options.natPmp === true || options.pcp === true) {
    await udp(5351, (bytes, from) => {
      const isPcp = bytes[0] === 2;
      if (!(isPcp ? options.pcp : options.natPmp)) return undefined;
      const answer = isPcp ? answerPcp(bytes, from) : answerNatPmp(bytes, from);
      return answer === undefined || options.bend === undefined ? answer : options.bend(answer, bytes);
    });
  }

  function answerSoap(action: string, values: Readonly<Record<string, string>>, from: string): string {
    note(`upnp ${action}`);
    const bent = options.soap?.(action, values);
    if (typeof bent === "string") return bent;
    if (bent !== undefined) return fault(bent);
    const protocol = values["NewProtocol"] === "TCP" ? "tcp" : "udp";
    const port = Number(values["NewExternalPort"]);
    const held = entries().find((entry) => entry.protocol === protocol && entry.port === port);
    if (action === "GetExternalIPAddress")
      return soap(action, `<NewExternalIPAddress>${externalIp()}</NewExternalIPAddress>`);
    if (action === "GetSpecificPortMappingEntry") {
      if (held === undefined) return fault(714);
      return soap(
        action,
        `<NewInternalPort>${held.internal}</NewInternalPort><NewInternalClient>${held.ip}</NewInternalClient>`,
      );
    }
    if (action === "DeletePortMapping") {
      if (held === undefined) return fault(714);
      engine.unforwardPort(sim.scheduler.nowMs, protocol, port);
      return soap(action, "");
    }
    if (action !== "AddPortMapping") return fault(401);
    if (held !== undefined && held.ip !== values["NewInternalClient"]) return fault(718);
    const life = Number(values["NewLeaseDuration"]) || 1e6;
    const client = values["NewInternalClient"] ?? from;
    engine.forwardPort(
      sim.scheduler.nowMs,
      protocol,
      port,
      { ip: client, port: Number(values["NewInternalPort"]) },
      life * 1000,
    );
    return soap(action, "");
  }

  function serve(stream: ByteStream): void {
    let text = "";
    const answer = (reply: string): void => {
      if (reply === "") return;
      stream.write(new TextEncoder().encode(reply));
      stream.end();
    };
    stream.attach({
      data(bytes) {
        text += new TextDecoder().decode(bytes);
        const end = text.indexOf("\r\n\r\n");
        const length = Number(/content-length: (\d+)/i.exec(text)?.[1] ?? 0);
        if (end < 0 || text.length < end + 4 + length) return;
        if (text.startsWith("GET ")) {
          note("upnp description");
          answer(options.get?.() ?? http(options.description ?? describeRouter("/control")));
          return;
        }
        const action = /SOAPAction: "[^#]*#(\w+)"/i.exec(text)?.[1] ?? "";
        const pairs = [...text.slice(end).matchAll(/<(New\w+)>([^<]*)<\/\1>/g)];
        const values = Object.fromEntries(pairs.map(([, key = "", value = ""]) => [key, value]));
        answer(answerSoap(action, values, stream.remote.ip));
      },
      drain() {},
      end() {},
      close() {},
    });
  }

  let listener: { close(): void } | undefined;
  if (options.upnp === true) {
    const location =
      options.location ?? `http://${formatEndpoint({ ip: host.ip(), port: HTTP_PORT })}/igd.xml`;
    await udp(1900, (bytes) => {
      const target = /^ST: (.*)$/m.exec(new TextDecoder().decode(bytes))?.[1]?.trim() ?? "";
      if (target.endsWith(":2")) return undefined;
      note("ssdp");
      return new TextEncoder().encode(`HTTP/1.1 200 OK\r\nST: ${target}\r\nLOCATION: ${location}\r\n\r\n`);
    });
    listener = await world.listenTcp({ local: { ip: "0.0.0.0", port: HTTP_PORT }, accept: serve });
  }

  return {
    heard,
    restart() {
      engine.reboot();
      nonces.clear();
      bornMs = sim.scheduler.nowMs;
    },
    forwarded: () => entries().map(({ protocol, port }) => `${protocol} ${port}`),
    close() {
      for (const socket of sockets) socket.close();
      listener?.close();
    },
  };
}

/** A description with one WANIPConnection that is controlled at `control`. */
export function describeRouter(control: string): string {
  const service = `<service><serviceType>${SERVICE}</serviceType><controlURL>${control}</controlURL></service>`;
  return `<?xml version="1.0"?><root><device><modelName>Sim</modelName><serviceList>${service}</serviceList></device></root>`;
}

/** A whole HTTP answer. */
export function http(body: string, status = "200 OK"): string {
  return `HTTP/1.1 ${status}\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`;
}

function soap(action: string, values: string): string {
  return http(
    `<s:Envelope xmlns:s="x"><s:Body><u:${action}Response xmlns:u="y">${values}</u:${action}Response></s:Body></s:Envelope>`,
  );
}

function fault(code: number): string {
  return http(
    `<s:Envelope xmlns:s="x"><s:Body><s:Fault><detail><UPnPError><errorCode>${code}</errorCode></UPnPError></detail></s:Fault></s:Body></s:Envelope>`,
    "500 Internal Server Error",
  );
}
