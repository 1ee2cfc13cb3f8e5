/** The bare TCP echo that the round-trip benchmark is held against, as a process of its own; prints its port. */
const listener = Bun.listen({
  hostname: "127.0.0.1",
  port: 0,
  socket: {
    data(socket, bytes) {
      socket.write(bytes);
    },
  },
});
console.log(listener.port);
