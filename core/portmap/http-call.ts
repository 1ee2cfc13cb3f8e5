/** One HTTP request to a device in the LAN, over a connection of its own: bounded in time and size, no redirects. */
import { P2pdError } from "../errors.ts";
import { type Endpoint, formatEndpoint } from "../ip.ts";
import type { World } from "../net/world.ts";
import { decodeHttpAnswer, type HttpAnswer } from "../wire/http-answer.ts";
import type { Place, PortmapCounters } from "./mapping.ts";

export interface HttpCall {
  readonly to: Endpoint;
  /** Path with query. */
  readonly path: string;
  /** A POST with this body; absent: a GET. */
  readonly soap?: { readonly action: string; readonly body: string };
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** Rejects with `timeout`, `refused`, `unreachable`, `aborted`, `closed`, or `protocol` for what is no HTTP. */
export async function callHttp(
  world: World,
  place: Place,
  call: HttpCall,
  counters: PortmapCounters,
): Promise<HttpAnswer> {
  const { to, timeoutMs, signal } = call;
  const where = formatEndpoint(to);
  const endMs = world.time.now() + timeoutMs;
  counters.requests++;
  const stream = await world.connectTcp({
    remote: to,
    // The router compares the address that asks with the one that the port shall lead to.
    local: { ip: place.ip, port: 0 },
    ...(place.device === undefined ? {} : { device: place.device }),
    timeoutMs,
    ...(signal === undefined ? {} : { signal }),
  });
  const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer>();
  let received = new Uint8Array(0);
  const look = (ended: boolean): void => {
    const answer = decodeHttpAnswer(received, ended);
    if (typeof answer === "string") reject(new P2pdError("protocol", `what ${where} answers: ${answer}`));
    else if (answer !== undefined) resolve(answer);
  };
  const stop = (): void => reject(new P2pdError("aborted", `the request to ${where} was called off`));
  const giveUp = (): void =>
    reject(new P2pdError("timeout", `${where} did not answer a request within ${timeoutMs} ms`));
  const timer = world.time.after(Math.max(0, endMs - world.time.now()), giveUp, { background: true });
  signal?.addEventListener("abort", stop, { once: true });
  stream.attach({
    data(bytes) {
      received = new Uint8Array(Buffer.concat([received, bytes]));
      look(false);
    },
    drain() {},
    end: () => look(true),
    close: (error) => {
      if (error === undefined) look(true);
      reject(error ?? new P2pdError("closed", `${where} closed the connection before its answer`));
    },
  });
  try {
    if (signal?.aborted === true) stop();
    stream.write(requestOf(call));
    const answer = await promise;
    counters.answered++;
    return answer;
  } finally {
    timer.cancel();
    signal?.removeEventListener("abort", stop);
    stream.abort();
  }
}

function requestOf({ to, path, soap }: HttpCall): Uint8Array {
  const body = new TextEncoder().encode(soap?.body ?? "");
  const lines = [
    `${soap === undefined ? "GET" : "POST"} ${path} HTTP/1.1`,
    `Host: ${formatEndpoint(to)}`,
    "User-Agent: P2PD",
    "Connection: close",
    ...(soap === undefined
      ? []
      : [
          'Content-Type: text/xml; charset="utf-8"',
          `SOAPAction: "${soap.action}"`,
          `Content-Length: ${body.length}`,
        ]),
  ];
  return new Uint8Array(Buffer.concat([new TextEncoder().encode(`${lines.join("\r\n")}\r\n\r\n`), body]));
}
