/**
 * The load of the throughput benchmark, as a process of its own: connects to a port, sends an optional head
 * and then so many octets, finishes sending, waits until the other side has ended and prints the seconds.
 */
const [port = "0", mebibytes = "0", head = ""] = process.argv.slice(2);
const total = Number(mebibytes) * 1024 * 1024;
const block = crypto.getRandomValues(new Uint8Array(65536));
const chunk = new Uint8Array(4 * 65536);
for (let at = 0; at < chunk.length; at += block.length) chunk.set(block, at);

let sent = 0;
let headLeft: Uint8Array = new TextEncoder().encode(head);
const started = performance.now();
const ended = Promise.withResolvers<void>();

function pump(socket: Bun.Socket): void {
  if (headLeft.length > 0) {
    headLeft = headLeft.subarray(socket.write(headLeft));
    if (headLeft.length > 0) return;
  }
  while (sent < total) {
    const want = Math.min(chunk.length, total - sent);
    const took = socket.write(want === chunk.length ? chunk : chunk.subarray(0, want));
    sent += Math.max(took, 0);
    if (took < want) return;
  }
  socket.shutdown();
}

await Bun.connect({
  hostname: "127.0.0.1",
  port: Number(port),
  allowHalfOpen: true,
  socket: {
    open: pump,
    drain: pump,
    data() {
      // Nothing is expected back, and nothing of it matters here.
    },
    end(socket) {
      socket.end();
      ended.resolve();
    },
    close: () => ended.resolve(),
    error: (_socket, error) => ended.reject(error),
  },
});
await ended.promise;
console.log((performance.now() - started) / 1000);
process.exit(sent === total ? 0 : 1);

export {};
