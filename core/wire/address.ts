/**
 * The address line: everything a peer must know to reach a node, in one word that is safe in a URL path and in a
 * shell. The format is in docs/address.md. Pure text; what the fields lead to is decided in `core/connect/`.
 *
 *     p2pd1~ID~MACHINE~BROKER,BROKER~NIC,NIC
 *     BROKER  SCHEME_HOST_PORT or SCHEME_HOST_PORT_PATH
 *     NIC     INDEX_FAMILY_EXTERNAL_ADDRESS_PORT_NAT_DELTA_VALUE
 */
import { P2pdError } from "../errors.ts";
import { canonicalIp, type Family, familyOf } from "../ip.ts";

export const ADDRESS_MAX_LENGTH = 4096;
export const ADDRESS_MAX_BROKERS = 8;
export const ADDRESS_MAX_NICS = 32;

export const ADDRESS_NAT_TYPES = [
  "unknown",
  "open-internet",
  "symmetric-firewall",
  "full-cone",
  "restricted",
  "port-restricted",
  "symmetric",
  "blocked",
] as const;
export type AddressNatType = (typeof ADDRESS_NAT_TYPES)[number];

export const ADDRESS_DELTA_TYPES = [
  "unknown",
  "not-applicable",
  "equal",
  "preserving",
  "independent",
  "dependent",
  "random",
] as const;
export type AddressDeltaType = (typeof ADDRESS_DELTA_TYPES)[number];

export const BROKER_SCHEMES = ["mqtt", "mqtts", "ws", "wss"] as const;

/** A signaling broker, without credentials: those are nobody else's business. */
export interface AddressBroker {
  readonly scheme: (typeof BROKER_SCHEMES)[number];
  /** Host name or IP address. */
  readonly host: string;
  readonly port: number;
  /** Of `ws` and `wss`: the path without its first slash; "" where there is none. */
  readonly path: string;
}

/** One address of a NIC at which the node listens. */
export interface AddressNic {
  /** Position of the NIC among those the node uses. */
  readonly index: number;
  readonly family: Family;
  /** Address the internet sees; absent while unknown. */
  readonly external?: string;
  /** The NIC's own address. */
  readonly address: string;
  /** TCP and UDP. */
  readonly port: number;
  readonly nat: AddressNatType;
  readonly delta: AddressDeltaType;
  /** In ports; may be negative. 0 where the delta has none. */
  readonly deltaValue: number;
}

export interface Address {
  /** Compressed P-256 public key in base64url, 44 characters. */
  readonly id: string;
  /** Salted hash: equal on two nodes of one machine. 11 characters of base64url. */
  readonly machine: string;
  readonly brokers: readonly AddressBroker[];
  readonly nics: readonly AddressNic[];
}

/** A field of an address line: where it stands, what it says, and what that means. */
export interface AddressField {
  /** `id`, `broker 1 host`, `nic 2 port`, … */
  readonly name: string;
  /** Of its first character, from 1. */
  readonly position: number;
  readonly text: string;
}

const VERSION = "p2pd1";
const SECTIONS = ["version", "id", "machine", "brokers", "nics"] as const;
const BROKER_FIELDS = ["scheme", "host", "port", "path"] as const;
const NIC_FIELDS = ["index", "family", "external", "address", "port", "nat", "delta", "value"] as const;
const NONE = "-";

/** Whether `text` has the form of a node id: base64url of 33 octets, the first of them 2 or 3. */
export function isNodeId(text: string): boolean {
  return /^A[g-z0-9_-][A-Za-z0-9_-]{42}$/.test(text);
}

/** The line. Throws `bad-argument` for values that the format cannot carry. */
export function encodeAddress(address: Address): string {
  const brokers = address.brokers.map(({ scheme, host, port, path }) =>
    [scheme, host, port, ...(path === "" ? [] : [path.replaceAll("/", ":")])].join("_"),
  );
  const nics = address.nics.map((nic) =>
    [
      nic.index,
      nic.family,
      nic.external ?? NONE,
      nic.address,
      nic.port,
      nic.nat,
      nic.delta,
      nic.deltaValue,
    ].join("_"),
  );
  const line = [VERSION, address.id, address.machine, brokers.join(",") || NONE, nics.join(",") || NONE].join(
    "~",
  );
  decodeAddress(line);
  return line;
}

