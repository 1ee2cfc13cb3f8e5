/**
 * The program `p2pd`: what its command line offers, and how it ends. What a command does is in the file of its
 * name, which is loaded when the command is asked for.
 */
import { Command, CommanderError, Option } from "commander";
import { type P2pdError, toP2pdError } from "../../core/errors.ts";
import {
  CONFIG_KEYS,
  CONFIG_NAMES,
  type ConfigName,
  defaultText,
  flagName,
  isOfInfra,
} from "../../core/node/config.ts";
import { suggestion } from "../../core/node/suggestion.ts";
import manifest from "../../package.json" with { type: "json" };
import type { Settings } from "./settings.ts";
import type { Terminal } from "./terminal.ts";

/** What a script reads of how a command went. */
const EXIT = { done: 0, failed: 1, usage: 2 } as const;

/**
 * Runs the program with the words after its name. Resolves with the exit code: 0 done, 1 failed, 2 the command
 * line or the configuration is wrong. A failure is one line on standard error.
 */
export async function runProgram(words: readonly string[], terminal: Terminal): Promise<number> {
  let debug = false;
  let code: number = EXIT.done;
  const program = createProgram(terminal, async (flags, run) => {
    debug = flags.logLevel === "debug";
    const { openSettings } = await import("./settings.ts");
    const settings = await openSettings(flags, terminal);
    debug = settings.config.logLevel === "debug";
    code = await run(settings);
  });
  try {
    await program.parseAsync(words, { from: "user" });
    return code;
  } catch (thrown) {
    if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? EXIT.done : EXIT.usage;
    const error = toP2pdError(thrown);
    terminal.complain(`p2pd: ${error.message.replaceAll(/\s*\n\s*/g, " ")}`);
    if (debug) terminal.complain(stackOf(error));
    return error.code === "configuration" ? EXIT.usage : EXIT.failed;
  }
}

type Flags = Readonly<Partial<Record<ConfigName, string>>>;
type Start = (flags: Flags, run: (settings: Settings) => Promise<number>) => Promise<void>;

