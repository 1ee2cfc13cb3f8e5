/**
 * Echo (RFC 862): every octet and every datagram back, TCP and UDP, at port 7 of each address given.
 *
 *     bun echo-server.ts ADDRESS...
 */

const PORT = 7;

for (const hostname of process.argv.slice(2)) {
  await Bun.udpSocket({
    hostname,
    port: PORT,
    socket: {
      data(socket, data, port, address) {
        socket.send(data, port, address);
      },
    },
  });
  Bun.listen<{ pending: Uint8Array[] }>({
    hostname,
    port: PORT,
    socket: {
      open(socket) {
        socket.data = { pending: [] };
      },
      data(socket, data) {
        socket.data.pending.push(data);
        flush(socket);
      },
      drain: flush,
    },
  });
}

/** Writes what is pending; while there is more than the system takes, nothing more is read. */
function flush(socket: Bun.Socket<{ pending: Uint8Array[] }>): void {
  const { pending } = socket.data;
  while (pending.length > 0) {
    const next = pending[0] as Uint8Array;
    const written = socket.write(next);
    if (written < next.length) {
      pending[0] = next.subarray(Math.max(0, written));
      socket.pause();
      return;
    }
    pending.shift();
  }
  socket.resume();
}

// The laboratory holds our standard input: when it is gone, so are we.
for await (const _ of Bun.stdin.stream()) continue;
process.exit(0);

export {};
