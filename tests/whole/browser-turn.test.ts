/**
 * libwebrtc, as Chromium has it, as the client of our TURN server: two peer connections of a page that may use relayed
 * candidates only meet through it and exchange real amounts of data.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import { portOf, startTestInfra, type TestInfra } from "../core/infra/infra-options.ts";
import { makeTlsIdentity } from "../core/signal/tls-identity.ts";
import { openPage, type Page } from "./browser.ts";

const isLab = process.env["P2PD_LAB"] === "1";
const SECRET = "a-secret-of-a-fleet";
const MEBIBYTES = 8;
const LIMIT_MS = 60_000;

interface Login {
  readonly username: string;
  readonly credential: string;
}

interface Seen {
  /** Whether what came back is what was sent. */
  readonly equal: boolean;
  /** Types of the two candidates that data goes by, and how each side's client speaks with its relay. */
  readonly local: string;
  readonly remote: string;
  readonly relayProtocols: readonly string[];
  readonly milliseconds: number;
}

const user: Login = { username: "user", credential: "pass" };

describe.skipIf(!isLab)("libwebrtc", () => {
  let place: TestInfra;
  let running: TestInfra;
  let page: Page;

  beforeAll(async () => {
    const identity = makeTlsIdentity("localhost");
    place = await startTestInfra({ infraServers: ["stun"] });
    const [infraTlsCertificate, infraTlsKey] = [`${place.directory}/cert.pem`, `${place.directory}/key.pem`];
    await Bun.write(infraTlsCertificate, identity.cert);
    await Bun.write(infraTlsKey, identity.key);
    // No private address is allowed as a peer: relays of one server meet all the same.
    running = await startTestInfra({
      infraSecret: SECRET,
      infraAllowPeers: [],
      infraTlsCertificate,
      infraTlsKey,
    });
    page = await openPage("about:blank", [
      "--allow-loopback-in-peer-connection",
      "--ignore-certificate-errors",
    ]);
  }, LIMIT_MS);

  afterAll(async () => {
    await page?.[Symbol.asyncDispose]();
    await running?.[Symbol.asyncDispose]();
    await place?.[Symbol.asyncDispose]();
  });

  for (const [how, protocol] of [
    ["UDP", "udp"],
    ["TCP", "tcp"],
    ["TLS", "tls"],
  ] as const) {
    test(
      `carries ${MEBIBYTES} MiB there and back between two relayed candidates, with the server over ${how}`,
      async () => {
        const seen = await echo(protocol, user);
        expect(seen).toMatchObject({ equal: true, local: "relay", remote: "relay" });
        expect(seen.relayProtocols).toEqual([protocol, protocol]);
        console.log(
          `libwebrtc over ${how}: ${((2000 * MEBIBYTES) / seen.milliseconds).toFixed(0)} MiB/s there and back`,
        );
      },
      LIMIT_MS,
    );
  }

  test(
    "is served with a credential that expires, made of the shared secret, as EXPIRY:NAME",
    async () => {
      const seen = await echo("udp", timeLimited(600));
      expect(seen).toMatchObject({ equal: true, local: "relay", remote: "relay" });
      expect(running.log.some((line) => /allocation made.*user="[0-9]+:web"/.test(line))).toBe(true);
    },
    LIMIT_MS,
  );

  test.each([
    ["a wrong password", { username: "user", credential: "wrong" }],
    ["a credential that has expired", timeLimited(-60)],
  ])(
    "gathers nothing with %s, and is told 401",
    async (_, login) => {
      expect(await page.evaluate(`(${GATHER})(${JSON.stringify(server("udp", login))})`)).toEqual({
        candidates: 0,
        errors: [401],
      });
    },
    LIMIT_MS,
  );

  test(
    "takes its allocations back when connections are closed",
    async () => {
      const { server: turn } = running.infra.turn as NonNullable<TestInfra["infra"]["turn"]>;
      expect(turn.counts.allocated).toBeGreaterThanOrEqual(8);
      // Four pairs that do so leave nothing to expire.
      while (turn.allocations.all.size > 0) await Bun.sleep(20);
      expect(turn.counts.expired).toBe(0);
    },
    LIMIT_MS,
  );

  function server(protocol: "udp" | "tcp" | "tls", login: Login) {
    const port = portOf(running, `stun and turn over ${protocol}`);
    const host = protocol === "tls" ? "localhost" : "127.0.0.1";
    const scheme = protocol === "tls" ? "turns" : "turn";
    return { urls: `${scheme}:${host}:${port}?transport=${protocol === "udp" ? "udp" : "tcp"}`, ...login };
  }

  async function echo(protocol: "udp" | "tcp" | "tls", login: Login): Promise<Seen> {
    const words = [server(protocol, login), MEBIBYTES * 1024 * 1024].map((word) => JSON.stringify(word));
    return (await page.evaluate(`(${ECHO})(${words.join(",")})`)) as Seen;
  }
});

