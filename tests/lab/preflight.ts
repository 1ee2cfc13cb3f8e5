/**
 * Whether this machine can hold a laboratory: root, Linux, the tools, TUN, network namespaces. Each thing that
 * is missing is said with what to do about it.
 */
import { existsSync } from "node:fs";
import { P2pdError } from "../../core/errors.ts";
import { commandNow } from "./shell.ts";

/** Debian's packages for everything that a laboratory may use. */
export const PACKAGES =
  "iproute2 util-linux nftables iperf3 coturn mosquitto mosquitto-clients miniupnpd miniupnpc natpmpc";

/** Tools by the Debian package that has them. */
const TOOLS: Readonly<Record<string, string>> = {
  ip: "iproute2",
  nsenter: "util-linux",
  nft: "nftables",
  iperf3: "iperf3",
  turnserver: "coturn",
  mosquitto: "mosquitto",
  miniupnpd: "miniupnpd",
  upnpc: "miniupnpc",
  natpmpc: "natpmpc",
};

/** What a bare laboratory cannot do without; servers ask for theirs when they are started. */
export const BASE_TOOLS = ["ip", "nsenter"] as const;

export interface Machine {
  readonly platform: string;
  readonly uid: number;
  has(tool: string): boolean;
  readonly tun: boolean;
}

export function thisMachine(): Machine {
  return {
    platform: process.platform,
    uid: process.getuid?.() ?? -1,
    has: (tool) => Bun.which(tool, { PATH: SEARCH_PATH }) !== null,
    tun: existsSync("/dev/net/tun"),
  };
}

/** Debian keeps servers where a user's PATH may not look. */
export const SEARCH_PATH = `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin:/usr/bin:/bin`;

/** What stands in the way of a laboratory with these tools; empty when nothing does. */
export function missing(tools: readonly string[], machine: Machine = thisMachine()): readonly string[] {
  if (machine.platform !== "linux") return [`the laboratory needs Linux; this is ${machine.platform}`];
  const problems: string[] = [];
  if (machine.uid !== 0)
    problems.push("not root: run it with sudo, or in a container with NET_ADMIN and SYS_ADMIN");
  for (const tool of tools) {
    if (!machine.has(tool)) {
      const from = TOOLS[tool];
      problems.push(
        `no command "${tool}"${from === undefined ? "" : `: install it with "apt-get install ${from}"`}`,
      );
    }
  }
  if (!machine.tun) {
    problems.push(
      'no /dev/net/tun: "modprobe tun", or give the container the device (--device /dev/net/tun)',
    );
  }
  return problems;
}

/** Throws a P2pdError `unavailable` that lists everything that is missing. */
export function requireTools(tools: readonly string[], machine?: Machine): void {
  const problems = missing(tools, machine);
  if (problems.length > 0) {
    throw new P2pdError(
      "unavailable",
      `this machine cannot hold a laboratory:\n  - ${problems.join("\n  - ")}`,
    );
  }
}

/** Throws when namespaces cannot be made although everything is there, as in a container without the right. */
export function requireNamespaces(): void {
  const { code, stderr } = commandNow(["unshare", "--net", "true"]);
  if (code !== 0) {
    throw new P2pdError(
      "unavailable",
      `no right to make network namespaces (${stderr.trim()}): run as real root, or with CAP_SYS_ADMIN and CAP_NET_ADMIN`,
    );
  }
}
