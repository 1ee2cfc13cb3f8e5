/** The state of signaling in words: one part for each broker, and one for what came and what was dropped. */
import type { BrokerStatus } from "../signal/broker-link.ts";
import type { SignalingStatus } from "../signal/signaling.ts";
import type { StatusPart } from "./node-api.ts";

const STATES: Readonly<Record<BrokerStatus["state"], StatusPart["state"]>> = {
  connecting: "starting",
  connected: "up",
  waiting: "down",
  closed: "off",
};

/** @param status undefined: there is no signaling */
export function signalsStatus(status: SignalingStatus | undefined): readonly StatusPart[] {
  if (status === undefined) {
    const detail =
      "no mqttBrokers are configured; opening by id and the strategies reverse and punch need one, direct connects do not";
    return [{ part: "brokers", state: "off", detail }];
  }
  const up = status.brokers.filter(({ state }) => state === "connected").length;
  const isTrying = up === 0 && status.brokers.every(({ state }) => state === "connecting");
  const detail =
    up > 0
      ? `${up} of ${status.brokers.length} connected`
      : isTrying
        ? `connecting to ${status.brokers.length}`
        : `none of ${status.brokers.length} connected; opening by id and the strategies reverse and punch do not work, direct connects do`;
  return [
    { part: "brokers", state: up > 0 ? "up" : isTrying ? "starting" : "down", detail },
    ...status.brokers.map((broker) => ({
      part: `broker ${broker.url}`,
      state: STATES[broker.state],
      detail: describeBroker(broker),
    })),
    { part: "signals", state: "up", detail: describeCounters(status) },
  ];
}

function describeBroker({ state, mqtt, error, retryInMs, rttMs, received, sent }: BrokerStatus): string {
  const parts = [
    state === "connected" ? `connected, MQTT ${mqtt ?? ""}` : state,
    ...(rttMs === undefined ? [] : [`${rttMs.toFixed(0)} ms`]),
    ...(error === undefined || state === "connected" ? [] : [error]),
    ...(retryInMs === undefined ? [] : [`next try in ${(retryInMs / 1000).toFixed(0)} s`]),
    `${received} messages received, ${sent} sent`,
  ];
  return parts.join("; ");
}

/** What was dropped is named only where there is some. */
function describeCounters({ signals, records }: SignalingStatus): string {
  const { received, delivered, ...dropped } = signals;
  const { accepted, ...refused } = records;
  const named = (counts: Readonly<Record<string, number>>): string =>
    Object.entries(counts)
      .filter(([, count]) => count > 0)
      .map(([reason, count]) => `${count} ${reason}`)
      .join(", ") || "none";
  return `${received} received, ${delivered} delivered, dropped: ${named(dropped)}; records: ${accepted} accepted, refused: ${named(refused)}`;
}
