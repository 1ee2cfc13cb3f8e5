/**
 * Takes connections at a port of loopback, and answers each, once its peer has finished, with the SHA-256 of what came.
 * Tells on standard output how the octets arrive, so that a test may act in between and see every silence:
 *
 *     bun hash-server.ts PORT
 *     -> listening · at OCTETS (each 4 MiB) · silence FROM TO (wall clock, ms) · done OCTETS SHA256
 */
export {};

const STEP = 4 * 1024 * 1024;
const SILENCE_MS = 50;
const port = Number(process.argv[2]);

interface Receiving {
  readonly hash: Bun.CryptoHasher;
  octets: number;
  lastAt: number;
}

Bun.listen<Receiving>({
  hostname: "127.0.0.1",
  port,
  allowHalfOpen: true,
  socket: {
    open(socket) {
      socket.data = { hash: new Bun.CryptoHasher("sha256"), octets: 0, lastAt: Date.now() };
    },
    data({ data: receiving }, bytes) {
      const now = Date.now();
      if (now - receiving.lastAt >= SILENCE_MS) console.log(`silence ${receiving.lastAt} ${now}`);
      receiving.lastAt = now;
      receiving.hash.update(bytes);
      const before = Math.floor(receiving.octets / STEP);
      receiving.octets += bytes.length;
      if (Math.floor(receiving.octets / STEP) > before) console.log(`at ${receiving.octets}`);
    },
    end(socket) {
      const sum = socket.data.hash.digest("hex");
      console.log(`done ${socket.data.octets} ${sum}`);
      socket.end(`${sum}\n`);
    },
  },
});
console.log("listening");

// The laboratory holds our standard input: when it is gone, so are we.
for await (const _ of Bun.stdin.stream()) continue;
process.exit(0);
