/**
 * A session whose messages go as datagrams of its path: whole, unordered, and lost where the network loses them, or
 * while the session has no path. The greeting, the end and the reason of an end still go by the session's frames.
 */
import { P2pdError } from "../errors.ts";
import type { QuicPath, SecureStream } from "../net/world.ts";
import type { Hello } from "../wire/session-frame.ts";
import type { Channel, ChannelHandlers } from "./channel.ts";
import type { Session } from "./session.ts";

export type Mode = Hello["mode"];

/** The channel that a HELLO asks for; undefined, and the session refused, where the path has no datagrams. */
export function channelOf(session: Session, mode: Mode): Channel | undefined {
  if (mode !== "datagrams") return session;
  if (isQuic(session.path.stream)) return datagramChannel(session);
  session.refuse({ code: "unsupported", text: "datagrams need a path over UDP, and this one is TCP" });
  return undefined;
}

function isQuic(stream: SecureStream): stream is QuicPath {
  return "sendDatagram" in stream;
}

function datagramChannel(session: Session): Channel {
  let handlers: ChannelHandlers | undefined;
  let paused = false;
  let closed = false;
  const path = (): QuicPath => session.path.stream as QuicPath;
  const listen = (): void => {
    const heard = path();
    heard.attachDatagrams((bytes) => {
      if (!paused && !closed && heard === path()) handlers?.message(bytes.slice(), session.remote);
    });
  };
  return {
    kind: "datagram",
    get local() {
      return session.local;
    },
    get remote() {
      return session.remote;
    },
    get fd() {
      return session.fd;
    },
    pendingBytes: 0,
    attach(next) {
      handlers = next;
      session.attach({
        message: () => session.abort(new P2pdError("protocol", "DATA came in a session of datagrams")),
        drain: () => undefined,
        // There is no half of a conversation in datagrams: the peer's end is the end.
        end: () => {
          next.end();
          session.end();
        },
        close: (error) => {
          closed = true;
          next.close(error);
        },
      });
      session.onPath(listen);
      listen();
    },
    send(bytes) {
      const most = path().maxDatagramBytes;
      // 0: the path has just been lost, and the next one may take it.
      if (bytes.length > most && most > 0 && !closed) {
        throw new P2pdError(
          "too-large",
          `a message of ${bytes.length} octets; ${most} fit this path's datagrams`,
        );
      }
      // One that finds no room is lost, as others are on their way.
      path().sendDatagram(bytes);
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
