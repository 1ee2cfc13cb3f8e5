/** What is known of one setting: a row of the tables in `config.ts` and `infra-keys.ts`. */

/** A setting as it stands in a TOML file, and as text from elsewhere becomes before it is checked. */
export type RawValue = string | number | boolean | readonly string[];

/** One row of the table. */
export interface ConfigKey<Value = unknown> {
  /** How text of the environment or a flag is taken: lists are separated by commas, switches are on or off. */
  readonly shape: "text" | "integer" | "switch" | "list";
  /** JSON Schema of the raw value. */
  readonly schema: object;
  /** What stands when no source says anything; absent: nothing does, or `defaultText` tells how it is found. */
  readonly fallback?: RawValue;
  readonly defaultText?: string;
  /** What a wrong value should have been, to follow "expected". */
  readonly expects: string;
  readonly example: string;
  readonly help: string;
  /** When the value holds a secret and is not shown: always, or where it names a user. */
  readonly secret?: "always" | "with-user";
  /** Turns a raw value that fits the schema, of a list each entry, into the value used; undefined: it is none. */
  readonly read?: (raw: never, base: string) => Value | undefined;
}
