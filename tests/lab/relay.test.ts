/** Daemons on real kernels that no direct path joins, relayed by coturn and by `p2pd infra`. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Family } from "../../core/ip.ts";
import { makeTlsIdentity } from "../core/signal/tls-identity.ts";
import { INTERNET } from "../nat/topologies.ts";
import { median } from "./lab-node.ts";
import { type LabServersBy, openAndEcho, relayPair, type RelayPairOptions } from "./relay-pair.ts";

const labEnabled = process.env["P2PD_LAB"] === "1";
const LIMIT_MS = 120_000;
const LOOPS = Number(process.env["P2PD_RELAY_LOOPS"] ?? 3);
const RANDOM = ["symmetric/random", "symmetric/random"] as const;
const ALONE = { strategies: "relay" } as const;
const overTcp = (turn: string): string => `${turn}?transport=tcp`;

const CASES: readonly (readonly [
  what: string,
  routers: readonly [string, string],
  options: RelayPairOptions,
  query: string,
  path: string,
  transport: "tcp" | "udp",
])[] = [
  ["both ports random", RANDOM, {}, "", "relay/turn-udp", "udp"],
  ["both ports random, relay=first", RANDOM, {}, "?relay=first", "relay/turn-udp", "udp"],
  ["a link of TCP", RANDOM, { aliceTurn: overTcp }, "", "relay/turn-tcp", "udp"],
  ["a TCP allocation", RANDOM, {}, "?transport=tcp", "relay/turn-tcp", "tcp"],
  ["UDP blocked at the caller", ["blocked/random", "symmetric/random"], ALONE, "", "relay/turn-tcp", "tcp"],
  ["UDP blocked at the called", ["symmetric/random", "blocked/random"], ALONE, "", "relay/turn-tcp", "tcp"],
  ["UDP blocked at both", ["blocked/random", "blocked/random"], ALONE, "", "relay/turn-tcp", "tcp"],
  [
    "the server of the called",
    RANDOM,
    { aliceTurn: () => "", bobTurn: (turn) => turn },
    "",
    "relay/turn-udp",
    "udp",
  ],
];

for (const by of ["coturn", "infra"] as const satisfies readonly LabServersBy[]) {
  describe.skipIf(!labEnabled)(`relayed by ${by}`, () => {
    for (const [what, [a, b], options, query, path, transport] of CASES) {
      test(
        `${what}: ${path}, and the first echo is back`,
        async () => {
          await using pair = await relayPair(a, b, { ...options, by });
          const times: number[] = [];
          for (let i = 0; i < LOOPS; i++) {
            const { opened, ms, isEchoed } = await openAndEcho(pair, query);
            if (opened["path"] !== path || process.env["P2PD_RELAY_SHOW"] === "1")
              console.log(JSON.stringify(opened, undefined, 1));
            expect(opened).toMatchObject({ error: 0, strategy: "relay", path, transport });
            expect(isEchoed).toBe(true);
            times.push(ms);
            await pair.alice.get("/p2p/close/con");
          }
          console.log(
            `relay: ${by}: ${what}: median ${Math.round(median(times))} ms of ${times.map((ms) => Math.round(ms)).join(", ")}`,
          );
        },
        LIMIT_MS,
      );
    }
  });
}

/** Lets in nothing but what servers send, and ICMPv6, without which there are no neighbours. */
const ONLY_SERVERS = [
  "nft add table inet shut",
  "nft add chain inet shut in '{ type filter hook input priority 0; policy drop; }'",
  "nft add rule inet shut in iif lo accept",
  "nft add rule inet shut in meta l4proto ipv6-icmp accept",
  `nft add rule inet shut in ip saddr ${INTERNET.serverIp4(0)}/24 accept`,
  `nft add rule inet shut in ip6 saddr ${INTERNET.serverIp6(0)}/112 accept`,
];

const FAMILIES: readonly (readonly [aliceFamily: Family, bobFamily: Family, transport: "tcp" | "udp"])[] = [
  [6, 6, "udp"],
  [6, 6, "tcp"],
  [6, 4, "udp"],
  [4, 6, "udp"],
  [4, 6, "tcp"],
];

