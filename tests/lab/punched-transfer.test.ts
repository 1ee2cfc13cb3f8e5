import { expect, test } from "bun:test";
import { describeTransfer, transferPunched } from "./punched-transfer.ts";

const labEnabled = process.env["P2PD_LAB"] === "1";

for (const transport of ["udp", "tcp"] as const) {
  test.skipIf(!labEnabled)(
    `a pipe that was punched over ${transport} carries 16 MiB there and back whole though one packet in a hundred is lost`,
    async () => {
      const options = { transport, mib: 16, loss: 0.01 };
      const transfer = await transferPunched(options);
      process.stderr.write(`${describeTransfer(options, transfer)}\n`);
      expect(transfer).toMatchObject({ path: `punch/${transport}`, isEqual: true });
    },
    300_000,
  );
}
