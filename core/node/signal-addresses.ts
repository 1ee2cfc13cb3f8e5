/** Address lines as signaling needs them: our brokers as a line carries them, and lines that came from others. */
import { parseBrokerUrl } from "../signal/broker-url.ts";
import {
  ADDRESS_MAX_BROKERS,
  type Address,
  type AddressBroker,
  decodeAddress,
  encodeAddress,
} from "../wire/address.ts";

/** Our brokers, without those that no line can carry. Throws `bad-argument` for an unreadable URL. */
export function brokersForAddress(urls: readonly string[]): readonly AddressBroker[] {
  return urls
    .map(parseBrokerUrl)
    .map(({ scheme, host, port, path }) => ({ scheme, host, port, path }))
    .filter(fitsAddress)
    .slice(0, ADDRESS_MAX_BROKERS);
}

/** Whether an address line can carry a broker; a path may hold more than a line does. */
function fitsAddress(broker: AddressBroker): boolean {
  const id = `A${"g".repeat(43)}`;
  try {
    encodeAddress({ id, machine: "A".repeat(11), brokers: [broker], nics: [] });
    return true;
  } catch {
    // Peers that know us by the line cannot use this broker; whoever is configured alike can.
    return false;
  }
}

/** The address in a signal; undefined: unreadable. */
export function readLine(line: string): Address | undefined {
  try {
    return decodeAddress(line);
  } catch {
    // Remote input: whoever sent it is told that it was unreadable.
    return undefined;
  }
}
