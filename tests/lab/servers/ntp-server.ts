/**
 * An NTP server (RFC 5905, server mode only) whose clock is wrong by as many milliseconds as it is told: on
 * its command line, and by a number per line of standard input while it runs.
 *
 *     bun ntp-server.ts ADDRESS ERROR_MS READY_FILE
 */
import { linesOf } from "../natbox-control.ts";

/** Seconds from NTP's epoch, 1900, to Unix's. */
const EPOCH = 2_208_988_800;

const [, , hostname = "127.0.0.1", errorText = "0", readyFile = ""] = process.argv;
let errorMs = Number(errorText);

/** The answer to a request that arrived now, or undefined if it is none. */
function answer(request: Uint8Array): Uint8Array | undefined {
  if (request.length < 48 || ((request[0] as number) & 7) !== 3) return undefined;
  const reply = new DataView(new ArrayBuffer(48));
  const nowMs = performance.timeOrigin + performance.now() + errorMs;
  reply.setUint8(0, ((request[0] as number) & 0x38) | 4); // their version, mode server
  reply.setUint8(1, 2); // stratum
  reply.setInt8(3, -20); // precision, a microsecond
  reply.setUint32(12, 0x4c414200); // reference id "LAB"
  for (const at of [16, 32, 40]) {
    reply.setUint32(at, Math.floor(nowMs / 1000) + EPOCH);
    reply.setUint32(at + 4, Math.floor(((nowMs % 1000) / 1000) * 2 ** 32));
  }
  new Uint8Array(reply.buffer).set(request.subarray(40, 48), 24); // their transmit time is our originate time
  return new Uint8Array(reply.buffer);
}

await Bun.udpSocket({
  hostname,
  port: 123,
  socket: {
    data(socket, data, port, address) {
      const reply = answer(data);
      if (reply !== undefined) socket.send(reply, port, address);
    },
  },
});
await Bun.write(readyFile, "");
for await (const line of linesOf(Bun.stdin.stream())) if (line.trim() !== "") errorMs = Number(line);
process.exit(0);
