/**
 * How a laboratory speaks to a NAT box that runs: requests and replies as JSON lines, one reply per request in
 * order. The box itself is `natbox.ts`.
 */
import { P2pdError } from "../../core/errors.ts";
import type { Endpoint } from "../../core/ip.ts";
import type { TableEntry } from "../nat/engine.ts";
import type { NatSettings } from "../nat/settings.ts";
import type { Fault } from "./faults.ts";
import { enterNamespace } from "./shell.ts";

/** What a box is told on its command line. */
export interface NatboxStart {
  readonly lanDevice: string;
  readonly wanDevice: string;
  readonly publicIp4: string;
  readonly settings: NatSettings;
  readonly fault?: Fault | undefined;
}

export type NatboxRequest =
  | { readonly do: "settings"; readonly settings: NatSettings; readonly fault?: Fault | undefined }
  | { readonly do: "reboot" }
  | { readonly do: "address"; readonly ip: string }
  | {
      readonly do: "forward";
      readonly protocol: "udp" | "tcp";
      readonly port: number;
      readonly internal: Endpoint;
      readonly lifetimeMs: number;
    }
  | { readonly do: "state" };

export interface NatboxReply {
  readonly ok: boolean;
  readonly error?: string;
  readonly state?: NatboxState;
}

/** A box as it stands. */
export interface NatboxState {
  readonly settings: NatSettings;
  readonly externalIp: string;
  readonly ipv4: readonly TableEntry[];
  readonly ipv6: readonly TableEntry[];
  /** Packets by fate. */
  readonly counts: Readonly<Record<string, number>>;
  readonly counts6: Readonly<Record<string, number>>;
  readonly ignored: number;
  readonly unsent: number;
  readonly queued: number;
  readonly overflowed: number;
}

export interface Natbox {
  readonly pid: number;
  /** Sends one request; rejects with `unavailable` when the box is gone, `configuration` when it refuses. */
  ask(request: NatboxRequest): Promise<NatboxReply>;
  stop(): Promise<void>;
}

/** Starts a box in a router's namespace and waits until it carries packets. */
export async function startNatbox(namespace: string, start: NatboxStart): Promise<Natbox> {
  const script = new URL("./natbox.ts", import.meta.url).pathname;
  const child = Bun.spawn([...enterNamespace(namespace), process.execPath, script, JSON.stringify(start)], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  const waiting: { resolve: (reply: NatboxReply) => void; reject: (error: P2pdError) => void }[] = [];
  let gone = false;
  const reply = (): Promise<NatboxReply> =>
    new Promise((resolve, reject) => {
      if (gone) reject(isGone());
      else waiting.push({ resolve, reject });
    });
  const isGone = (): P2pdError => new P2pdError("unavailable", `the NAT box in ${namespace} is not running`);
  const ready = reply();
  const reading = (async () => {
    for await (const line of linesOf(child.stdout)) waiting.shift()?.resolve(JSON.parse(line) as NatboxReply);
    gone = true;
    for (const { reject } of waiting.splice(0)) reject(isGone());
  })();
  await ready;
  return {
    pid: child.pid,
    async ask(request) {
      const answered = reply();
      void child.stdin.write(`${JSON.stringify(request)}\n`);
      await child.stdin.flush();
      const answer = await answered;
      if (!answer.ok)
        throw new P2pdError("configuration", answer.error ?? `the NAT box refused ${request.do}`);
      return answer;
    },
    async stop() {
      await child.stdin.end();
      await child.exited;
      await reading;
    },
  };
}

/** The lines of a stream of text. */
export async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncIterable<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    rest += decoder.decode(chunk, { stream: true });
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
}