for (const by of ["coturn", "infra"] as const satisfies readonly LabServersBy[]) {
  describe.skipIf(!labEnabled)(`relayed by ${by}, where firewalls let in what servers send alone`, () => {
    for (const [aliceFamily, bobFamily, transport] of FAMILIES) {
      test(
        `a caller of IPv${aliceFamily} alone, a called of IPv${bobFamily} alone, by ${transport}: a relayed address of the called's family, and the first echo is back`,
        async () => {
          await using pair = await relayPair("port-restricted/equal", "port-restricted/equal", {
            by,
            aliceFamily,
            bobFamily,
            before: ONLY_SERVERS,
          });
          const { opened, ms, isEchoed } = await openAndEcho(pair, `?transport=${transport}`);
          if (opened["error"] !== 0) console.log(JSON.stringify(opened, undefined, 1));
          expect(opened).toMatchObject({ error: 0, path: `relay/turn-${transport}`, transport });
          const { candidate } = (opened["timeline"] as { candidate: string }[]).at(-1) ?? {};
          expect(candidate).toMatch(bobFamily === 6 ? /^\[2a01:5a40:0:1::1:/ : /^5\.44\.1\./);
          expect(isEchoed).toBe(true);
          console.log(
            `relay: ${by}: IPv${aliceFamily} to IPv${bobFamily}, ${transport}: ${Math.round(ms)} ms`,
          );
        },
        LIMIT_MS,
      );
    }
  });
}

/** Lets out what goes to a broker and to TCP port 443, and in what answers that. */
const ONLY_443 = [
  "nft add table inet shut",
  "nft add chain inet shut out '{ type filter hook output priority 0; policy drop; }'",
  "nft add rule inet shut out oif lo accept",
  "nft add rule inet shut out tcp dport '{ 443, 1883 }' accept",
  "nft add rule inet shut out ct state established accept",
];

describe.skipIf(!labEnabled)("where nothing but TCP to port 443 is let out, on both sides", () => {
  const directory = mkdtempSync(join(tmpdir(), "p2pd-relay-"));
  afterAll(() => rmSync(directory, { recursive: true }));
  const [certificate, key] = [join(directory, "cert.pem"), join(directory, "key.pem")];
  beforeAll(async () => {
    const identity = makeTlsIdentity(INTERNET.serverIp4(16));
    await Promise.all([Bun.write(certificate, identity.cert), Bun.write(key, identity.key)]);
  });
  const tls = ["--infra-tls-port", "443", "--infra-tls-certificate", certificate, "--infra-tls-key", key];
  const overTls = (turn: string): string => `${turn.replace(/^turn:/, "turns:").replace(/:[0-9]+$/, "")}:443`;

  for (const [link, infraArguments, toTurn] of [
    ["tcp", ["--infra-port", "443"], overTcp],
    ["tls", tls, overTls],
  ] as const) {
    for (const [query, transport] of [
      ["", "udp"],
      ["?transport=tcp", "tcp"],
    ] as const) {
      test(
        `over ${link}, ${transport} runs from a relay of the one to a relay of the other`,
        async () => {
          await using pair = await relayPair("port-restricted/equal", "port-restricted/equal", {
            by: "infra",
            infraArguments,
            aliceTurn: toTurn,
            bobTurn: toTurn,
            before: ONLY_443,
            env: { NODE_EXTRA_CA_CERTS: certificate },
          });
          const { opened, ms, isEchoed } = await openAndEcho(pair, query);
          console.log(`relay: only TCP 443, ${link}, ${transport}: ${Math.round(ms)} ms`);
          if (opened["error"] !== 0) console.log(JSON.stringify(opened, undefined, 1));
          expect(opened).toMatchObject({ error: 0, path: `relay/turn-${link}`, transport });
          expect(isEchoed).toBe(true);
        },
        LIMIT_MS,
      );
    }
  }
});
