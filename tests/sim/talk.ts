/** Two ends of a connection that talk all the time, for tests of what becomes of it. */
import type { Connection } from "../../core/node/node-api.ts";
import type { Pipe } from "../../core/node/pipe.ts";
import { elsewhere } from "./punch-site.ts";
import type { SimNode } from "./sim-node.ts";
import type { Simulation } from "./simulation.ts";

export interface Talk {
  /** Resolves when everything has come, both ways, that was sent until now. */
  caughtUp(limitMs: number): Promise<void>;
  /** Stops sending, waits until everything has come, and ends both directions in order. */
  finish(): Promise<void>;
}

const EVERY_MS = 20;
/** Now and then one that is longer than a message. */
const SIZES = [700, 1200, 40, 20_000];

/** Both send a pattern every 20 ms. Throws out of the receiver, which closes the pipe, where an octet is out of place. */
export function talk(sim: Simulation, pipes: readonly [Pipe, Pipe]): Talk {
  const received: [number, number] = [0, 0];
  const sent: [number, number] = [0, 0];
  const stopping = new AbortController();
  for (const i of [0, 1] as const) {
    pipes[i].onMessage(({ bytes }) => {
      for (const octet of bytes)
        if (octet !== received[i]++ % 251) throw new Error(`octet ${received[i] - 1} is out of place`);
    });
  }
  const speak = async (i: 0 | 1): Promise<void> => {
    for (let turn = 0; !stopping.signal.aborted; turn++) {
      const length = SIZES[turn % SIZES.length] as number;
      const start = sent[i];
      sent[i] += length;
      await pipes[i].send(Uint8Array.from({ length }, (_, at) => (start + at) % 251));
      await sim.sleep(EVERY_MS);
    }
  };
  const speaking = Promise.all([speak(0), speak(1)]);
  const caughtUp = async (limitMs: number): Promise<void> => {
    const [there, back] = sent;
    const limit = sim.scheduler.nowMs + limitMs;
    while (received[1] < there || received[0] < back) {
      if (sim.scheduler.nowMs > limit)
        throw new Error(`sent ${there} and ${back} octets, received ${received[1]} and ${received[0]}`);
      await sim.sleep(5);
    }
  };
  return {
    caughtUp,
    async finish() {
      stopping.abort();
      await speaking;
      await caughtUp(60_000);
      for (const pipe of pipes) pipe.end();
      const reasons = await Promise.all(pipes.map((pipe) => pipe.closed));
      const [reason] = reasons.filter((one) => one !== undefined);
      if (reason !== undefined) throw reason;
      if (received[0] !== sent[1] || received[1] !== sent[0]) throw new Error("more came than was sent");
    },
  };
}

/** Opens, and takes the other end. */
export async function connect(
  caller: SimNode,
  called: SimNode,
  transport?: "tcp",
): Promise<readonly [Connection, Connection]> {
  const accepting = called.node.accept(60_000);
  const options = transport === undefined ? {} : { transport };
  const near = await caller.node.open("talk", elsewhere(called.node.address()), options);
  const far = await accepting;
  if (far === undefined) throw new Error("nothing came to be accepted");
  return [near, far];
}
