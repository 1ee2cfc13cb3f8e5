/**
 * The HTTP server's application: registers the routes and their aliases with Elysia, lets the guard look at every
 * request, and gives every failure its answer. What the routes do is in their own files.
 */
import { Elysia } from "elysia";
import { P2pdError, toP2pdError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import { badArgument, errorResponse } from "./errors.ts";
import { corsHeaders, type Guard } from "./guard.ts";
import { readJson } from "./json-body.ts";
import { malformedEncoding, readPathPairs } from "./path-pairs.ts";
import type { Call, Route } from "./route.ts";
import { createRouteFinder } from "./route-finder.ts";
import { explainMismatch } from "./validation.ts";

export interface AppOptions {
  readonly routes: readonly Route[];
  readonly guard: Guard;
  readonly log?: Log | undefined;
}

/** What Elysia hands to a handler, as far as it is used. */
interface Context {
  readonly params: Record<string, string>;
  readonly query: Record<string, unknown>;
  readonly body: unknown;
  readonly request: Request;
  readonly set: { headers: Record<string, string | number>; status?: number | string };
}

export function createApp({ routes, guard, log }: AppOptions): Elysia {
  const find = createRouteFinder(routes);
  const app = new Elysia({ normalize: false });

  app.onRequest(({ request, set }) => {
    const { headers, method, url } = request;
    log?.debug("request", { method, url });
    const refusal = guard.check({ header: (name) => headers.get(name), url }, isPage(url));
    if (refusal !== undefined)
      return errorResponse(
        refusal,
        undefined,
        refusal.code === "unauthorized" ? { "www-authenticate": "Bearer" } : {},
      );
    set.headers["cache-control"] = "no-store";
    const origin = headers.get("origin");
    if (origin !== null) Object.assign(set.headers, corsHeaders(origin));
    if (method === "OPTIONS") return answerOptions(request, find.verbs(pathOf(url)), origin);
    if (method === "HEAD" && find.isUnsafe(pathOf(url))) {
      return wrongVerb(
        "HEAD",
        pathOf(url),
        find.verbs(pathOf(url)).filter((verb) => verb !== "HEAD"),
      );
    }
    const malformed = url.includes("%") ? malformedEncoding(url) : undefined;
    if (malformed !== undefined)
      return errorResponse(badArgument("the path", malformed, "percent-encoded UTF-8"));
    return undefined;
  });

  app.onError(({ code, error, request, set }) => {
    const headers = set.headers as Record<string, string>;
    if (code === "VALIDATION") return errorResponse(explainMismatch(error), undefined, headers);
    if (code === "NOT_FOUND") {
      const path = pathOf(request.url);
      return answerUnknown(request.method, path, find.verbs(path), find.shape(path), headers);
    }
    // What a parser throws comes wrapped.
    const failure = toP2pdError(code === "PARSE" && error instanceof Error ? error.cause : error);
    if (failure.code === "internal")
      log?.error(failure.message, { path: pathOf(request.url), stack: failure.stack });
    return errorResponse(failure, undefined, headers);
  });

  for (const route of routes) {
    register(app, route, route.path, undefined);
    for (const alias of route.aliases) register(app, route, alias, alias);
  }
  return app;
}

function register(app: Elysia, route: Route, path: string, alias: string | undefined): void {
  const handler = (context: Context): unknown => {
    const { params, query, body, request, set } = context;
    const call: Call<unknown, unknown, unknown> = {
      params,
      query,
      body,
      request,
      headers: set.headers,
      alias,
      status: (code) => (set.status = code),
    };
    return route.handle(call as Call<never, never, never>);
  };
  const known = Object.keys(route.query["properties"] as object);
  const hook = {
    parse: route.body === undefined ? "none" : [({ request }: Context) => readJson(request)],
    ...(path.includes(":") ? { params: route.params } : {}),
    ...(known.length > 0 ? { query: route.query } : {}),
    ...(route.body === undefined ? {} : { body: route.body }),
  };
  app.route(route.verb, path, handler as never, hook as never);
  if (!route.takesPairs) return;
  const transform = ({ params, query }: Context): void => {
    const pairs = params["*"] ?? "";
    delete params["*"];
    Object.assign(query, readPathPairs(pairs, known));
  };
  app.route(route.verb, `${path}/*`, handler as never, { ...hook, transform } as never);
}

/** The pages of the documentation show nothing of the node. */
function isPage(url: string): boolean {
  const path = pathOf(url);
  return path === "/" || path === "/docs" || path.startsWith("/swagger");
}

function pathOf(url: string): string {
  const start = url.indexOf("/", url.indexOf("//") + 2);
  const end = url.indexOf("?", start);
  return start < 0 ? "/" : end < 0 ? url.slice(start) : url.slice(start, end);
}

function answerOptions(request: Request, verbs: readonly string[], origin: string | null): Response {
  const path = pathOf(request.url);
  if (verbs.length === 0) return errorResponse(noRoute("OPTIONS", path));
  const headers: Record<string, string> = { allow: verbs.join(", ") };
  if (origin !== null) {
    Object.assign(headers, corsHeaders(origin), {
      "access-control-allow-methods": verbs.join(", "),
      "access-control-allow-headers":
        request.headers.get("access-control-request-headers") ?? "authorization, content-type",
      "access-control-max-age": "600",
    });
    if (request.headers.has("access-control-request-private-network"))
      headers["access-control-allow-private-network"] = "true";
  }
  return new Response(null, { status: 204, headers });
}

function answerUnknown(
  method: string,
  path: string,
  verbs: readonly string[],
  shape: string | undefined,
  headers: Record<string, string>,
): Response {
  if (verbs.length === 0) return errorResponse(noRoute(method, path), undefined, headers);
  if (!verbs.includes(method)) return wrongVerb(method, path, verbs, headers);
  // The router knows the path, had it not an empty part.
  return errorResponse(
    badArgument("the path", path, `${shape ?? path}, with no part empty`),
    undefined,
    headers,
  );
}

function noRoute(method: string, path: string): P2pdError {
  return new P2pdError(
    "no-such-route",
    `there is no ${method} ${path.slice(0, 200)}; GET /swagger lists what there is`,
  );
}

function wrongVerb(
  method: string,
  path: string,
  verbs: readonly string[],
  headers: Record<string, string> = {},
): Response {
  const error = new P2pdError(
    "no-such-route",
    `${path.slice(0, 200)} takes no ${method}; it takes ${verbs.join(", ")}`,
  );
  return errorResponse(error, 405, { ...headers, allow: verbs.join(", ") });
}