/**
 * Reads a line. Throws `bad-argument` with `detail` {field, position, text, expected}: what is wrong is named,
 * with its position from 1, and what was expected there.
 */
export function decodeAddress(line: string): Address {
  return readAddress(line, () => {});
}

/** Every field of a line in its order. Throws like `decodeAddress`. */
export function addressFields(line: string): readonly AddressField[] {
  const fields: AddressField[] = [];
  readAddress(line, (field) => fields.push(field));
  return fields;
}

function readAddress(line: string, note: (field: AddressField) => void): Address {
  if (line.length > ADDRESS_MAX_LENGTH) {
    fail(
      { name: "line", position: 1, text: line.slice(0, 16) },
      `at most ${ADDRESS_MAX_LENGTH} characters, not ${line.length}`,
    );
  }
  const stray = /[^A-Za-z0-9.:,~_-]/.exec(line);
  if (stray !== null) {
    fail({ name: "line", position: stray.index + 1, text: stray[0] }, "only A-Z a-z 0-9 . : , ~ _ -");
  }
  const sections = split({ name: "line", position: 1, text: line }, "~", SECTIONS);
  const [version, id, machine, brokerList, nicList] = sections as [
    AddressField,
    AddressField,
    AddressField,
    AddressField,
    AddressField,
  ];
  if (version.text !== VERSION) fail(version, `the version ${VERSION}, the only one this program knows`);
  if (sections.length > SECTIONS.length)
    fail(sections[SECTIONS.length] as AddressField, "nothing after the NICs");
  if (!isNodeId(id.text)) fail(id, "a node id: 44 characters of base64url that carry a compressed P-256 key");
  if (!/^[A-Za-z0-9_-]{11}$/.test(machine.text)) fail(machine, "a machine id: 11 characters of base64url");
  for (const section of [version, id, machine]) note(section);
  const brokers = list(brokerList, "broker", ADDRESS_MAX_BROKERS).map((item) => readBroker(item, note));
  const nics = list(nicList, "nic", ADDRESS_MAX_NICS).map((item) => readNic(item, note));
  return { id: id.text, machine: machine.text, brokers, nics };
}

