/**
 * Octets from a raw HTTP pipe through a daemon, a TLS link and a second daemon's `discard` service, beside two
 * socat processes with OpenSSL on the same journey: TCP in, TLS 1.3 between, thrown away at the end.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startDaemon } from "../daemon-process.ts";
import { printRatio } from "./figures.ts";
import { sendTo, throughPipe } from "./through-pipe.ts";

const MEBIBYTES = 2048;
const PAIRS = 5;

export async function benchPipeThroughput(): Promise<void> {
  await using near = await startDaemon();
  await using far = await startDaemon();
  const address = String((await far.get("/p2p/addr"))["addr"]);
  const socats = [await startSocats(8192), await startSocats(131_072)] as const;
  try {
    const twoDaemons: number[] = [];
    const oneDaemon: number[] = [];
    const peers: [number[], number[]] = [[], []];
    for (let pair = 0; pair < PAIRS; pair++) {
      twoDaemons.push(await throughPipe(near, `two${pair}`, address, MEBIBYTES));
      oneDaemon.push(await throughPipe(near, `one${pair}`, "self", MEBIBYTES));
      for (const i of [0, 1] as const) peers[i].push(await sendTo(socats[i].port, MEBIBYTES));
    }
    printRatio("pipe, daemon to daemon", "MB/s", "socat with OpenSSL", twoDaemons, peers[0]);
    printRatio("pipe, daemon to daemon", "MB/s", "socat with OpenSSL, -b 131072", twoDaemons, peers[1]);
    printRatio("pipe, one daemon to itself", "MB/s", "socat with OpenSSL", oneDaemon, peers[0]);
    printRatio("pipe, one daemon to itself", "MB/s", "socat with OpenSSL, -b 131072", oneDaemon, peers[1]);
  } finally {
    for (const socat of socats) socat.stop();
  }
}

async function startSocats(blockSize: number): Promise<{ port: number; stop: () => void }> {
  const directory = mkdtempSync(join(tmpdir(), "p2pd-socat-"));
  const file = (name: string): string => join(directory, name);
  const made = Bun.spawnSync(
    [
      "openssl",
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:prime256v1",
      "-nodes",
      "-days",
      "2",
      "-subj",
      "/CN=bench",
      "-keyout",
      file("key.pem"),
      "-out",
      file("cert.pem"),
    ],
    { stdout: "ignore", stderr: "ignore" },
  );
  if (made.exitCode !== 0) throw new Error("openssl could not make a certificate; is it installed?");
  const pem = (await Bun.file(file("key.pem")).text()) + (await Bun.file(file("cert.pem")).text());
  await Bun.write(file("both.pem"), pem);
  const [tlsPort, tcpPort] = [await freePort(), await freePort()];
  const size = ["-b", String(blockSize)];
  const start = (...words: string[]) =>
    Bun.spawn(["socat", "-u", ...size, ...words], { stdout: "ignore", stderr: "ignore" });
  const children = [
    start(
      `OPENSSL-LISTEN:${tlsPort},bind=127.0.0.1,cert=${file("both.pem")},verify=0,reuseaddr,fork`,
      "OPEN:/dev/null",
    ),
    start(`TCP-LISTEN:${tcpPort},bind=127.0.0.1,reuseaddr,fork`, `OPENSSL:127.0.0.1:${tlsPort},verify=0`),
  ];
  await Promise.all([listening(tlsPort), listening(tcpPort)]);
  return {
    port: tcpPort,
    stop() {
      for (const child of children) child.kill();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

async function freePort(): Promise<number> {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}

/** Waits until a listener shows in the kernel's table, without connecting to it. */
async function listening(port: number): Promise<void> {
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, "0")} 00000000:0000 0A`;
  while (!(await Bun.file("/proc/net/tcp").text()).includes(wanted)) await Bun.sleep(5);
}
