import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  CONFIG_KEYS,
  CONFIG_NAMES,
  type ConfigName,
  defaultText,
  environmentName,
  flagName,
} from "../../../core/node/config.ts";

const page = readFileSync(join(import.meta.dir, "../../../docs/configuration.md"), "utf8");

test("docs/configuration.md has the table's settings, all of them, in its order", () => {
  const rows = page.split("\n").filter((line) => line.startsWith("| `"));
  expect(rows).toEqual(CONFIG_NAMES.map(row));
});

test("a setting is one name in three spellings", () => {
  expect(environmentName("relayAfterMs")).toBe("P2PD_RELAY_AFTER_MS");
  expect(flagName("relayAfterMs")).toBe("--relay-after-ms");
});

function row(name: ConfigName): string {
  const key = CONFIG_KEYS[name];
  const cell = (text: string): string =>
    text.replaceAll("|", "\\|").replaceAll(",", ", ").replaceAll(",  ", ", ");
  const standing = key.fallback === undefined ? cell(defaultText(key)) : `\`${cell(defaultText(key))}\``;
  const spellings = `\`${name}\` | \`${environmentName(name)}\` | \`${flagName(name)}\``;
  return `| ${spellings} | ${cell(key.expects)} | ${standing} | ${cell(key.help)} |`;
}
