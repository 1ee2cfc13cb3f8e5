/** Sends octets through a pipe of a daemon to its echo service and compares what comes back, as it comes. */
import { createHash } from "node:crypto";

/** What a client sends to ask for a pipe, and how much of the answer comes before the pipe's own octets. */
export const PIPE_FORMS = {
  plain: {
    head: (name: string) => `GET /p2p/pipe/${name} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`,
    answers: false,
  },
  upgrade: {
    head: (name: string) =>
      `GET /p2p/pipe/${name} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: p2pd\r\n\r\n`,
    answers: true,
  },
} as const;

export interface Transfer {
  readonly sentHash: string;
  readonly receivedHash: string;
  readonly received: number;
  readonly seconds: number;
}

/** Carries `total` octets there and back; finishes sending (half-close) and waits for the end of the other way. */
export async function transfer(
  port: number,
  name: string,
  form: keyof typeof PIPE_FORMS,
  total: number,
): Promise<Transfer> {
  const { head, answers } = PIPE_FORMS[form];
  const sentHash = createHash("sha256");
  const receivedHash = createHash("sha256");
  const block = Buffer.from(crypto.getRandomValues(new Uint8Array(65_536)));
  const done = Promise.withResolvers<void>();
  const started = performance.now();
  let pending: Uint8Array = Buffer.from(head(name));
  let made = 0;
  let received = 0;
  let answer: Buffer | undefined = answers ? Buffer.alloc(0) : undefined;

  const pump = (socket: Bun.Socket): void => {
    for (;;) {
      const took = socket.write(pending);
      pending = pending.subarray(Math.max(took, 0));
      if (pending.length > 0) return;
      if (made === total) {
        socket.shutdown();
        return;
      }
      block.writeUInt32BE(made / block.length, 0);
      pending = Buffer.from(block.subarray(0, Math.min(block.length, total - made)));
      sentHash.update(pending);
      made += pending.length;
    }
  };
  await Bun.connect({
    hostname: "127.0.0.1",
    port,
    allowHalfOpen: true,
    socket: {
      open: pump,
      drain: pump,
      data(_socket, bytes) {
        let payload: Uint8Array = bytes;
        if (answer !== undefined) {
          answer = Buffer.concat([answer, bytes]);
          const end = answer.indexOf("\r\n\r\n");
          if (end < 0) return;
          if (!answer.toString("latin1").startsWith("HTTP/1.1 101 ")) {
            done.reject(new Error(`no pipe: ${answer.toString("latin1")}`));
          }
          payload = answer.subarray(end + 4);
          answer = undefined;
        }
        received += payload.length;
        receivedHash.update(payload);
      },
      end(socket) {
        socket.end();
        done.resolve();
      },
      close: () => done.resolve(),
      error: (_socket, error) => done.reject(error),
    },
  });
  await done.promise;
  return {
    sentHash: sentHash.digest("hex"),
    receivedHash: receivedHash.digest("hex"),
    received,
    seconds: (performance.now() - started) / 1000,
  };
}
