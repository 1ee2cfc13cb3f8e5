/**
 * Which protocol a router is spoken to by: all are tried at once, and the first that answers may map first. Only when
 * it cannot does the next one map, so that no router holds entries of a protocol that is not used.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { isSameEntry, type Mapping, type Protocol, type RouterClient, type Wish } from "./mapping.ts";

export interface FoundRouter {
  readonly client: RouterClient;
  /** One for each wish, but those that the router refuses after the first. */
  readonly mappings: readonly Mapping[];
}

/** How a protocol fared, in words. */
export type Outcomes = Partial<Record<Protocol, string>>;

/**
 * Resolves with the first client that mapped; the others are closed. Rejects with `unavailable` when none could.
 * @param earlier mappings that may still stand, of this or an earlier run: they are renewed, or ended if not wanted
 * @param note told how each protocol fares
 */
export async function findRouter(
  clients: readonly RouterClient[],
  wishes: readonly Wish[],
  earlier: readonly Mapping[],
  note: (protocol: Protocol, outcome: string) => void,
  signal: AbortSignal,
): Promise<FoundRouter> {
  const won = new AbortController();
  const either = AbortSignal.any([signal, won.signal]);
  let turn: Promise<unknown> = Promise.resolve();
  const attempts = clients.map(async (client): Promise<FoundRouter> => {
    try {
      await client.reach(either);
      const mapping = turn.then(() => mapFor(client, wishes, earlier, either));
      turn = mapping.catch(() => undefined);
      const found = await mapping;
      won.abort();
      note(client.protocol, "mapped");
      return found;
    } catch (thrown) {
      const { code, message } = toP2pdError(thrown);
      note(client.protocol, code === "aborted" ? "another protocol was faster" : message);
      throw thrown;
    }
  });
  let found: FoundRouter | undefined;
  try {
    found = await Promise.any(attempts);
    await endUnwanted(clients, earlier, found.mappings);
    return found;
  } catch {
    // What each protocol met was noted.
    throw new P2pdError("unavailable", "no router opened a port");
  } finally {
    for (const client of clients) if (client !== found?.client) client.close();
  }
}

/** Maps every wish, each asking for the port that the first was given. Rejects if the first wish is refused. */
export async function mapFor(
  client: RouterClient,
  wishes: readonly Wish[],
  earlier: readonly Mapping[],
  signal: AbortSignal,
): Promise<FoundRouter> {
  const mappings: Mapping[] = [];
  for (const wish of wishes) {
    if (signal.aborted) throw new P2pdError("aborted", "mapping was called off");
    const { transport, internalPort } = wish;
    const alike = earlier.filter(
      (mapping) => mapping.transport === transport && mapping.internalPort === internalPort,
    );
    const before = alike.find(({ protocol }) => protocol === client.protocol) ?? alike[0];
    const externalPort = mappings[0]?.externalPort ?? wish.externalPort;
    try {
      mappings.push(await client.map({ ...wish, externalPort }, before));
    } catch (thrown) {
      if (mappings.length === 0) throw thrown;
    }
  }
  return { client, mappings };
}

/** Ends what an earlier run left and nobody wants; what cannot be ended expires. */
async function endUnwanted(
  clients: readonly RouterClient[],
  earlier: readonly Mapping[],
  kept: readonly Mapping[],
): Promise<void> {
  const unwanted = earlier.filter((mapping) => !kept.some((other) => isSameEntry(mapping, other)));
  await Promise.allSettled(
    unwanted.flatMap((mapping) =>
      clients.filter(({ protocol }) => protocol === mapping.protocol).map((client) => client.unmap(mapping)),
    ),
  );
}
