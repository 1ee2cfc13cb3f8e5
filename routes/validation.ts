/** Turns what Elysia says of a request that fits no schema into an error that names field, value and expectation. */
import type { TSchema } from "elysia";
import type { P2pdError } from "../core/errors.ts";
import { badArgument } from "./errors.ts";

/** The parts of Elysia's ValidationError that are used. */
export interface Mismatch {
  /** `params`, `query` or `body` */
  readonly type: string;
  readonly all: readonly {
    readonly path?: string;
    readonly value?: unknown;
    readonly message?: string;
    readonly schema?: TSchema;
  }[];
}

/** What the routes' schemas use of JSON Schema. */
interface Bounds {
  readonly type?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly anyOf?: readonly { readonly const?: unknown }[];
}

const PLACES: Readonly<Record<string, string>> = {
  params: "in the path",
  query: "in the query",
  body: "in the body",
};

export function explainMismatch({ type, all }: Mismatch): P2pdError {
  const first = all[0];
  const field = (first?.path ?? "").slice(1).replaceAll("/", ".");
  const place = PLACES[type] ?? `in the ${type}`;
  const what = field === "" ? `the ${type}` : `${field} ${place}`;
  const got = typeof first?.value === "string" ? first.value : (JSON.stringify(first?.value) ?? "missing");
  return badArgument(
    what,
    got,
    first?.schema === undefined ? "something else" : describe(first.schema, first.message),
    field === "" ? type : field,
  );
}

function describe(schema: TSchema, message = "something else"): string {
  const { type, minLength = 0, maxLength, anyOf } = schema as Bounds;
  if (anyOf !== undefined) {
    return `one of ${anyOf.map((option) => String(option["const"])).join(", ")}`;
  }
  if (type === "string") return `text of ${minLength} to ${maxLength} characters`;
  if (type === "object" && message.includes("nexpected")) return "no such field";
  return type === undefined ? message : `a value of type ${type}`;
}