function createProgram(terminal: Terminal, start: Start): Command {
  const program = new Command("p2pd");
  program
    .description("A connection between any two programs, whatever routers stand between them.")
    .usage("[flags] [command]")
    .version(manifest.version, "-V, --version", "show the version")
    .helpOption("-h, --help", "show this help")
    .helpCommand(false)
    .exitOverride()
    .configureHelp({ helpWidth: terminal.columns })
    .configureOutput({
      writeOut: (text) => {
        terminal.print(text.trimEnd());
      },
      outputError: (text) => {
        terminal.complain(`p2pd: ${oneLine(text)}`);
      },
    })
    .addHelpText(
      "before",
      "Without a command, p2pd is the daemon: it answers on the API until it is stopped.\n",
    )
    .addHelpText(
      "after",
      "\nEach setting can also stand in p2pd.toml or the environment: apiPort is --api-port and P2PD_API_PORT." +
        "\nExit codes: 0 done, 1 failed, 2 the command line or the configuration is wrong.",
    );
  for (const name of CONFIG_NAMES) if (!isOfInfra(name)) program.addOption(optionOf(name));
  const act = (run: (settings: Settings) => Promise<number>) => start(program.opts<Flags>(), run);

  program.argument("[command...]").allowExcessArguments();
  program.action(async (rest: string[]) => {
    if (rest.length > 0) {
      const commands = program.commands.map((command) => command.name());
      program.error(`unknown command '${rest[0]}'${suggestion(rest[0] as string, commands)}`);
    }
    await act(async (settings) => (await import("./daemon.ts")).runDaemon(settings));
  });
  program
    .command("addr")
    .argument("[ADDR]", "address to explain")
    .description("show the node's address, or explain ADDR")
    .action((address?: string) =>
      act(async (settings) => (await import("./addr.ts")).runAddr(settings, address)),
    );
  program
    .command("id")
    .description("show the node's id")
    .action(() => act(async (settings) => (await import("./id.ts")).runId(settings)));
  program
    .command("nat")
    .option("--json", "as JSON")
    .description("show what your network is and what will work")
    .action(({ json = false }: { json?: boolean }) =>
      act(async (settings) => (await import("./nat.ts")).runNat(settings, json)),
    );
  program
    .command("open")
    .argument("<NAME>", "name that the connection shall have")
    .argument("<ADDR>", "address or id of the peer, or self")
    .option("--service <name>", "the peer's service to open")
    .description("let the daemon open a connection")
    .action((name: string, address: string, { service }: { service?: string }) =>
      act(async (settings) => (await import("./open.ts")).runOpen(settings, name, address, service)),
    );
  program
    .command("nc")
    .argument("<ADDR>", "address or id of the peer, or self")
    .option("--service <name>", "the peer's service to open")
    .description("join standard input and output with a peer")
    .action((address: string, { service }: { service?: string }) =>
      act(async (settings) => (await import("./nc.ts")).runNc(settings, address, service)),
    );
  program
    .command("forward")
    .argument("<LOCALPORT>", "TCP port of this machine; 0: any free one")
    .argument("<PEER>", "name, id or address of the peer")
    .argument("<SERVICE>", "the peer's service")
    .description("make a local port lead to a peer's service")
    .action((port: string, peer: string, service: string) =>
      act(async (settings) => (await import("./forward.ts")).runForward(settings, port, peer, service)),
    );
  program
    .command("offer")
    .argument("<NAME>", "name of the service")
    .argument("<IP:PORT>", "where it listens, 127.0.0.1:22")
    .option("--allow <ID...>", "ids of the peers that may use it; every peer by default")
    .description("offer a local TCP port to peers")
    .action((name: string, to: string, { allow }: { allow?: string[] }) =>
      act(async (settings) => (await import("./offer.ts")).runOffer(settings, name, to, allow)),
    );
  program
    .command("peers")
    .argument("[NAME]", "name in the address book")
    .argument("[ADDR]", "id or address to note under that name")
    .description("show the address book, or note a peer in it")
    .action((name?: string, address?: string) =>
      act(async (settings) => (await import("./peers.ts")).runPeers(settings, name, address)),
    );
  const infra = program
    .command("infra")
    .description("run a broker, STUN and TURN for your own nodes")
    .action(() =>
      start({ ...program.opts<Flags>(), ...infra.opts<Flags>() }, async (settings) =>
        (await import("./infra.ts")).runInfra(settings),
      ),
    );
  for (const name of CONFIG_NAMES) if (isOfInfra(name)) infra.addOption(optionOf(name));
  program
    .command("demo")
    .argument("[FILE]", "file to carry; one of random octets is made by default")
    .description("show two nodes and their servers at work, on this machine alone")
    .action((file?: string) => act(async (settings) => (await import("./demo.ts")).runDemo(settings, file)));
  program
    .command("portmap")
    .option("--refresh", "ask the routers anew first")
    .option("--json", "show the API's answer")
    .description("show the ports that routers forward to the daemon")
    .action(({ refresh = false, json = false }: { refresh?: boolean; json?: boolean }) =>
      act(async (settings) => (await import("./portmap.ts")).runPortmap(settings, refresh, json)),
    );
  for (const command of program.commands) {
    command
      .copyInheritedSettings(program)
      .allowExcessArguments(false)
      .addHelpText("after", "\nThe flags of `p2pd --help` may be given as well.");
  }
  return program;
}

function optionOf(name: ConfigName): Option {
  const key = CONFIG_KEYS[name];
  const shown = defaultText(key);
  const help = shown.length > 45 || key.fallback === undefined ? key.help : `${key.help} (${shown})`;
  return new Option(`${flagName(name)} <${PLACEHOLDERS[key.shape]}>`, help);
}

const PLACEHOLDERS = { text: "text", integer: "number", switch: "on|off", list: "list" } as const;

/** Commander says `error: text` and puts what it suggests on a line of its own. */
function oneLine(text: string): string {
  return text
    .replace(/^error: /, "")
    .trim()
    .replaceAll(/\s*\n\s*/g, " ");
}

function stackOf(error: P2pdError): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${error.cause.stack ?? error.cause.message}` : "";
  return `${error.stack ?? error.message}${cause}`;
}
