/** Builds rtnetlink datagrams octet by octet, for tests. */

/** One attribute (type, value), padded. */
export function attribute(type: number, value: readonly number[]): number[] {
  const length = 4 + value.length;
  return pad([length & 255, length >> 8, type & 255, type >> 8, ...value]);
}

/** One message with its header, padded. */
export function message(type: number, body: readonly number[], flags = 0): number[] {
  const length = 16 + body.length;
  return pad([
    length & 255,
    length >> 8,
    0,
    0,
    type,
    0,
    flags,
    0,
    ...Array.from({ length: 8 }, () => 0),
    ...body,
  ]);
}

/** A datagram of messages. */
export function rtnetlink(...messages: readonly (readonly number[])[]): Uint8Array {
  return Uint8Array.from(messages.flat());
}

function pad(octets: number[]): number[] {
  while (octets.length % 4 !== 0) octets.push(0);
  return octets;
}
