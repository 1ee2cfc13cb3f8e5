/**
 * The XML of UPnP: a device's description, read for the services that open ports, and SOAP calls with their answers
 * (UPnP Device Architecture 1.1, sections 2 and 3). Which calls are made is decided in `core/portmap/`.
 */
import { childText, findElement, readXml, type XmlElement } from "./xml.ts";

export interface UpnpService {
  /** `urn:schemas-upnp-org:service:WANIPConnection:1` */
  readonly type: string;
  /** Path or URL as the description has it. */
  readonly controlUrl: string;
}

export interface UpnpDescription {
  /** What relative URLs are relative to; "" where the description's own URL is. */
  readonly base: string;
  /** Manufacturer and model, for people. */
  readonly device: string;
  readonly services: readonly UpnpService[];
}

export type SoapAnswer =
  | { readonly kind: "values"; readonly values: Readonly<Record<string, string>> }
  | { readonly kind: "fault"; readonly code: number; readonly text: string };

/** Reads a description; a text that says what is wrong if it is none. */
export function decodeUpnpDescription(text: string): UpnpDescription | string {
  const root = readXml(text);
  if (typeof root === "string") return root;
  const device = findElement(root, "device");
  if (device === undefined) return "it describes no device";
  const services: UpnpService[] = [];
  collectServices(root, services);
  const names = ["manufacturer", "modelName"].map((name) => childText(device, name));
  return { base: childText(root, "URLBase"), device: visible(names.join(" ")), services };
}

/** The body of a call. Names and values become elements in their order, as routers insist. */
export function encodeSoapCall(
  service: string,
  action: string,
  values: readonly (readonly [name: string, value: string | number])[],
): string {
  const inner = values.map(([name, value]) => `<${name}>${escapeXml(String(value))}</${name}>`).join("");
  return (
    '<?xml version="1.0"?>\r\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" ' +
    's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>' +
    `<u:${action} xmlns:u="${escapeXml(service)}">${inner}</u:${action}></s:Body></s:Envelope>\r\n`
  );
}

/** Reads the answer to a call of `action`; a text that says what is wrong if it is none. */
export function decodeSoapAnswer(text: string, action: string): SoapAnswer | string {
  const root = readXml(text);
  if (typeof root === "string") return root;
  const fault = findElement(root, "UPnPError");
  if (fault !== undefined) {
    const code = childText(fault, "errorCode");
    if (!/^[0-9]{1,4}$/.test(code)) return "it is a fault without a number";
    return { kind: "fault", code: Number(code), text: visible(childText(fault, "errorDescription")) };
  }
  const answer = findElement(root, `${action}Response`);
  if (answer === undefined) return `it is no answer to ${action}`;
  const values = Object.fromEntries(answer.children.map(({ name, text: value }) => [name, value]));
  return { kind: "values", values };
}

function collectServices(element: XmlElement, services: UpnpService[]): void {
  if (element.name === "service") {
    const type = childText(element, "serviceType");
    const controlUrl = childText(element, "controlURL");
    if (/^[\x21-\x7e]{1,256}$/.test(type) && controlUrl !== "") services.push({ type, controlUrl });
    return;
  }
  for (const child of element.children) collectServices(child, services);
}

/** A router's words are shown to people. */
function visible(text: string): string {
  return text
    .replaceAll(/[\p{Cc}\s]+/gu, " ")
    .trim()
    .slice(0, 100);
}

function escapeXml(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}
