/**
 * Swagger UI, served from files that come with the program (inside the executable, when compiled), so that it
 * works with no internet; and the OpenAPI description that it shows. The pages tell nothing of the node.
 */
import icon from "swagger-ui-dist/favicon-32x32.png" with { type: "file" };
import style from "swagger-ui-dist/swagger-ui.css" with { type: "file" };
import script from "swagger-ui-dist/swagger-ui-bundle.js" with { type: "file" };
import { type Route, route } from "./route.ts";

const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>P2PD</title>
<link rel="icon" href="/swagger/icon.png">
<link rel="stylesheet" href="/swagger/ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/swagger/ui.js"></script>
<script src="/swagger/start.js"></script>
</body>
</html>
`;

// A token in the page's own address is used for every request that the page makes.
const START = `const token = new URLSearchParams(location.search).get("token");
window.ui = SwaggerUIBundle({
  url: "/swagger/json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  persistAuthorization: true,
  validatorUrl: null,
  requestInterceptor: (request) => {
    if (token !== null) request.headers.Authorization = "Bearer " + token;
    return request;
  },
});
`;

/** The style is Swagger UI's, which sets some of it in attributes; everything else is ours alone. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** `describe` makes the OpenAPI description; it is asked for once, and not before somebody wants it. */
export function pageRoutes(describe: () => Promise<unknown>): readonly Route[] {
  let description: Promise<unknown> | undefined;
  const page = (path: string, type: string, handle: () => unknown): Route =>
    route({
      path,
      isSafe: true,
      isHidden: true,
      group: "pages",
      summary: "A part of the page that you are reading",
      answer: { type, example: "" },
      handle,
    });
  const text = (path: string, type: string, content: string): Route =>
    page(path, type, () => new Response(content, { headers: headersOf(type) }));
  const file = (path: string, type: string, source: string): Route =>
    page(path, type, () => new Response(Bun.file(source), { headers: headersOf(type) }));
  const toPage = (path: string): Route =>
    page(path, "text/html", () => new Response(null, { status: 302, headers: { location: "/swagger" } }));
  return [
    toPage("/"),
    toPage("/docs"),
    text("/swagger", "text/html; charset=utf-8", PAGE),
    text("/swagger/start.js", "text/javascript; charset=utf-8", START),
    file("/swagger/ui.js", "text/javascript; charset=utf-8", script),
    file("/swagger/ui.css", "text/css; charset=utf-8", style),
    file("/swagger/icon.png", "image/png", icon),
    page("/swagger/json", "application/json", () => {
      description ??= describe();
      return description;
    }),
  ];
}

function headersOf(type: string): Record<string, string> {
  return {
    "content-type": type,
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
  };
}
