/** A QUIC path that has an endpoint of its own, which is closed when the path is gone. */
import type { QuicEndpoint, QuicPath, Time } from "../net/world.ts";

/** So long the last packets of a path have to leave. */
const LINGER_MS = 1000;

/** The same path; `endpoint` ends with it. */
export function ownPath(time: Time, path: QuicPath, endpoint: QuicEndpoint): QuicPath {
  let isClosing = false;
  let isAttached = false;
  const closeLater = (): void => {
    if (isClosing) return;
    isClosing = true;
    time.after(LINGER_MS, () => void endpoint.close(), { background: true });
  };
  const owned: Partial<QuicPath> = {
    attach(handlers) {
      isAttached = true;
      path.attach({
        data: (bytes) => handlers.data(bytes),
        drain: () => handlers.drain(),
        end: () => handlers.end(),
        close(error) {
          closeLater();
          handlers.close(error);
        },
      });
    },
    abort(reason) {
      path.abort(reason);
      if (!isAttached) closeLater();
    },
  };
  return Object.assign(Object.create(path) as QuicPath, owned);
}
