/**
 * STUN answers and relayed datagrams of `p2pd infra` beside coturn's, each server alone on the first core and the client on
 * the second. Since the client may be the slower of the two, what counts is also told for a second of the server's own
 * processor time.
 */
import { createRealWorld } from "../../core/net/real-world.ts";
import { openTurn } from "../../core/turn/open-turn.ts";
import { encodeStun } from "../../core/wire/stun.ts";
import { printRatio } from "./figures.ts";
import { type BenchServer, withBothServers } from "./turn-server-pair.ts";

const PAIRS = 3;
const SECONDS = 2;
const WINDOW = 64;
const PAYLOAD = 1200;
const world = createRealWorld();

interface Measured {
  readonly rate: number;
  readonly perCpuSecond: number;
}

export async function benchTurnServers(): Promise<void> {
  await withBothServers(async (servers) => {
    for (const [what, run] of [
      ["STUN answers", answers],
      ["relayed datagrams of 1200 octets", datagrams],
    ] as const) {
      const measured: Record<keyof typeof servers, Measured[]> = { ours: [], theirs: [] };
      for (let pair = 0; pair < PAIRS; pair++) {
        for (const name of ["ours", "theirs"] as const)
          measured[name].push(await measure(servers[name], run));
      }
      const figures = (name: keyof Measured) =>
        [measured.ours.map((one) => one[name]), measured.theirs.map((one) => one[name])] as const;
      printRatio(what, "per second", "coturn", ...figures("rate"));
      printRatio(what, "per second of the server's core", "coturn", ...figures("perCpuSecond"));
    }
  });
}

async function measure(server: BenchServer, run: (port: number) => Promise<number>): Promise<Measured> {
  const [cpu, began] = [server.cpu(), performance.now()];
  const count = await run(server.port);
  const seconds = (performance.now() - began) / 1000;
  return { rate: count / seconds, perCpuSecond: count / (server.cpu() - cpu) };
}

/** Keeps so many messages under way until the time is over: what is lost is sent again when nothing moves any more. */
function keepUnderWay(send: () => void, count: () => number, done: () => void): () => boolean {
  const until = performance.now() + SECONDS * 1000;
  let last = -1;
  const timer = setInterval(() => {
    if (performance.now() >= until) {
      clearInterval(timer);
      done();
    } else if (count() === last) fill();
    last = count();
  }, 20);
  const fill = (): void => {
    for (let i = 0; i < WINDOW; i++) send();
  };
  fill();
  return () => performance.now() < until;
}

/** Binding requests from one port, so many under way at a time; how many were answered. */
async function answers(port: number): Promise<number> {
  const request = encodeStun({ class: "request", method: 1, transactionId: new Uint8Array(12) });
  const done = Promise.withResolvers<void>();
  let count = 0;
  let goesOn = (): boolean => true;
  const socket = await Bun.udpSocket({
    hostname: "127.0.0.1",
    socket: {
      data(self) {
        count++;
        if (goesOn()) self.send(request, port, "127.0.0.1");
      },
    },
  });
  const send = (): void => void socket.send(request, port, "127.0.0.1");
  goesOn = keepUnderWay(send, () => count, done.resolve);
  await done.promise;
  socket.close();
  return count;
}

/** Datagrams through a channel to a peer that sends them back; how many were relayed, both ways counted. */
async function datagrams(port: number): Promise<number> {
  const at = { host: "127.0.0.1", port, transport: "udp", username: "user", password: "pass" } as const;
  const turn = await openTurn(world, at, { relayed: "udp", families: [4], localIp: "127.0.0.1" });
  const peer = await world.openUdp({ local: { ip: "127.0.0.1", port: 0 } });
  peer.attach({ message: (bytes, from) => void peer.send(bytes, from) });
  await turn.bind(peer.local);
  const payload = new Uint8Array(PAYLOAD);
  const done = Promise.withResolvers<void>();
  const send = (): void => void turn.send(payload, peer.local);
  let count = 0;
  let goesOn = (): boolean => true;
  turn.attach({
    message() {
      count += 2;
      if (goesOn()) send();
    },
    closed: (error) => done.reject(error),
  });
  goesOn = keepUnderWay(send, () => count, done.resolve);
  await done.promise;
  await turn.close();
  peer.close();
  return count;
}
