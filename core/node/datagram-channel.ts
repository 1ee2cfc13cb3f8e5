/**
 * A session whose messages go as datagrams of its path: whole, unordered, and lost where the network loses them. The
 * greeting, the end and the reason of an end still go by the session's frames.
 */
import { P2pdError } from "../errors.ts";
import type { QuicPath, SecureStream } from "../net/world.ts";
import type { Hello } from "../wire/session-frame.ts";
import type { Channel } from "./channel.ts";
import type { Session } from "./session.ts";

export type Mode = Hello["mode"];

/** The channel that a HELLO asks for; undefined, and the session refused, where the path has no datagrams. */
export function channelOf(session: Session, stream: SecureStream, mode: Mode): Channel | undefined {
  if (mode !== "datagrams") return session;
  if (isQuic(stream)) return datagramChannel(session, stream);
  session.refuse({ code: "unsupported", text: "datagrams need a path over UDP, and this one is TCP" });
  return undefined;
}

function isQuic(stream: SecureStream): stream is QuicPath {
  return "sendDatagram" in stream;
}

function datagramChannel(session: Session, path: QuicPath): Channel {
  let paused = false;
  let closed = false;
  return {
    kind: "datagram",
    local: session.local,
    remote: session.remote,
    fd: session.fd,
    pendingBytes: 0,
    attach(handlers) {
      session.attach({
        message: () => session.abort(new P2pdError("protocol", "DATA came in a session of datagrams")),
        drain: () => undefined,
        // There is no half of a conversation in datagrams: the peer's end is the end.
        end: () => {
          handlers.end();
          session.end();
        },
        close: (error) => {
          closed = true;
          handlers.close(error);
        },
      });
      path.attachDatagrams((bytes) => {
        if (!paused && !closed) handlers.message(bytes.slice(), session.remote);
      });
    },
    send(bytes) {
      if (bytes.length > path.maxDatagramBytes && !closed) {
        const most = path.maxDatagramBytes;
        throw new P2pdError(
          "too-large",
          `a message of ${bytes.length} octets; ${most} fit this path's datagrams`,
        );
      }
      // One that finds no room is lost, as others are on their way.
      path.sendDatagram(bytes);
      return true;
    },
    pause: () => {
      paused = true;
    },
    resume: () => {
      paused = false;
    },
    end: () => session.end(),
    abort: (reason) => session.abort(reason),
  };
}
