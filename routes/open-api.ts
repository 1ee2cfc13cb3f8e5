/**
 * The OpenAPI description of the routes. `@elysiajs/swagger` derives it from the same schemas that check the
 * requests; what it leaves out (examples, media types of bodies, the token) is added here.
 */
import { Elysia } from "elysia";
import { ERRORS } from "./errors.ts";
import type { Route } from "./route.ts";

/** The parts of the generated description that are completed here. */
interface Description {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
}

interface Operation {
  parameters?: Parameter[];
  requestBody?: { required: boolean; content: Record<string, unknown> };
}

interface Parameter {
  schema: Record<string, unknown>;
  example?: unknown;
  examples?: readonly unknown[];
}

const GROUPS = {
  node: "This node and its network",
  connections: "Opening, watching and closing connections",
  messages: "What goes over them",
  services: "Local TCP ports that peers may ask for",
  peers: "Names for other nodes",
};

/** Loads the generator on demand: nobody else needs it, and it would cost the start of the program. */
export async function describeApi(
  routes: readonly Route[],
  version: string,
  hasToken: boolean,
): Promise<unknown> {
  const { swagger } = await import("@elysiajs/swagger");
  const shown = routes.filter(({ isHidden }) => !isHidden);
  const app = new Elysia().use(
    swagger({
      path: "/swagger",
      provider: "swagger-ui",
      documentation: {
        info: {
          title: "P2PD",
          version,
          description:
            "Connections between any two programs, whatever routers stand between them. Try the routes in this order: open `con` to `self`, send, receive, close.",
        },
        tags: Object.entries(GROUPS).map(([name, description]) => ({ name, description })),
        ...(hasToken
          ? {
              components: { securitySchemes: { token: { type: "http", scheme: "bearer" } } },
              security: [{ token: [] }],
            }
          : {}),
      },
    }),
  );
  for (const route of shown) {
    app.route(
      route.verb,
      route.path,
      (() => "") as never,
      {
        ...(route.path.includes(":") ? { params: route.params } : {}),
        query: route.query,
        ...(route.body === undefined ? {} : { body: route.body }),
        detail: detailOf(route),
      } as never,
    );
  }
  await app.modules;
  const answer = await app.handle(new Request("http://localhost/swagger/json"));
  const description = (await answer.json()) as Description;
  for (const route of shown) complete(description, route);
  return description;
}

function detailOf(route: Route): object {
  return {
    tags: [route.group],
    summary: route.summary,
    description: [route.description, aliasNote(route)].filter((text) => text !== "").join("\n\n"),
    responses: {
      200: {
        description: "Success",
        content: { [route.answer.type]: { example: route.answer.example } },
      },
      default: {
        description: "A failure: `error` is its number, `code` its name, `msg` says what was wrong",
        content: {
          "application/json": {
            example: {
              error: ERRORS["no-such-connection"].number,
              code: "no-such-connection",
              msg: 'there is no connection "con"',
            },
          },
        },
      },
    },
  };
}

function aliasNote({ aliases }: Route): string {
  return aliases.length === 0 ? "" : `Also as ${aliases.map((path) => `\`${path}\``).join(", ")}.`;
}

function complete(description: Description, route: Route): void {
  const path = route.path.replaceAll(/:([a-z]+)/g, "{$1}");
  const operation = description.paths[path]?.[route.verb.toLowerCase()];
  if (operation === undefined) return;
  for (const parameter of operation.parameters ?? []) {
    const [example] = parameter.examples ?? [];
    if (example !== undefined) parameter.example = example;
    delete parameter.examples;
    parameter.schema = plainSchema(parameter.schema);
  }
  if (route.body !== undefined) {
    const [example] = (route.body["examples"] ?? []) as unknown[];
    operation.requestBody = {
      required: true,
      content: { "application/json": { schema: route.body, example } },
    };
  } else if (route.verb === "POST") {
    operation.requestBody = {
      required: true,
      content: { "application/octet-stream": { schema: { type: "string", format: "binary" } } },
    };
  }
}

/** Literals are an `enum`. */
function plainSchema(schema: Record<string, unknown>): Record<string, unknown> {
  const options = schema["anyOf"] as readonly Record<string, unknown>[] | undefined;
  if (options === undefined) return schema;
  return { type: "string", enum: options.map((option) => option["const"]) };
}
