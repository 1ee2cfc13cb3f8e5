/** What clients are told so that they use these servers: settings of `p2pd`, as flags of one command line. */
import { type Endpoint, formatEndpoint } from "../ip.ts";
import type { TurnUser } from "./turn-credentials.ts";

export interface ServerPlaces {
  readonly stun: readonly Endpoint[];
  readonly mqtt: readonly Endpoint[];
  readonly turn: readonly Endpoint[];
  /** TURN over TLS. */
  readonly turns: readonly Endpoint[];
  readonly user?: TurnUser;
}

/** A line to be typed in a shell; empty lists empty the client's, so that it asks nobody else. */
export function clientLine({ stun, mqtt, turn, turns, user }: ServerPlaces): string {
  const login =
    user === undefined ? "" : `${encodeURIComponent(user.name)}:${encodeURIComponent(user.password)}@`;
  const flags: [string, string[]][] = [
    ["--stun-servers", stun.map((at) => `stun:${formatEndpoint(at)}`)],
    ["--mqtt-brokers", mqtt.map((at) => `mqtt://${formatEndpoint(at)}`)],
    [
      "--turn-servers",
      [
        ...turn.map((at) => `turn:${login}${formatEndpoint(at)}`),
        ...turns.map((at) => `turns:${login}${formatEndpoint(at)}`),
      ],
    ],
  ];
  const words = flags.flatMap(([flag, values]) =>
    values.length === 0 ? [] : [flag, quoted(values.join(","))],
  );
  return ["p2pd", ...words].join(" ");
}

/** Shells read brackets, and some signs of a password, as their own. */
function quoted(word: string): string {
  return /^[A-Za-z0-9:/@.,%_-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
