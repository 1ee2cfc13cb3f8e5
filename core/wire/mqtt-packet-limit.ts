/**
 * Watches the packets of an MQTT stream go by and finds one that is longer than allowed before anybody gathers it:
 * a packet may announce 256 MiB. Reads the fixed headers only (MQTT 5, section 2.1; the same in 3.1.1).
 */

/**
 * Takes the octets of a stream, in pieces of any size, and returns false at the first packet whose remaining length
 * exceeds `maxLength` octets or cannot be read; after that it is of no use.
 */
export function createPacketLimit(maxLength: number): (bytes: Uint8Array) => boolean {
  /** Octets of the current packet still to come; -1 while its length is being read; -2 before its first octet. */
  let left = -2;
  let length = 0;
  let shift = 0;
  return (bytes) => {
    let at = 0;
    while (at < bytes.length) {
      if (left > 0) {
        const step = Math.min(left, bytes.length - at);
        at += step;
        left -= step;
        if (left === 0) left = -2;
      } else if (left === -2) {
        at++;
        left = -1;
        length = 0;
        shift = 0;
      } else {
        const octet = bytes[at++] as number;
        length += (octet & 127) * 2 ** shift;
        shift += 7;
        if (length > maxLength) return false;
        if ((octet & 128) === 0) left = length === 0 ? -2 : length;
        else if (shift === 28) return false;
      }
    }
    return true;
  };
}
