/** The HTTP application that stands behind the front door, listening on TCP by itself; prints its port. */
import type { NodeApi } from "../../core/node/node-api.ts";
import { createApp } from "../../routes/app.ts";
import { createGuard } from "../../routes/guard.ts";
import { informationRoutes } from "../../routes/information.ts";

// `GET /version`, the only route that is asked, looks at nothing else of the node.
const node = { version: "0.1.0" } as NodeApi;
const app = createApp({
  routes: informationRoutes(node, () => ({})),
  guard: createGuard({ apiHost: "127.0.0.1" }),
});
app.listen({ hostname: "127.0.0.1", port: 0 });
console.log(app.server?.port);
