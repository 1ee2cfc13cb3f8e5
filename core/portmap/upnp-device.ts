/**
 * One UPnP device: reads its description, finds the service that opens ports of one family, and makes SOAP calls to
 * it. Everything it names must be at its own address.
 */
import { P2pdError } from "../errors.ts";
import { formatEndpoint } from "../ip.ts";
import type { World } from "../net/world.ts";
import { decodeSoapAnswer, decodeUpnpDescription, encodeSoapCall, type UpnpService } from "../wire/upnp.ts";
import { callHttp } from "./http-call.ts";
import type { Place, PortmapCounters } from "./mapping.ts";
import { type Location, locationOf } from "./upnp-search.ts";

const CALL_TIMEOUT_MS = 1500;

/** In the order of preference. */
const SERVICES4 = ["WANIPConnection:2", "WANIPConnection:1", "WANPPPConnection:1"];
const SERVICES6 = ["WANIPv6FirewallControl:1"];

export interface UpnpDevice {
  readonly location: Location;
  /** The service that it speaks, `WANIPConnection:2`. */
  readonly service: string;
  /** Values of the answer. Rejects with `refused` (`detail.code` is UPnP's error) or as `callHttp`. */
  call(
    action: string,
    values?: readonly (readonly [name: string, value: string | number])[],
    options?: { readonly timeoutMs?: number; readonly signal?: AbortSignal },
  ): Promise<Readonly<Record<string, string>>>;
}

/** The services of a device that open ports, the best first. Rejects with `protocol`, `unsupported`, or as `callHttp`. */
export async function openUpnpDevice(
  world: World,
  place: Place,
  location: Location,
  counters: PortmapCounters,
  signal: AbortSignal,
): Promise<readonly UpnpDevice[]> {
  const where = `${formatEndpoint(location.at)}${location.path}`;
  const { at: to, path } = location;
  const answer = await callHttp(world, place, { to, path, timeoutMs: CALL_TIMEOUT_MS, signal }, counters);
  if (answer.status !== 200) throw new P2pdError("protocol", `${where} answers with status ${answer.status}`);
  const description = decodeUpnpDescription(new TextDecoder().decode(answer.body));
  if (typeof description === "string")
    throw new P2pdError("protocol", `the description at ${where}: ${description}`);
  const wanted = (place.family === 4 ? SERVICES4 : SERVICES6).map(
    (name) => `urn:schemas-upnp-org:service:${name}`,
  );
  const devices = wanted.flatMap((type) =>
    description.services
      .filter((service) => service.type === type)
      .flatMap((service) => deviceOf(world, place, location, service, description.base, counters)),
  );
  if (devices.length > 0) return devices;
  throw new P2pdError("unsupported", `${where} (${description.device}) has no service that opens ports`);
}

function deviceOf(
  world: World,
  place: Place,
  location: Location,
  service: UpnpService,
  base: string,
  counters: PortmapCounters,
): readonly UpnpDevice[] {
  const control = controlOf(location, service.controlUrl, base, place);
  if (control === undefined) return [];
  return [
    {
      location,
      service: service.type.replace(/^.*:service:/, ""),
      async call(action, values = [], { timeoutMs = CALL_TIMEOUT_MS, signal } = {}) {
        const body = encodeSoapCall(service.type, action, values);
        const soap = { action: `${service.type}#${action}`, body };
        const { at: to, path } = control;
        const answer = await callHttp(world, place, { to, path, soap, timeoutMs, signal }, counters);
        const read = decodeSoapAnswer(new TextDecoder().decode(answer.body), action);
        if (typeof read === "string")
          throw new P2pdError(
            "protocol",
            `${formatEndpoint(to)} to ${action}, status ${answer.status}: ${read}`,
          );
        if (read.kind === "values") return read.values;
        const text = `the router refuses ${action}: error ${read.code}${read.text === "" ? "" : ` (${read.text})`}`;
        throw new P2pdError("refused", text, { code: read.code });
      },
    },
  ];
}

/** Where the service is controlled: at the device's own address, or nowhere. */
function controlOf(location: Location, url: string, base: string, place: Place): Location | undefined {
  const own = `http://${formatEndpoint(location.at)}`;
  for (const against of [base, `${own}${location.path}`]) {
    const whole = URL.parse(url, against)?.href;
    const found = whole === undefined ? undefined : locationOf(whole, location.at.ip, place);
    if (found !== undefined && found.at.ip === location.at.ip) return found;
  }
  return undefined;
}
