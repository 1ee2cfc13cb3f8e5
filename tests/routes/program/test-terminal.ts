/** A terminal without a process, for tests of commands: its words are kept, its input is given. */
import { EventEmitter } from "node:events";
import type { Output } from "../../../routes/program/stdio-stream.ts";
import type { Terminal } from "../../../routes/program/terminal.ts";

export interface TestTerminal extends Terminal {
  readonly printed: readonly string[];
  readonly complaints: readonly string[];
  /** What was written as octets. */
  readonly bytes: () => Uint8Array;
  /** Resolves with the first printed line that matches. */
  line(pattern: RegExp): Promise<string>;
  /** Asks the program to end, as SIGTERM does. */
  terminate(): void;
}

/** `directory` is home, working directory and data directory; nothing of this process's environment is seen. */
export function testTerminal(
  directory: string,
  env: Readonly<Record<string, string>> = {},
  input: Uint8Array | ReadableStream<Uint8Array> = new Uint8Array(0),
  isInteractive = false,
): TestTerminal {
  const printed: string[] = [];
  const complaints: string[] = [];
  const pieces: Uint8Array[] = [];
  const arrived = new EventEmitter();
  const signal = Promise.withResolvers<string>();
  const output: Output = Object.assign(new EventEmitter(), {
    write(piece: Uint8Array | string, written?: () => void) {
      pieces.push(typeof piece === "string" ? new TextEncoder().encode(piece) : piece.slice());
      written?.();
      return true;
    },
  });
  const print = (line: string): void => {
    printed.push(line);
    arrived.emit("line");
  };
  return {
    env: {
      P2PD_DATA_DIR: directory,
      P2PD_LISTEN_PORT: "0",
      P2PD_STUN_SERVERS: "",
      P2PD_PORT_MAPPING: "off",
      P2PD_MQTT_BROKERS: "",
      P2PD_NTP_SERVERS: "",
      ...env,
    },
    cwd: directory,
    home: directory,
    platform: "linux",
    input: () => (input instanceof ReadableStream ? input : new Blob([input]).stream()),
    isInteractive,
    output,
    print,
    complain: (line) => {
      complaints.push(line);
    },
    columns: 100,
    signals: () => ({ received: signal.promise, stop: () => undefined }),
    terminate: () => signal.resolve("SIGTERM"),
    printed,
    complaints,
    bytes: () => Buffer.concat(pieces),
    async line(pattern) {
      for (;;) {
        const found = printed.find((line) => pattern.test(line));
        if (found !== undefined) return found;
        const { promise, resolve } = Promise.withResolvers<void>();
        arrived.once("line", resolve);
        await promise;
      }
    },
  };
}
