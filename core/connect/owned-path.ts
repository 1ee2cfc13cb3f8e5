/** A path that has something of its own below it, an endpoint or an allocation, which ends when the path is gone. */
import type { Endpoint } from "../ip.ts";
import type { SecureStream, Time } from "../net/world.ts";

/** So long the last packets of a path have to leave. */
const LINGER_MS = 1000;

/**
 * The same path; `below` is closed after it.
 * @param ends what to call its ends, where those of `path` are inside this machine or on a server
 */
export function ownPath<P extends SecureStream>(
  time: Time,
  path: P,
  below: { close(): unknown },
  ends: { readonly local?: Endpoint; readonly remote?: Endpoint } = {},
): P {
  let isClosing = false;
  let isAttached = false;
  const closeLater = (): void => {
    if (isClosing) return;
    isClosing = true;
    time.after(LINGER_MS, () => void below.close(), { background: true });
  };
  const owned: Partial<SecureStream> = {
    ...ends,
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
  return Object.assign(Object.create(path) as P, owned);
}