function readBroker(item: AddressField, note: (field: AddressField) => void): AddressBroker {
  const fields = split(
    item,
    "_",
    ["scheme", "host", "port"],
    (index) => BROKER_FIELDS[index] ?? `field ${index + 1}`,
  );
  const [scheme, host, port, path, more] = fields as [
    AddressField,
    AddressField,
    AddressField,
    AddressField?,
    AddressField?,
  ];
  if (!isOneOf(BROKER_SCHEMES, scheme.text)) fail(scheme, `one of ${BROKER_SCHEMES.join(", ")}`);
  const isName =
    /^(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(host.text) && !host.text.includes("..");
  if (!isName && canonicalIp(host.text) !== host.text) fail(host, "a host name or an IP address");
  const portNumber = integer(port, 1, 65535);
  if (path !== undefined && !/^[A-Za-z0-9.-]+(:[A-Za-z0-9.-]+)*$/.test(path.text)) {
    fail(path, "a path of A-Z a-z 0-9 . - with a colon for each slash");
  }
  if (path !== undefined && !scheme.text.startsWith("ws")) fail(path, `no path after ${scheme.text}`);
  if (more !== undefined) fail(more, "nothing after the path");
  for (const field of fields) note(field);
  return {
    scheme: scheme.text,
    host: host.text,
    port: portNumber,
    path: path?.text.replaceAll(":", "/") ?? "",
  };
}

function readNic(item: AddressField, note: (field: AddressField) => void): AddressNic {
  const fields = split(item, "_", NIC_FIELDS);
  if (fields.length > NIC_FIELDS.length)
    fail(fields[NIC_FIELDS.length] as AddressField, "nothing after the delta's value");
  const at = (name: (typeof NIC_FIELDS)[number]): AddressField =>
    fields[NIC_FIELDS.indexOf(name)] as AddressField;
  const family = familyNamed(at("family"));
  const external = at("external").text === NONE ? undefined : ipOf(at("external"), family);
  const nat = at("nat").text;
  if (!isOneOf(ADDRESS_NAT_TYPES, nat)) fail(at("nat"), `one of ${ADDRESS_NAT_TYPES.join(", ")}`);
  const delta = at("delta").text;
  if (!isOneOf(ADDRESS_DELTA_TYPES, delta)) fail(at("delta"), `one of ${ADDRESS_DELTA_TYPES.join(", ")}`);
  const nic = {
    index: integer(at("index"), 0, 65535),
    family,
    address: ipOf(at("address"), family),
    port: integer(at("port"), 1, 65535),
    nat,
    delta,
    deltaValue: integer(at("value"), -65535, 65535),
  };
  for (const field of fields) note(field);
  return external === undefined ? nic : { ...nic, external };
}

function familyNamed(field: AddressField): Family {
  if (field.text === "4") return 4;
  if (field.text === "6") return 6;
  return fail(field, "the family 4 or 6");
}

function ipOf(field: AddressField, family: Family): string {
  const ip = canonicalIp(field.text);
  if (ip !== field.text || familyOf(ip) !== family) {
    fail(
      field,
      `an IPv${family} address in its canonical spelling${ip === undefined ? "" : ` (perhaps ${ip})`}`,
    );
  }
  return ip;
}

function integer(field: AddressField, lowest: number, highest: number): number {
  const value = /^(0|-?[1-9][0-9]{0,5})$/.test(field.text) ? Number(field.text) : Number.NaN;
  if (!(value >= lowest && value <= highest)) fail(field, `a whole number from ${lowest} to ${highest}`);
  return value;
}

/** Items of a list, numbered from 1; a single hyphen stands for none. */
function list(section: AddressField, name: string, maximum: number): readonly AddressField[] {
  if (section.text === NONE) return [];
  const items = split(section, ",", [], (index) => `${name} ${index + 1}`);
  if (items.length > maximum) fail(items[maximum] as AddressField, `at most ${maximum} ${name}s`);
  return items;
}

/** Parts between separators with their positions; throws unless each of `names` has one. */
function split(
  whole: AddressField,
  separator: string,
  names: readonly string[],
  nameOf = (index: number): string => names[index] ?? `field ${index + 1}`,
): readonly AddressField[] {
  const prefix = separator === "_" ? `${whole.name} ` : "";
  let position = whole.position;
  const parts = whole.text.split(separator).map((text, index) => {
    const part = { name: `${prefix}${nameOf(index)}`, position, text };
    position += text.length + 1;
    return part;
  });
  for (const part of parts) if (part.text === "") fail(part, "something between the separators");
  if (parts.length < names.length) {
    const missing = `${prefix}${nameOf(parts.length)}`;
    const end = { name: missing, position: whole.position + whole.text.length, text: "" };
    if (whole.name === "line" && parts[0]?.text !== VERSION) {
      fail(parts[0] as AddressField, `an address line, which begins with ${VERSION}~`);
    }
    fail(end, `the field "${missing}", but the text ends here`);
  }
  return parts;
}

function isOneOf<T extends string>(values: readonly T[], text: string): text is T {
  return (values as readonly string[]).includes(text);
}

function fail(field: AddressField, expected: string): never {
  const shown = field.text.length > 60 ? `${field.text.slice(0, 60)}…` : field.text;
  throw new P2pdError(
    "bad-argument",
    `address, ${field.name} at character ${field.position}: expected ${expected}, found ${shown === "" ? "nothing" : JSON.stringify(shown)}`,
    { field: field.name, position: field.position, text: shown, expected },
  );
}
