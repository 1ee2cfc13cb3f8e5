/**
 * Lets a simulation run: something happens, then every microtask it caused, then the next thing. All of it in
 * one go of the machine's event loop, so no real time passes and none can be waited for; only WebCrypto, which
 * works beside the event loop, is waited for while virtual time stands still.
 */
import { drainMicrotasks } from "bun:jsc";
import { P2pdError } from "../../core/errors.ts";
import { createCryptoQueue } from "./crypto-queue.ts";
import { createPackageTime } from "./package-time.ts";
import { createRealTimeGuard } from "./real-time-guard.ts";
import { createSimulation, type Simulation, type SimulationOptions } from "./simulation.ts";

export interface RunOptions extends SimulationOptions {
  /** Virtual milliseconds after which the run has failed; an hour unless given. */
  readonly limitMs?: number;
  /** Told of the simulation as soon as there is one. */
  readonly created?: (sim: Simulation) => void;
}

export interface SimRun<T> {
  readonly result: T;
  readonly sim: Simulation;
}

const LIMIT_MS = 3_600_000;
/** Of the machine, before a simulation replaces it. */
const nextTurn = setImmediate;

let running = false;

/**
 * Runs `body` on a fresh simulation until its promise settles. Rejects as it does; besides with `timeout` when
 * virtual time ran out, with `internal` when nothing is left to happen although `body` still waits, or when
 * anything used the machine's own time, chance or sockets.
 */
export async function runSim<T>(
  options: RunOptions,
  body: (sim: Simulation) => Promise<T>,
): Promise<SimRun<T>> {
  if (running) throw new P2pdError("unavailable", "one simulation runs at a time");
  running = true;
  const work = createCryptoQueue();
  const sim = createSimulation(options);
  const guard = createRealTimeGuard(createPackageTime(sim.scheduler, sim.random.fork("packages")));
  options.created?.(sim);
  try {
    const result = await new Promise<T>((resolve, reject) => {
      let outcome: (() => void) | undefined;

      function begin(): void {
        body(sim).then(
          (value) => (outcome = () => resolve(value)),
          (thrown: unknown) => (outcome = () => reject(thrown)),
        );
      }
      function advance(): void {
        drainMicrotasks();
        const goesOn = (): boolean => outcome === undefined && work.pending === 0;
        while (goesOn()) {
          if (!sim.scheduler.step(options.limitMs ?? LIMIT_MS)) throw stuck(sim);
          drainMicrotasks();
        }
      }
      // Armed from the first turn to the last: ticks that a turn leaves behind run before the next one.
      let disarm = (): void => undefined;
      function turn(first: boolean): void {
        try {
          if (first) {
            disarm = guard.arm();
            begin();
          }
          advance();
        } catch (thrown) {
          outcome = () => reject(thrown);
        }
        if (outcome === undefined) return void nextTurn(() => turn(false));
        disarm();
        outcome();
      }
      nextTurn(() => turn(true));
    });
    const [offence] = guard.offences;
    if (offence !== undefined) throw new P2pdError("internal", `real time or chance was used: ${offence}`);
    return { result, sim };
  } finally {
    work.release();
    running = false;
  }
}

function stuck(sim: Simulation): P2pdError {
  const at = `${sim.scheduler.nowMs} ms of virtual time`;
  return sim.scheduler.pending === 0
    ? new P2pdError("internal", `after ${at} nothing is left to happen, and the test still waits`)
    : new P2pdError("timeout", `the simulation was not done after ${at}`);
}
