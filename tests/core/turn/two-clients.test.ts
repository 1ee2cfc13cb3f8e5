/** Two clients of one TURN server reach each other by their relayed addresses, also where the server is behind a 1:1 NAT. */
import { expect } from "bun:test";
import type { Endpoint } from "../../../core/ip.ts";
import type { ByteStream } from "../../../core/net/world.ts";
import { openTurn, type OpenTurn, type OpenTurnOptions } from "../../../core/turn/open-turn.ts";
import { parseRouterKind, twoHosts } from "../../nat/topologies.ts";
import { simTest } from "../../sim/sim-test.ts";
import type { Simulation } from "../../sim/simulation.ts";
import { startTurnServer } from "../../sim/turn-server.ts";

const OUTSIDE = "5.45.0.99";
const behindNats = {
  topology: twoHosts(parseRouterKind("symmetric/random"), parseRouterKind("symmetric/random")),
};

for (const shown of [undefined, OUTSIDE]) {
  const where = shown === undefined ? "" : ", the server being behind a 1:1 NAT";

  simTest(
    `datagrams go from relay to relay${where}`,
    [1, 2, 3],
    async (sim) => {
      const [alice, bob] = await both(sim, "udp", shown);
      await alice.turn.bind(bob.relayed);
      await bob.turn.permit([alice.relayed.ip]);
      const heard = Promise.withResolvers<[string, Endpoint]>();
      bob.turn.attach({
        message: (bytes, from) => heard.resolve([Buffer.from(bytes).toString(), from]),
        closed: heard.reject,
      });
      alice.turn.send(Buffer.from("hello"), bob.relayed);
      expect(await heard.promise).toEqual(["hello", alice.relayed]);
      expect(alice.relayed.ip).toBe(shown ?? alice.turn.link.server.ip);
      await Promise.all([alice.turn.close(), bob.turn.close()]);
    },
    behindNats,
  );

  simTest(
    `connections go from relay to relay${where}`,
    [1, 2, 3],
    async (sim) => {
      const [alice, bob] = await both(sim, "tcp", shown);
      await bob.turn.permit([alice.relayed.ip]);
      const arrived = Promise.withResolvers<ByteStream>();
      bob.turn.attach({
        message() {},
        attempt: (id, peer) => void bob.turn.accept(id, peer).then(arrived.resolve, arrived.reject),
        closed: arrived.reject,
      });
      const ours = await alice.turn.connect(bob.relayed);
      const theirs = await arrived.promise;
      expect(theirs.remote).toEqual(alice.relayed);
      const heard = [next(ours), next(theirs)];
      ours.write(Buffer.from("from alice"));
      theirs.write(Buffer.from("from bob"));
      expect(await Promise.all(heard)).toEqual(["from bob", "from alice"]);
      await Promise.all([alice.turn.close(), bob.turn.close()]);
    },
    behindNats,
  );
}

interface Client {
  readonly turn: OpenTurn;
  readonly relayed: Endpoint;
}

async function both(
  sim: Simulation,
  relayed: "udp" | "tcp",
  shown: string | undefined,
): Promise<readonly [Client, Client]> {
  const server = await startTurnServer(sim, "turn", shown === undefined ? {} : { shown });
  const options: OpenTurnOptions = { relayed, families: [4] };
  const open = async (name: string): Promise<Client> => {
    const turn = await openTurn(sim.host(name).world, server.at(relayed), options);
    return { turn, relayed: turn.relayed[0] as Endpoint };
  };
  return [await open("alice"), await open("bob")];
}

function next(stream: ByteStream): Promise<string> {
  return new Promise((resolve, reject) => {
    stream.attach({
      data: (bytes) => resolve(Buffer.from(bytes).toString()),
      drain() {},
      end() {},
      close: (error) => error !== undefined && reject(error),
    });
  });
}
