/**
 * A STUN server (RFC 8489, RFC 5780, UDP and TCP, IPv4) at two addresses with two ports each, that lies as it is
 * told: `honest`; `ignores-change-request` answers from where it was asked and claims to know RFC 5780;
 * `wrong-source` answers from its other address although nobody asked it to (over UDP); `wrong-address` reports an
 * address that is not the asker's. Another lie per line of standard input. It shares no code with the STUN client.
 *
 *     bun lying-stun.ts FIRST_ADDRESS SECOND_ADDRESS LIE READY_FILE
 */
import { linesOf } from "../natbox-control.ts";

const COOKIE = 0x2112a442;
const PORTS = [3478, 3479] as const;
const [, , first = "", second = "", firstLie = "honest", readyFile = ""] = process.argv;
const ADDRESSES = [first, second];
let lie = firstLie;

type Place = readonly [address: number, port: number];

const sockets = await Promise.all(
  ADDRESSES.map((hostname, address) =>
    Promise.all(
      PORTS.map((port, portNumber) =>
        Bun.udpSocket({
          hostname,
          port,
          socket: {
            data: (_socket, data, theirPort, theirAddress) =>
              serve(data, [address, portNumber], theirAddress, theirPort),
          },
        }),
      ),
    ),
  ),
);

ADDRESSES.forEach((hostname, address) => {
  PORTS.forEach((port, portNumber) => {
    Bun.listen({
      hostname,
      port,
      socket: {
        // A request is small enough to come in one piece.
        data(socket, data) {
          const [theirAddress, theirPort] = [socket.remoteAddress, socket.remotePort];
          const place: Place = [address, portNumber];
          if (isRequest(data)) socket.write(answer(data, place, place, theirAddress, theirPort));
        },
      },
    });
  });
});

function isRequest(data: Uint8Array): boolean {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  return data.length >= 20 && view.getUint16(0) === 1 && view.getUint32(4) === COOKIE;
}

function serve(request: Uint8Array, [address, port]: Place, theirAddress: string, theirPort: number): void {
  if (!isRequest(request)) return;
  const view = new DataView(request.buffer, request.byteOffset, request.length);
  const asked = lie === "ignores-change-request" ? 0 : changeRequest(view);
  const changeAddress = (asked & 4) !== 0 || lie === "wrong-source" ? 1 : 0;
  const changePort = (asked & 2) !== 0 ? 1 : 0;
  const from: Place = [address ^ changeAddress, port ^ changePort];
  const reply = answer(request, [address, port], from, theirAddress, theirPort);
  sockets[from[0]]?.[from[1]]?.send(reply, theirPort, theirAddress);
}

/** The answer to a request that came to one place and is answered from another. */
function answer(
  request: Uint8Array,
  [address, port]: Place,
  from: Place,
  theirAddress: string,
  theirPort: number,
): Buffer {
  const mapped: [string, number] =
    lie === "wrong-address" ? ["5.44.99.99", theirPort ^ 1] : [theirAddress, theirPort];
  const attributes = Buffer.concat([
    addressAttribute(0x0020, mapped[0], mapped[1], true),
    addressAttribute(0x0001, mapped[0], mapped[1], false),
    addressAttribute(0x802b, ADDRESSES[from[0]] as string, PORTS[from[1]] as number, false), // RESPONSE-ORIGIN
    addressAttribute(0x802c, ADDRESSES[address ^ 1] as string, PORTS[port ^ 1] as number, false), // OTHER-ADDRESS
  ]);
  const head = Buffer.alloc(4);
  head.writeUInt16BE(0x0101, 0);
  head.writeUInt16BE(attributes.length, 2);
  return Buffer.concat([head, request.subarray(4, 20), attributes]);
}

/** The flags of CHANGE-REQUEST: 4 for the address, 2 for the port. */
function changeRequest(view: DataView): number {
  for (let at = 20; at + 8 <= view.byteLength; ) {
    const length = view.getUint16(at + 2);
    if (view.getUint16(at) === 3 && length === 4) return view.getUint32(at + 4) & 6;
    at += 4 + ((length + 3) & ~3);
  }
  return 0;
}

function addressAttribute(type: number, ip: string, port: number, xored: boolean): Buffer {
  const attribute = Buffer.alloc(12);
  attribute.writeUInt16BE(type, 0);
  attribute.writeUInt16BE(8, 2);
  attribute.writeUInt8(1, 5);
  attribute.writeUInt16BE(xored ? port ^ (COOKIE >>> 16) : port, 6);
  ip.split(".").forEach((octet, i) => {
    const mask = xored ? (COOKIE >>> (24 - 8 * i)) & 255 : 0;
    attribute.writeUInt8(Number(octet) ^ mask, 8 + i);
  });
  return attribute;
}

await Bun.write(readyFile, "");
for await (const line of linesOf(Bun.stdin.stream())) if (line.trim() !== "") lie = line.trim();
process.exit(0);
