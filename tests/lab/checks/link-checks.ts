/**
 * What crossing a NAT box costs: delay within two milliseconds, jitter, loss, order, and throughput. These
 * checks return the figures they measured.
 */
import { INTERNET } from "../../nat/topologies.ts";
import { openUdp } from "../bare-sockets.ts";
import type { Lab } from "../laboratory.ts";
import { setNice } from "../syscalls.ts";
import { expectSame, expectThat, settingsWith } from "./check.ts";
import type { Check } from "./check.ts";
import { freshPort } from "./probe.ts";

const ARRIVES_MS = 2000;

/** Milliseconds one way out and one way in of `count` packets. */
function oneWay(lab: Lab, count: number): { out: number[]; in: number[] } {
  const alice = lab.host("alice");
  using outer = openUdp(lab.internet, { ip: INTERNET.serverIp4(20), port: freshPort() });
  using inner = openUdp(alice.namespace, { ip: alice.ip4, port: freshPort() });
  const times = { out: [] as number[], in: [] as number[] };
  const nice = setNice(-15);
  for (let i = 0; i < count; i++) {
    const left = performance.now();
    inner.send(outer.local, "tick");
    const seen = outer.receive(ARRIVES_MS);
    const arrived = performance.now();
    if (seen === undefined) continue;
    outer.send(seen.from, "tock");
    inner.receive(ARRIVES_MS);
    times.out.push(arrived - left);
    times.in.push(performance.now() - arrived);
  }
  setNice(nice);
  return times;
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

export const delay: Check = {
  name: "delay is within 2 ms of what was set, each way",
  async run(lab, fault) {
    const figures: string[] = [];
    for (const delayMs of [0, 10, 50]) {
      await lab.router("a").set(settingsWith({ link: { delayMs } }), fault);
      oneWay(lab, 3);
      const times = oneWay(lab, 15);
      for (const way of ["out", "in"] as const) {
        const [least, middle] = [Math.min(...times[way]), median(times[way])];
        figures.push(`${delayMs} ms ${way}: ${middle.toFixed(2)}`);
        expectThat(
          least >= delayMs && middle <= delayMs + 2,
          `${delayMs} ms ${way}: least ${least}, median ${middle}`,
        );
      }
    }
    return figures.join(", ");
  },
};

const jitter: Check = {
  name: "jitter spreads the delay over its range",
  async run(lab, fault) {
    await lab.router("a").set(settingsWith({ link: { delayMs: 5, jitterMs: 20 } }), fault);
    const times = oneWay(lab, 40);
    const all = [...times.out, ...times.in].toSorted((a, b) => a - b);
    expectThat((all[0] ?? 0) >= 5 && (all[2] ?? 99) < 12, `least delays are ${all.slice(0, 3).join(", ")}`);
    expectThat(
      (all.at(-3) ?? 0) > 18 && median(all) > 10 && median(all) < 20,
      `median ${median(all)}, most ${all.at(-1)}`,
    );
    return undefined;
  },
};

export const loss: Check = {
  name: "loss is the share that was set, and what is not lost keeps its order",
  async run(lab, fault) {
    await lab.router("a").set(settingsWith({ link: { delayMs: 5, loss: 0.2 } }), fault);
    const alice = lab.host("alice");
    using outer = openUdp(lab.internet, { ip: INTERNET.serverIp4(20), port: freshPort() });
    using inner = openUdp(alice.namespace, { ip: alice.ip4, port: freshPort() });
    const arrived: number[] = [];
    for (let batch = 0; batch < 10; batch++) {
      for (let i = 0; i < 60; i++) inner.send(outer.local, String(batch * 60 + i));
      for (let got = outer.receive(60); got !== undefined; got = outer.receive(30))
        arrived.push(Number(got.text));
    }
    const lost = 1 - arrived.length / 600;
    expectThat(lost > 0.14 && lost < 0.26, `20 % were to be lost, ${(lost * 100).toFixed(1)} % were`);
    expectSame(
      "order",
      arrived,
      arrived.toSorted((a, b) => a - b),
    );
    return undefined;
  },
};

const throughput: Check = {
  name: "TCP through one box carries at least 300 Mbit/s each way",
  async run(lab, fault) {
    await lab.router("a").set(settingsWith({}), fault);
    const alice = lab.host("alice");
    const server = INTERNET.serverIp4(19);
    const iperf = await lab.servers.start("iperf3", ["iperf3", "-s", "-B", server], () =>
      lab.servers.listensTcp(5201),
    );
    const figures: string[] = [];
    for (const [way, ...flags] of [["out"], ["in", "-R"]] as const) {
      const { code, stdout, stderr } = await alice.run(["iperf3", "-c", server, "-t", "3", "-J", ...flags]);
      expectThat(code === 0, `iperf3: ${stdout}${stderr}`);
      const report = JSON.parse(stdout) as { end: { sum_received: { bits_per_second: number } } };
      const megabits = report.end.sum_received.bits_per_second / 1e6;
      figures.push(`${way} ${megabits.toFixed(0)} Mbit/s`);
      expectThat(megabits >= 300, `${way}: ${megabits.toFixed(0)} Mbit/s`);
    }
    await iperf.kill();
    return figures.join(", ");
  },
};

export const LINK_CHECKS: readonly Check[] = [delay, jitter, loss, throughput];
