/** What is told of the API: docs/api.md, the OpenAPI description, and the pages that show it. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ERROR_CODES, P2pdError } from "../../core/errors.ts";
import { createRealWorld } from "../../core/net/real-world.ts";
import { type Api, startApi } from "../../routes/api.ts";
import { ERRORS, errorResponse, INFO_UNKNOWN_NUMBER } from "../../routes/errors.ts";
import { createLoopbackNode, type LoopbackNode } from "./loopback-node.ts";

interface Operation {
  readonly summary?: string;
  readonly parameters?: readonly { name: string; in: string; required: boolean; example?: string }[];
  readonly requestBody?: { content: Record<string, { example?: unknown }> };
  readonly responses: Record<string, { content: Record<string, { example: unknown }> }>;
}

interface Description {
  readonly paths: Record<string, Record<string, Operation>>;
  readonly security?: unknown;
}

const docs = readFileSync(join(import.meta.dir, "../../docs/api.md"), "utf8");
const world = createRealWorld();
let node: LoopbackNode;
let api: Api;
let description: Description;

beforeAll(async () => {
  node = await createLoopbackNode(world);
  api = await startApi(world, node, { apiHost: "127.0.0.1", apiPort: 0 });
  description = (await (await fetch(`${api.url}swagger/json`)).json()) as Description;
});

afterAll(async () => {
  await api.close();
  await node.stop();
});

test("docs/api.md has every error with its number, status and meaning", () => {
  for (const code of ERROR_CODES) {
    const { number, status, meaning } = ERRORS[code];
    expect(docs).toContain(`| ${number} | \`${code}\` | ${status} | ${meaning} |`);
  }
});

test("no number stands for two errors, and none for the one of /info", () => {
  const numbers = Object.values(ERRORS).map(({ number }) => number);
  expect(new Set(numbers).size).toBe(numbers.length);
  expect(numbers).not.toContain(INFO_UNKNOWN_NUMBER);
  expect(numbers).not.toContain(0);
});

test("the numbers that P2PD's users know are kept", () => {
  const known = [
    "no-such-route",
    "name-taken",
    "connect-failed",
    "no-such-connection",
    "receive-timeout",
    "nothing-received",
    "send-failed",
    "subscription-exists",
    "reserved-name",
  ] as const;
  expect(known.map((code) => ERRORS[code].number)).toEqual([1, 2, 3, 4, 5, 6, 8, 9, 10]);
});

test("an error's details never stand in for its number, and one that JSON cannot show is left out", async () => {
  const error = new P2pdError("closed", "gone", { error: 0, msg: "fine", sent: 3 });
  expect(await errorResponse(error).json()).toEqual({ error: 20, code: "closed", msg: "gone", sent: 3 });
  const circle: Record<string, unknown> = {};
  circle["itself"] = circle;
  const shown = (await errorResponse(new P2pdError("closed", "gone", circle)).json()) as Record<
    string,
    unknown
  >;
  expect(shown).toMatchObject({ error: 20, code: "closed", msg: expect.stringContaining("gone") });
});

test("docs/api.md and the OpenAPI description have the same requests", () => {
  const described = operations().map(({ verb, path }) =>
    `${verb} ${path}`.replaceAll(/\{([a-z]+)\}/g, (_, name: string) => name.toUpperCase()),
  );
  const documented = [...docs.matchAll(/^\| `([A-Z]+ \/[^`]*)` \|/gm)].map((match) => match[1]);
  expect(new Set(documented)).toEqual(new Set(described));
  expect(documented.length).toBe(described.length);
  expect(described.length).toBeGreaterThan(20);
});

test("every operation has a summary, an example of its answer, and one for each parameter that it needs", () => {
  for (const { verb, path, operation } of operations()) {
    expect(operation.summary ?? `nothing for ${verb} ${path}`).toMatch(/^[A-Z]/);
    expect(Object.values(operation.responses["200"]?.content ?? {})[0]?.example).toBeDefined();
    const needed = (operation.parameters ?? []).filter(({ required }) => required);
    expect(needed.map(({ name }) => name)).toEqual(
      [...path.matchAll(/\{([a-z]+)\}/g)].map((match) => match[1] ?? ""),
    );
    for (const { example } of needed) expect(example).toBeDefined();
  }
});

test("the examples work when they are pressed one after another", async () => {
  await node.open("first", "self");
  const waiting = new Set(["/p2p/accept", "/p2p/events", "/p2p/pipe/{name}", "/p2p/addr/explain/{addr}"]);
  const pressed = operations().filter(
    ({ path, verb }) => !waiting.has(path) && !/close|DELETE/.test(verb + path),
  );
  for (const { verb, path, operation } of pressed) {
    const isTaking = verb === "GET" && /recv|binary/.test(path);
    if (isTaking) await (await fetch(`${api.url}p2p/send/con/ECHO%20again`)).text();
    const answer = await press(verb, path, operation);
    expect([verb, path, answer.status]).toEqual([verb, path, 200]);
    await answer.arrayBuffer();
  }
});

test("the pages come from the program alone: nothing in them names another site", async () => {
  const page = await fetch(api.url);
  expect([page.status, new URL(page.url).pathname]).toEqual([200, "/swagger"]);
  const html = await page.text();
  const parts = [...html.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => match[1] as string);
  expect(parts.length).toBe(4);
  for (const part of parts) {
    const answer = await fetch(new URL(part, api.url));
    expect([part, answer.status]).toEqual([part, 200]);
    expect(answer.headers.get("content-security-policy")).toContain("default-src 'none'");
    expect((await answer.arrayBuffer()).byteLength).toBeGreaterThan(100);
  }
  expect(html).not.toMatch(/https?:\/\//);
});

test("where there is a token the description says how to show it", async () => {
  const locked = await startApi(world, node, { apiHost: "127.0.0.1", apiPort: 0, apiToken: "secret" });
  const shown = (await (await fetch(`${locked.url}swagger/json`)).json()) as Description;
  await locked.close();
  expect([description.security, shown.security]).toEqual([undefined, [{ token: [] }]]);
});

function operations() {
  return Object.entries(description.paths).flatMap(([path, verbs]) =>
    Object.entries(verbs).map(([verb, operation]) => ({ path, verb: verb.toUpperCase(), operation })),
  );
}

function press(verb: string, path: string, operation: Operation): Promise<Response> {
  let target = path;
  const query = new URLSearchParams();
  for (const { name, in: where, example } of operation.parameters ?? []) {
    if (where === "path") target = target.replace(`{${name}}`, encodeURIComponent(example ?? ""));
    else if (example !== undefined) query.set(name, example);
  }
  const json = operation.requestBody?.content["application/json"]?.example;
  const body = json === undefined ? (verb === "POST" ? "octets" : undefined) : JSON.stringify(json);
  return fetch(`${api.url.slice(0, -1)}${target}?${query.toString()}`, {
    method: verb,
    ...(body === undefined ? {} : { body }),
  });
}
