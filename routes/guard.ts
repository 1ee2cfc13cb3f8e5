/**
 * Who may use the API: programs of this machine, and pages that this machine serves. Refuses a `Host` that is
 * no loopback name (DNS rebinding), an `Origin` of a foreign site (CSRF), and, where a token is configured,
 * whoever does not show it. Knows headers only; the door and the routes ask it.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { P2pdError } from "../core/errors.ts";

/** What a request says of itself. */
export interface Claims {
  /** The value of a header, by its lower-case name; null where there is none. */
  header(name: "host" | "origin" | "authorization"): string | null;
  /** May have `token` in its query, for browsers, whose WebSockets and links take no header. */
  readonly url: string;
}

export interface Guard {
  /** Why the request is refused: `foreign-request` or `unauthorized`; undefined if it is welcome. */
  check(claims: Claims, isPublic?: boolean): P2pdError | undefined;
}

const HOST = /^(\[[0-9a-f:.]+\]|[^:[\]\s/@]+)(?::[0-9]{1,5})?$/;
const LOOPBACK = /^(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])$/;

/**
 * The guard of a listener on TCP. `apiHost` is a name that requests may use beside the loopback ones; `public`
 * requests (the pages of the documentation) need no token.
 */
export function createGuard(config: { readonly apiHost: string; readonly apiToken?: string }): Guard {
  const own = config.apiHost.includes(":")
    ? `[${config.apiHost.toLowerCase()}]`
    : config.apiHost.toLowerCase();
  const wanted = config.apiToken === undefined ? undefined : digest(config.apiToken);
  const isLocal = (host: string): boolean => {
    const name = HOST.exec(host.toLowerCase())?.[1];
    return name !== undefined && (name === own || LOOPBACK.test(name));
  };
  // Requests of one client repeat these two headers, so that the last good ones answer most questions.
  let goodHost: string | undefined;
  let goodOrigin: string | undefined;

  const checkOrigin = (origin: string, hasToken: boolean): P2pdError | undefined => {
    if (origin === "null") {
      if (hasToken) return undefined;
      return new P2pdError(
        "foreign-request",
        'Origin is "null" (a page from a file or a sandbox): such pages need the API token; configure apiToken and send it',
      );
    }
    if (origin === goodOrigin) return undefined;
    const host = /^https?:\/\/([^/]+)$/i.exec(origin)?.[1];
    if (host === undefined || !isLocal(host)) {
      return new P2pdError(
        "foreign-request",
        `Origin is ${quote(origin)}: only pages that this machine serves may use the API (http://localhost, http://127.0.0.1, http://[::1])`,
      );
    }
    goodOrigin = origin;
    return undefined;
  };

  return {
    check(claims, isPublic = false) {
      const host = claims.header("host");
      if (host !== null && host !== goodHost) {
        if (!isLocal(host)) {
          return new P2pdError(
            "foreign-request",
            `Host is ${quote(host)}: expected a name of this machine, such as localhost, 127.0.0.1 or [::1]`,
          );
        }
        goodHost = host;
      }
      const origin = claims.header("origin");
      if (origin === null && (wanted === undefined || isPublic)) return undefined;
      const shown = bearerOf(claims.header("authorization")) ?? queryTokenOf(claims.url);
      const hasToken = wanted !== undefined && shown !== null && timingSafeEqual(digest(shown), wanted);
      const foreign = origin === null ? undefined : checkOrigin(origin, hasToken);
      if (foreign !== undefined || wanted === undefined || hasToken || isPublic) return foreign;
      return new P2pdError(
        "unauthorized",
        `${shown === null ? "the request shows no API token" : "the API token is wrong"}: send "Authorization: Bearer TOKEN", or ?token=TOKEN, with the node's apiToken`,
      );
    },
  };
}

/** For a unix socket: whoever may open the file may use the API. */
export const openGuard: Guard = { check: () => undefined };

/** `token` of a request's query, or null. */
function queryTokenOf(url: string): string | null {
  const start = url.indexOf("?");
  return start < 0 || !url.includes("token=", start)
    ? null
    : new URLSearchParams(url.slice(start + 1)).get("token");
}

/** Headers that let a page of `origin` read the answer. To be given only after `check` let the request pass. */
export function corsHeaders(origin: string): Record<string, string> {
  return { "access-control-allow-origin": origin, vary: "Origin" };
}

function bearerOf(authorization: string | null): string | null {
  return authorization === null ? null : (/^Bearer +([^\s]+)\s*$/i.exec(authorization)?.[1] ?? "");
}

function digest(text: string): Uint8Array {
  return createHash("sha256").update(text).digest();
}

function quote(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text);
}
