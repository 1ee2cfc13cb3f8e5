/** A transfer from a raw HTTP pipe through a daemon to a service of a peer that throws it away. */
import { join } from "node:path";
import type { Daemon } from "../daemon-process.ts";

/** Megabytes per second of so many mebibytes through a connection that is opened so, which has to have that path. */
export async function throughPipe(
  daemon: Daemon,
  name: string,
  target: string,
  mebibytes: number,
  { query = "", path = "direct/tcp" } = {},
): Promise<number> {
  const opened = await daemon.get(`/p2p/open/${name}/${target}?service=discard${query}`);
  if (opened["path"] !== path) throw new Error(`${path} was wanted: ${JSON.stringify(opened)}`);
  const head = `GET /p2p/pipe/${name} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`;
  const rate = await sendTo(daemon.port, mebibytes, head);
  await daemon.get(`/p2p/close/${name}`);
  return rate;
}

/** Megabytes per second of one transfer, from the connect to the end that the far side sends last. */
export async function sendTo(port: number, mebibytes: number, head = ""): Promise<number> {
  const words = [join(import.meta.dir, "sender.ts"), String(port), String(mebibytes), head];
  const child = Bun.spawn([process.execPath, ...words], { stdout: "pipe", stderr: "inherit" });
  const seconds = Number(await new Response(child.stdout).text());
  if ((await child.exited) !== 0) throw new Error(`the sender to port ${port} failed`);
  return (mebibytes * 1.048576) / seconds;
}
