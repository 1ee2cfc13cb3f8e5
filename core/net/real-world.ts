/** The machine we run on, as a World: real time, sockets and NICs put together. */
import { randomFillSync } from "node:crypto";
import { lookup } from "./lookup.ts";
import { readNics } from "./nics.ts";
import { openQuic } from "./quic.ts";
import { realTime } from "./real-time.ts";
import { systemId } from "./system-id.ts";
import { connectTcp } from "./tcp-connect.ts";
import { listenTcp } from "./tcp-listen.ts";
import { secure } from "./tls.ts";
import { acceptTls } from "./tls-accept.ts";
import { secureServer } from "./tls-ca.ts";
import { openUdp } from "./udp.ts";
import { unixSockets } from "./unix-sockets.ts";
import { watchNics } from "./watch-nics.ts";
import type { World } from "./world.ts";

/** A World on this machine's own network. It holds nothing: whatever it opens is closed on its own. */
export function createRealWorld(): World {
  return {
    time: realTime,
    unix: unixSockets,
    randomBytes: (count) => randomFillSync(new Uint8Array(count)),
    systemId: () => systemId(readNics()),
    nics: readNics,
    watchNics,
    lookup,
    openUdp,
    listenTcp,
    connectTcp,
    openQuic,
    secure,
    secureServer,
    acceptTls,
  };
}
