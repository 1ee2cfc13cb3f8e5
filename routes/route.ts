/**
 * A route of the API as a value: verb, path, aliases, what it takes and answers, and what it does. The server,
 * the OpenAPI description and the answers to wrong verbs are all made from the same list of these.
 */
import { type Static, type TSchema, t } from "elysia";
import { badArgument } from "./errors.ts";

export type Verb = "GET" | "POST" | "PUT" | "DELETE";

/** One request, as a route sees it: checked against the route's schemas, percent-decoded. */
export interface Call<P, Q, B> {
  readonly params: P;
  readonly query: Q;
  readonly body: B;
  readonly request: Request;
  /** Headers of the answer, unless the route returns a Response of its own. */
  readonly headers: Record<string, string | number>;
  /** The alias that the path was given by, as the route has it. */
  readonly alias: string | undefined;
  /** Sets the status of the answer, unless the route returns a Response of its own. */
  readonly status: (code: number) => void;
}

export interface Route {
  readonly verb: Verb;
  /** `/p2p/con/:name` */
  readonly path: string;
  /** Bare paths of P2PD 3.x, with the same parameters. */
  readonly aliases: readonly string[];
  readonly params: TSchema;
  readonly query: TSchema;
  readonly body: TSchema | undefined;
  /** The query may also be given as pairs of path segments, `/timeout/5`. */
  readonly takesPairs: boolean;
  /** Left out of the OpenAPI description. */
  readonly isHidden: boolean;
  /** Whether a HEAD may stand for the GET: it changes nothing and takes nothing away. */
  readonly isSafe: boolean;
  readonly group: string;
  readonly summary: string;
  readonly description: string;
  /** The media type of a good answer, and an example of it. */
  readonly answer: { readonly type: string; readonly example: unknown };
  readonly handle: (call: Call<never, never, never>) => unknown;
}

interface Spec<P extends TSchema, Q extends TSchema, B extends TSchema> {
  readonly verb?: Verb;
  readonly path: string;
  readonly aliases?: readonly string[];
  readonly params?: P;
  readonly query?: Q;
  readonly body?: B;
  readonly takesPairs?: boolean;
  readonly isSafe?: boolean;
  readonly isHidden?: boolean;
  readonly group: string;
  readonly summary: string;
  readonly description?: string;
  readonly answer: { readonly type?: string; readonly example: unknown };
  readonly handle: (call: Call<Static<P>, Static<Q>, Static<B>>) => unknown;
}

const NOTHING = t.Object({});

/** A route with its defaults filled in: GET, no aliases, nothing taken, JSON. */
export function route<
  P extends TSchema = typeof NOTHING,
  Q extends TSchema = typeof NOTHING,
  B extends TSchema = typeof NOTHING,
>(spec: Spec<P, Q, B>): Route {
  return {
    verb: spec.verb ?? "GET",
    path: spec.path,
    aliases: spec.aliases ?? [],
    params: spec.params ?? NOTHING,
    query: spec.query ?? NOTHING,
    body: spec.body,
    takesPairs: spec.takesPairs ?? false,
    isSafe: spec.isSafe ?? false,
    isHidden: spec.isHidden ?? false,
    group: spec.group,
    summary: spec.summary,
    description: spec.description ?? "",
    answer: { type: spec.answer.type ?? "application/json", example: spec.answer.example },
    handle: spec.handle,
  };
}

/** The name of a connection, in a path. `example` is one that works when the examples are run in their order. */
export const connectionName = (example = "con") =>
  t.String({ minLength: 1, maxLength: 128, description: "The connection's name.", examples: [example] });

const MAXIMUM_SECONDS = 3600;

/** Seconds, with decimals; to be read with `millisecondsOf`. */
export const timeoutSeconds = (description: string) =>
  t.Optional(
    t.String({ maxLength: 64, description: `${description} 0 to ${MAXIMUM_SECONDS}.`, examples: ["2"] }),
  );

/** Milliseconds of a time in a query, of that name; undefined where there is none. Throws `bad-argument`. */
export function millisecondsOf(value: string | undefined, name = "timeout"): number | undefined {
  if (value === undefined) return undefined;
  const seconds = /^(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)$/.test(value) ? Number(value) : Number.NaN;
  if (seconds >= 0 && seconds <= MAXIMUM_SECONDS) return seconds * 1000;
  throw badArgument(name, value, `seconds, a number from 0 to ${MAXIMUM_SECONDS}`);
}
