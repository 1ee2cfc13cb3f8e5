/**
 * The TURN client against coturn, a server that other people wrote: every transport, both kinds of allocation. Needs
 * `turnserver` and `openssl`; runs where P2PD_LAB=1.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { toP2pdError } from "../../../core/errors.ts";
import type { ByteStream } from "../../../core/net/world.ts";
import { createRealWorld } from "../../../core/net/real-world.ts";
import { openTurn, type OpenTurn, type OpenTurnOptions } from "../../../core/turn/open-turn.ts";
import type { LinkTransport } from "../../../core/turn/turn-link.ts";
import { attribute, NONCE, REALM, USERNAME } from "../../../core/wire/stun-attributes.ts";
import { longTermKey } from "../../../core/wire/stun-integrity.ts";
import { type EchoPeer, startEchoPeer } from "../../sim/turn-server.ts";
import { freePort } from "../signal/brokers.ts";
import { makeTlsIdentity } from "../signal/tls-identity.ts";

const labEnabled = process.env["P2PD_LAB"] === "1";
const world = createRealWorld();
const LIMIT_MS = 20_000;

describe.skipIf(!labEnabled)("against coturn", () => {
  const directory = mkdtempSync(join(tmpdir(), "p2pd-coturn-"));
  const identity = labEnabled ? makeTlsIdentity("localhost") : { key: "", cert: "" };
  let child: Bun.Subprocess;
  let ports: { plain: number; tls: number };
  let peer: EchoPeer;

  beforeAll(async () => {
    ports = { plain: await freePort(), tls: await freePort() };
    peer = await startEchoPeer(world, "127.0.0.1", await freePort());
    const [key, cert] = [join(directory, "key.pem"), join(directory, "cert.pem")];
    await Bun.write(key, identity.key);
    await Bun.write(cert, identity.cert);
    const words =
      `-n -L 127.0.0.1 -E 127.0.0.1 -p ${ports.plain} --tls-listening-port ${ports.tls} -a -u user:pass -r coturn ` +
      "--allow-loopback-peers --min-port 20000 --max-port 29999 --user-quota 8 --no-cli --simple-log " +
      `--cert ${cert} --pkey ${key} -l ${directory}/log --pidfile ${directory}/pid --userdb ${directory}/db`;
    child = Bun.spawn(["turnserver", ...words.split(" ")], {
      cwd: directory,
      stdout: "ignore",
      stderr: "ignore",
    });
    for (let left = 100; ; left--) {
      const opened = await world
        .connectTcp({ remote: { ip: "127.0.0.1", port: ports.tls }, timeoutMs: 1000 })
        .catch(toP2pdError);
      if ("abort" in opened) return opened.abort();
      if (left === 0) throw opened;
      await Bun.sleep(50);
    }
  }, LIMIT_MS);

  afterAll(async () => {
    child?.kill();
    await child?.exited;
    rmSync(directory, { recursive: true, force: true });
  });

  function open(
    transport: LinkTransport,
    options: Partial<OpenTurnOptions> = {},
    password = "pass",
  ): Promise<OpenTurn> {
    const port = transport === "tls" ? ports.tls : ports.plain;
    const at = { host: "localhost", port, transport, username: "user", password };
    const all = {
      relayed: "udp",
      families: [4],
      localIp: "127.0.0.1",
      authorities: [identity.cert],
    } as const;
    return openTurn(world, at, { ...all, ...options });
  }

  test.each(["udp", "tcp", "tls"] as const)(
    "over %s: datagrams by indication and by channel come back",
    async (transport) => {
      const turn = await open(transport);
      expect(turn.mapped?.port).toBe(turn.link.local.port);
      await turn.permit([peer.endpoint.ip]);
      expect(await echoed(turn, peer, "by indication")).toBe("by indication");
      await turn.bind(peer.endpoint);
      expect(await echoed(turn, peer, "by channel")).toBe("by channel");
      expect(peer.heard.at(-1)?.port).toBe(turn.relayed[0]?.port as number);
      await turn.close();
    },
    LIMIT_MS,
  );

  test.each(["tcp", "tls"] as const)(
    "over %s: a TCP allocation connects to a peer, and takes one that comes",
    async (transport) => {
      const turn = await open(transport, { relayed: "tcp" });
      const stream = await turn.connect(peer.endpoint);
      stream.write(Buffer.from("octets"));
      expect(await collect(stream, 6)).toBe("octets");
      stream.abort();
      const arrived = Promise.withResolvers<ByteStream>();
      turn.attach({
        message() {},
        attempt: (id, from) => void turn.accept(id, from).then(arrived.resolve, arrived.reject),
        closed() {},
      });
      await turn.permit(["127.0.0.1"]);
      const remote = turn.relayed[0] as { ip: string; port: number };
      const theirs = await world.connectTcp({ remote, timeoutMs: 5000 });
      theirs.write(Buffer.from("from outside"));
      expect(await collect(await arrived.promise, 12)).toBe("from outside");
      theirs.abort();
      await turn.close();
    },
    LIMIT_MS,
  );

  test(
    "what was learnt of it under another realm is no hindrance",
    async () => {
      const attributes = [
        attribute(USERNAME, "user"),
        attribute(REALM, "elsewhere"),
        attribute(NONCE, "0123456789abcdef"),
      ];
      const integrity = { key: longTermKey("user", "elsewhere", "pass"), hash: "sha1" } as const;
      const learnt = new Map([[`127.0.0.1:${ports.plain} user`, { attributes, integrity }]]);
      const turn = await open("udp", { learnt });
      await turn.close();
    },
    LIMIT_MS,
  );

  test(
    "a wrong password and a quota that is used up are told by their codes",
    async () => {
      const wrong = await open("udp", {}, "wrong").catch(toP2pdError);
      expect(wrong).toMatchObject({ code: "unauthorized", detail: { turnCode: 401 } });
      // coturn counts sessions that have ended for a while, so that fewer than eight may be left.
      const all = await Promise.all(Array.from({ length: 9 }, () => open("udp").catch(toP2pdError)));
      const refused = all.filter((one) => "code" in one);
      expect(refused.length).toBeWithin(1, 9);
      for (const one of refused)
        expect(one).toMatchObject({ code: "unavailable", detail: { turnCode: 486 } });
      for (const one of all) if ("close" in one) await one.close();
    },
    LIMIT_MS,
  );
});

function echoed(turn: OpenTurn, peer: EchoPeer, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    turn.attach({ message: (bytes) => resolve(Buffer.from(bytes).toString()), closed: reject });
    turn.send(Buffer.from(text), peer.endpoint);
  });
}

/** So many octets as text. coturn ends both directions of a connection with the first, so that no end is awaited. */
function collect(stream: ByteStream, length: number): Promise<string> {
  let text = "";
  return new Promise((resolve, reject) => {
    stream.attach({
      data(bytes) {
        text += Buffer.from(bytes).toString();
        if (text.length >= length) resolve(text);
      },
      drain() {},
      end: () => reject(new Error(`it ended after "${text}"`)),
      close: (error) => reject(error ?? new Error(`it closed after "${text}"`)),
    });
  });
}
