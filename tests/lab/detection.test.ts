/** A part of `bun run lab detect` on real kernels: each configuration once, and some with everything against it. */
import { describe, expect, test } from "bun:test";
import { CONFIGURATIONS } from "../nat/configurations.ts";
import { runDetections } from "./detection.ts";
import { summarise } from "./detection-report.ts";

const labEnabled = process.env["P2PD_LAB"] === "1";
const LIMIT_MS = 120_000;

describe.skipIf(!labEnabled)("detection", () => {
  test(
    "all 35 configurations are recognised, UDP and TCP",
    async () => {
      const runs = await runDetections({ servers: "good", loss: 0, seeds: [1] });
      console.log(`detection: ${summarise(runs).join("; ")}`);
      expect(runs.filter(({ wrong }) => wrong.length > 0)).toEqual([]);
      expect(runs.length).toBe(35);
    },
    LIMIT_MS,
  );

  test(
    "with 2 % loss, one server dead, one ignoring CHANGE-REQUEST and one lying, none is taken for more open than it is",
    async () => {
      // Each type, and each delta with one of them.
      const configurations = CONFIGURATIONS.filter((_, i) => i % 6 === 0 || i % 35 === 28);
      const runs = await runDetections({ servers: "bad", loss: 0.02, seeds: [1, 2, 3], configurations });
      console.log(`detection with bad servers: ${summarise(runs).join("; ")}`);
      expect(runs.filter(({ isTooOpen }) => isTooOpen)).toEqual([]);
      expect(runs.filter(({ wrong }) => wrong.length > 0).length).toBeLessThanOrEqual(1);
    },
    LIMIT_MS,
  );
});
