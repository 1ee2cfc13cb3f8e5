/** Why an attempt to connect failed, in words that a person can act on. */
import { P2pdError, toP2pdError } from "../errors.ts";

/** The same failure with its reason in words; `aborted` and what is no failure of the network stay as they are. */
export function explainFailure(thrown: unknown, transport: "tcp" | "udp", timeoutMs: number): P2pdError {
  const error = toP2pdError(thrown, "connect-failed");
  const reason = reasonOf(error, transport, timeoutMs);
  return reason === undefined ? error : new P2pdError(error.code, reason, error.detail, { cause: error });
}

function reasonOf(error: P2pdError, transport: "tcp" | "udp", timeoutMs: number): string | undefined {
  const within = `within ${(timeoutMs / 1000).toFixed(timeoutMs < 1000 ? 2 : 0)} s`;
  switch (error.code) {
    case "peer-key":
      return `a node with another key answers there (${error.message}); the address is out of date, or its port is forwarded to another machine`;
    case "refused":
      return "nothing listens there: the node is not running, or it listens on another port";
    case "timeout":
      return transport === "tcp"
        ? `no answer ${within}: the host is off, or a firewall or NAT drops connections from outside (forward the port, or use another strategy)`
        : `no answer ${within}: the host is off, or a firewall or NAT drops UDP from outside`;
    case "unreachable":
      return `this machine has no way there: ${error.message}`;
    case "closed":
    case "protocol":
      return `whoever answers there is not a node, or broke off: ${error.message}`;
    default:
      return undefined;
  }
}
