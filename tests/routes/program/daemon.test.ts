/** What the daemon tells on its terminal as it learns of its network. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runProgram } from "../../../routes/program/program.ts";
import { startAedes } from "../../core/signal/brokers.ts";
import { testTerminal } from "./test-terminal.ts";

const top = mkdtempSync(join(tmpdir(), "p2pd-daemon-"));

afterAll(() => rmSync(top, { recursive: true, force: true }));

test("it tells when its broker is connected and when it is lost, once each, and counts nothing aloud", async () => {
  const broker = await startAedes();
  const terminal = testTerminal(top, { P2PD_API_PORT: "0", P2PD_MQTT_BROKERS: broker.url });
  const ended = runProgram([], terminal);
  await terminal.line(/^brokers: 1 of 1 connected$/);
  await broker.close();
  await terminal.line(/^brokers: none of 1 connected; opening by id/);
  terminal.terminate();
  expect(await ended).toBe(0);
  const told = terminal.printed.map((line) => /^(.*?): /.exec(line)?.[1] ?? "");
  expect(told.filter((part) => part === "brokers")).toHaveLength(2);
  expect(told.filter((part) => /^(incoming|signals|broker mqtt.*)$/.test(part))).toEqual([]);
  // That the broker speaks MQTT 3.1.1 alone is nothing to complain of.
  expect(terminal.complaints.filter((line) => line.includes("protocol version"))).toEqual([]);
});
