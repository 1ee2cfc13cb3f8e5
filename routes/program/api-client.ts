/**
 * Asks the daemon of this machine over its REST API, on its local socket where one is configured. Knows the API's
 * shape of failures, and tells a daemon that is not running from one that refuses.
 */
import { P2pdError, toP2pdError } from "../../core/errors.ts";
import { familyOf } from "../../core/ip.ts";
import type { ByteStream } from "../../core/net/world.ts";
import type { Settings } from "./settings.ts";

export interface ApiClient {
  /** Where the daemon is expected, to name it to people. */
  readonly where: string;
  /** The JSON of an answer. Rejects with `unavailable` where no daemon runs, and with what the daemon says. */
  request(
    path: string,
    method?: "GET" | "DELETE" | "PUT" | "POST",
    body?: object,
  ): Promise<Record<string, unknown>>;
  /** A new connection to the API's port or socket. */
  connect(): Promise<ByteStream>;
  /** Header lines that every request must bear. */
  readonly headers: Readonly<Record<string, string>>;
}

const CONNECT_TIMEOUT_MS = 5000;
/** What `fetch` says where nobody listens. */
const ABSENT = new Set(["ECONNREFUSED", "ConnectionRefused", "ENOENT", "FailedToOpenSocket"]);

export function createApiClient({ world, config }: Settings): ApiClient {
  const { apiHost, apiPort, apiToken, apiSocket } = config;
  const authority = `${familyOf(apiHost) === 6 ? `[${apiHost}]` : apiHost}:${apiPort}`;
  // A wildcard is an address to listen on; the way to it is loopback.
  const reachable = authority.replace(/^0\.0\.0\.0:/, "127.0.0.1:").replace(/^\[::\]:/, "[::1]:");
  const where = apiSocket ?? `http://${reachable}/`;
  const token: Record<string, string> = apiToken === undefined ? {} : { authorization: `Bearer ${apiToken}` };
  // A proxy for the internet must not be asked for this machine.
  process.env["NO_PROXY"] = "*";

  return {
    where,
    headers: { host: reachable, ...token },
    async request(path, method = "GET", body) {
      const none = `no daemon answers on ${where}; \`p2pd\` starts one`;
      if (apiPort === 0 && apiSocket === undefined) throw new P2pdError("unavailable", none);
      let response: Response;
      try {
        const json = body === undefined ? {} : { body: JSON.stringify(body) };
        const headers = body === undefined ? token : { ...token, "content-type": "application/json" };
        const options = { method, headers, ...json, ...(apiSocket === undefined ? {} : { unix: apiSocket }) };
        response = await fetch(`http://${reachable}${path}`, options);
      } catch (thrown) {
        if (!ABSENT.has((thrown as NodeJS.ErrnoException).code ?? "")) {
          throw toP2pdError(thrown, "closed", `the daemon on ${where} did not answer`);
        }
        throw new P2pdError("unavailable", none, {}, { cause: thrown });
      }
      return readAnswer(response, where);
    },
    async connect() {
      if (apiSocket === undefined) {
        const ip = reachable.slice(0, reachable.lastIndexOf(":")).replaceAll(/[[\]]/g, "");
        return world.connectTcp({ remote: { ip, port: apiPort }, timeoutMs: CONNECT_TIMEOUT_MS });
      }
      if (world.unix === undefined) throw new P2pdError("unsupported", "this platform has no local sockets");
      return world.unix.connect(apiSocket);
    },
  };
}

/** What the daemon answers to a GET; undefined where none runs. */
export async function askDaemon(
  settings: Settings,
  path: string,
): Promise<Record<string, unknown> | undefined> {
  try {
    return await createApiClient(settings).request(path);
  } catch (thrown) {
    if (thrown instanceof P2pdError && thrown.code === "unavailable") return undefined;
    throw thrown;
  }
}

async function readAnswer(response: Response, where: string): Promise<Record<string, unknown>> {
  let answer: unknown;
  try {
    answer = await response.json();
  } catch (thrown) {
    throw toP2pdError(thrown, "protocol", `what answers on ${where} is not P2PD`);
  }
  if (typeof answer !== "object" || answer === null || !("error" in answer)) {
    throw new P2pdError("protocol", `what answers on ${where} is not P2PD`);
  }
  const facts = answer as Record<string, unknown>;
  if (facts["error"] !== 0) throw failureOf(facts);
  return facts;
}

/** What the daemon said of a failure; its facts (`attempts`, `timeline`) are the error's detail. */
function failureOf(answer: Record<string, unknown>): P2pdError {
  return new P2pdError("refused", String(answer["msg"]), answer);
}
