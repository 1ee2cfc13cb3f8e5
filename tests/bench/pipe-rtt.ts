/** Round-trip time of 64 octets through a pipe to the `echo` service, beside a bare TCP echo. */
import { join } from "node:path";
import { startDaemon } from "../daemon-process.ts";
import { median } from "./figures.ts";

const ROUNDS = 2000;
const REPEATS = 5;

export async function benchPipeRtt(): Promise<void> {
  await using daemon = await startDaemon();
  const opened = await daemon.get("/p2p/open/rtt/self?service=echo");
  if (opened["error"] !== 0) throw new Error(`open failed: ${JSON.stringify(opened)}`);
  const echo = Bun.spawn([process.execPath, join(import.meta.dir, "echo.ts")], { stdout: "pipe" });
  const echoPort = Number(new TextDecoder().decode((await echo.stdout.getReader().read()).value));
  const pipe = await dial(daemon.port, "GET /p2p/pipe/rtt HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
  const straight = await dial(echoPort, "");
  const added: number[] = [];
  for (let repeat = 0; repeat < REPEATS; repeat++) {
    const through = await medianRtt(pipe);
    const direct = await medianRtt(straight);
    added.push(through - direct);
    console.log(
      `pipe ${through.toFixed(0)} µs, bare TCP echo ${direct.toFixed(0)} µs, added ${(through - direct).toFixed(0)} µs`,
    );
  }
  console.log(`added round-trip time at the median: ${median(added).toFixed(0)} µs`);
  pipe.close();
  straight.close();
  echo.kill();
}

interface Dialled {
  ask(bytes: Uint8Array): Promise<void>;
  close(): void;
}

async function dial(port: number, head: string): Promise<Dialled> {
  let missing = 0;
  let answered: () => void = () => undefined;
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      data(_socket, bytes) {
        missing -= bytes.length;
        if (missing === 0) answered();
      },
    },
  });
  if (head !== "") socket.write(head);
  return {
    ask(bytes) {
      missing = bytes.length;
      return new Promise((resolve) => {
        answered = resolve;
        socket.write(bytes);
      });
    },
    close: () => socket.end(),
  };
}

async function medianRtt(connection: Dialled): Promise<number> {
  const message = new Uint8Array(64).fill(7);
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const started = performance.now();
    await connection.ask(message);
    times.push((performance.now() - started) * 1000);
  }
  return median(times.slice(ROUNDS / 10));
}
