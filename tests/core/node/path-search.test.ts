import { expect, test } from "bun:test";
import { PathSearch, RESUME_PLAN, UPGRADE_PLAN } from "../../../core/node/path-search.ts";
import { EventTime } from "./event-time.ts";

test("a lost path is sought at once, then at rising intervals up to 8 s", () => {
  const pauses = Array.from({ length: 8 }, (_, i) => RESUME_PLAN.pauseMs(i));
  expect(pauses).toEqual([0, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
});

test("a better path is sought after 1, 2, 4 to 60 s, then every five minutes", () => {
  const pauses = Array.from({ length: 9 }, (_, i) => UPGRADE_PLAN.pauseMs(i) / 1000);
  expect(pauses).toEqual([1, 2, 4, 8, 16, 32, 60, 300, 300]);
});

test("tries for a lost path run beside each other, three at most: the oldest is given up", async () => {
  const { search, time, log } = begin(RESUME_PLAN);
  search.begin();
  await time.run(7600);
  expect(log).toEqual([
    "0 begins",
    "500 begins",
    "1500 begins",
    "3500 stops",
    "3500 begins",
    "7500 stops",
    "7500 begins",
  ]);
});

test("tries for a better path follow each other, the pause begins when one has failed", async () => {
  const { search, time, log, fail } = begin(UPGRADE_PLAN);
  search.begin();
  await time.run(10_000);
  expect(log).toEqual(["1000 begins"]);
  fail();
  await time.run(2000);
  expect(log).toEqual(["1000 begins", "12000 begins"]);
});

test("one success ends the search and all other tries", async () => {
  const { search, time, log, succeed } = begin(RESUME_PLAN);
  search.begin();
  await time.run(600);
  succeed();
  await time.run(60_000);
  expect(log).toEqual(["0 begins", "500 begins", "600 stops"]);
  expect([search.isOn, time.pending]).toEqual([false, 0]);
});

test("a sign that the network is back brings a try at once and the short intervals again, but not twice", async () => {
  const { search, time, log } = begin(RESUME_PLAN);
  search.begin();
  await time.run(5000);
  log.length = 0;
  search.again();
  await time.run(100);
  search.again();
  await time.run(600);
  expect(log.filter((line) => line.endsWith("begins"))).toEqual(["5000 begins", "5500 begins"]);
});

test("a try for a better path that a sign brought is not given up for the one that was due next", async () => {
  const { search, time, log, fail } = begin(UPGRADE_PLAN);
  search.begin();
  await time.run(900);
  search.again();
  await time.run(5000);
  expect(log).toEqual(["900 begins"]);
  fail();
  await time.run(3000);
  expect(log).toEqual(["900 begins", "7900 begins"]);
});

test("a search that is not on is not begun by such a sign, and one that was stopped begins with its first pause", async () => {
  const { search, time, log } = begin(RESUME_PLAN);
  search.again();
  await time.run(1000);
  expect(log).toEqual([]);
  search.begin(2000);
  search.begin();
  search.stop();
  await time.run(5000);
  search.begin(2000);
  await time.run(2000);
  expect(log).toEqual(["8000 begins"]);
});

function begin(plan: typeof RESUME_PLAN) {
  const time = new EventTime();
  const log: string[] = [];
  const running: PromiseWithResolvers<void>[] = [];
  const search = new PathSearch(time, plan, (signal) => {
    const one = Promise.withResolvers<void>();
    running.push(one);
    log.push(`${time.now()} begins`);
    signal.addEventListener("abort", () => {
      log.push(`${time.now()} stops`);
      one.reject(new Error("stopped"));
    });
    return one.promise;
  });
  const last = (): PromiseWithResolvers<void> => running.at(-1) as PromiseWithResolvers<void>;
  return {
    search,
    time,
    log,
    fail: () => last().reject(new Error("failed")),
    succeed: () => last().resolve(),
  };
}
