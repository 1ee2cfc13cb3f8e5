/** Signaling brokers as people write them and as an address line carries them. Finds no addresses. */
import { P2pdError } from "../errors.ts";
import { canonicalIp } from "../ip.ts";
import { type AddressBroker, BROKER_SCHEMES } from "../wire/address.ts";

export interface Broker extends AddressBroker {
  readonly username?: string;
  readonly password?: string;
}

const PORTS: Readonly<Record<AddressBroker["scheme"], number>> = {
  mqtt: 1883,
  mqtts: 8883,
  ws: 80,
  wss: 443,
};

/**
 * Reads `mqtt://`, `mqtts://`, `ws://` or `wss://` with `[USER[:PASSWORD]@]HOST[:PORT][/PATH]`. Throws `bad-argument`,
 * whose text shows no password.
 */
export function parseBrokerUrl(text: string): Broker {
  const match =
    /^([a-z]+):\/\/(?:([^\s/?#@]*)@)?(?:\[([^\]\s]+)\]|([^\s/?#@:[\]]+))(?::([0-9]{1,5}))?(?:\/([^\s#]*))?$/i.exec(
      text,
    );
  const scheme = BROKER_SCHEMES.find((known) => known === match?.[1]?.toLowerCase());
  const host = match?.[3] === undefined ? match?.[4]?.toLowerCase() : canonicalIp(match[3]);
  const port = match?.[5] === undefined ? PORTS[scheme ?? "mqtt"] : Number(match[5]);
  if (match === null || scheme === undefined || host === undefined || port < 1 || port > 65_535) {
    const shown = text.replace(/\/\/[^@/]*@/, "//…@").slice(0, 200);
    throw new P2pdError(
      "bad-argument",
      `broker "${shown}" is unreadable; expected mqtt://, mqtts://, ws:// or wss:// with HOST[:PORT]`,
    );
  }
  const isWeb = scheme === "ws" || scheme === "wss";
  const [username, ...password] = (match[2] ?? "").split(":");
  return {
    scheme,
    host,
    port,
    path: isWeb ? (match[6] ?? "") : "",
    ...(username === undefined || username === "" ? {} : { username: decode(username) }),
    ...(password.length === 0 ? {} : { password: decode(password.join(":")) }),
  };
}

/** The broker's one spelling, without credentials: its name here and in messages to people. */
export function formatBroker({ scheme, host, port, path }: AddressBroker): string {
  return `${scheme}://${host.includes(":") ? `[${host}]` : host}:${port}${path === "" ? "" : `/${path}`}`;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // A lone % stands for itself.
    return text;
  }
}