function timeLimited(seconds: number): Login {
  const username = `${Math.floor(Date.now() / 1000) + seconds}:web`;
  return { username, credential: createHmac("sha1", SECRET).update(username).digest("base64") };
}

/** What a page gathers from one server: how many candidates, and which errors it was told. */
const GATHER = `async (server) => {
  const peer = new RTCPeerConnection({ iceServers: [server], iceTransportPolicy: "relay" });
  const errors = new Set();
  let candidates = 0;
  peer.createDataChannel("none");
  peer.addEventListener("icecandidateerror", ({ errorCode }) => errors.add(errorCode));
  const gathered = new Promise((resolve) => {
    peer.addEventListener("icecandidate", ({ candidate }) => candidate === null ? resolve() : candidates++);
  });
  await peer.setLocalDescription();
  await gathered;
  peer.close();
  return { candidates, errors: [...errors] };
}`;

/** Two peer connections of one page, a data channel between them, so many octets to the other and back. */
const ECHO = `async (server, total) => {
  const make = () => new RTCPeerConnection({ iceServers: [server], iceTransportPolicy: "relay" });
  const [here, there] = [make(), make()];
  const trouble = new Promise((_, reject) => {
    for (const [one, other] of [[here, there], [there, here]]) {
      one.addEventListener("icecandidate", ({ candidate }) => void other.addIceCandidate(candidate).catch(reject));
      one.addEventListener("connectionstatechange", () => {
        if (one.connectionState === "failed") reject(new Error("the connection failed"));
      });
    }
  });
  const work = async () => {
    const channel = here.createDataChannel("echo");
    channel.binaryType = "arraybuffer";
    there.addEventListener("datachannel", ({ channel: back }) => {
      back.binaryType = "arraybuffer";
      back.addEventListener("message", ({ data }) => back.send(data));
    });
    const opened = new Promise((resolve) => channel.addEventListener("open", resolve));
    await here.setLocalDescription();
    await there.setRemoteDescription(here.localDescription);
    await there.setLocalDescription();
    await here.setRemoteDescription(there.localDescription);
    await opened;
    const piece = 16384;
    const sent = new Uint8Array(total), received = new Uint8Array(total);
    for (let at = 0; at < total; at += piece) crypto.getRandomValues(sent.subarray(at, at + piece));
    const began = performance.now();
    let length = 0;
    const complete = new Promise((resolve) => {
      channel.addEventListener("message", ({ data }) => {
        received.set(new Uint8Array(data), length);
        length += data.byteLength;
        if (length === total) resolve();
      });
    });
    channel.bufferedAmountLowThreshold = 16 * piece;
    for (let at = 0; at < total; at += piece) {
      channel.send(sent.subarray(at, at + piece));
      if (channel.bufferedAmount > 64 * piece) {
        await new Promise((resolve) => channel.addEventListener("bufferedamountlow", resolve, { once: true }));
      }
    }
    await complete;
    const milliseconds = performance.now() - began;
    const stats = [...(await here.getStats()).values()];
    const named = (id) => stats.find((one) => one.id === id);
    const pair = named(stats.find(({ type }) => type === "transport").selectedCandidatePairId);
    const relayProtocols = [];
    for (const side of [here, there]) {
      const candidates = [...(await side.getStats()).values()].filter(({ type }) => type === "local-candidate");
      relayProtocols.push(...new Set(candidates.map(({ relayProtocol }) => relayProtocol)));
    }
    return {
      equal: sent.every((octet, i) => octet === received[i]),
      local: named(pair.localCandidateId).candidateType,
      remote: named(pair.remoteCandidateId).candidateType,
      relayProtocols,
      milliseconds,
    };
  };
  try {
    return await Promise.race([work(), trouble]);
  } finally {
    here.close();
    there.close();
  }
}`;
