/** SSDP, descriptions and SOAP against what miniupnpd answered, and against hostile documents. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { decodeHttpAnswer } from "../../../core/wire/http-answer.ts";
import { decodeSsdpAnswer, encodeSsdpSearch } from "../../../core/wire/ssdp.ts";
import { decodeSoapAnswer, decodeUpnpDescription, encodeSoapCall } from "../../../core/wire/upnp.ts";
import { readXml } from "../../../core/wire/xml.ts";
import recorded from "../../vectors/miniupnpd.json" with { type: "json" };

const octets = (text: string): Uint8Array => new TextEncoder().encode(text);
const bodyOf = (answer: string): string => answer.slice(answer.indexOf("\r\n\r\n") + 4);
const recordedBody = (name: string): string =>
  bodyOf(recorded.http.find((vector) => vector.name === name)?.answer ?? "");

describe("SSDP", () => {
  const vector = recorded.ssdp[0] as (typeof recorded.ssdp)[number];

  test("a search and its answer are those of miniupnpd", () => {
    const target = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";
    const search = encodeSsdpSearch({ ip: "192.168.10.1", port: 1900 }, target);
    expect(new TextDecoder().decode(search)).toBe(vector.request);
    const answer = decodeSsdpAnswer(octets(vector.answer));
    expect(answer).toEqual({ target, location: "http://192.168.10.1:40429/rootDesc.xml" });
  });

  test("the search of an IPv6 group has its address in brackets", () => {
    const text = new TextDecoder().decode(encodeSsdpSearch({ ip: "ff02::c", port: 1900 }, "x"));
    expect(text).toContain("HOST: [ff02::c]:1900\r\n");
  });

  test("requests, errors, answers without a location, and what is too long are none", () => {
    expect(decodeSsdpAnswer(octets(vector.request))).toBeUndefined();
    expect(decodeSsdpAnswer(octets(vector.answer.replace("200 OK", "404 Not Found")))).toBeUndefined();
    expect(decodeSsdpAnswer(octets(vector.answer.replace("LOCATION", "ELSEWHERE")))).toBeUndefined();
    expect(decodeSsdpAnswer(octets(vector.answer + "x".repeat(2048)))).toBeUndefined();
    expect(decodeSsdpAnswer(octets("HTTP/1.1 200 OK\r\n\r\nST: a\r\nLOCATION: b"))).toBeUndefined();
  });

  test("random octets and every truncation never throw", () => {
    const whole = octets(vector.answer);
    for (let length = 0; length < whole.length; length++) decodeSsdpAnswer(whole.subarray(0, length));
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => void decodeSsdpAnswer(bytes)));
  });
});

describe("descriptions", () => {
  test("that of miniupnpd names the services that open ports", () => {
    const description = decodeUpnpDescription(recordedBody("description"));
    if (typeof description === "string") throw new Error(description);
    expect(description).toMatchObject({ base: "", device: "Debian Debian router" });
    expect(description.services.map(({ type }) => type.replace(/^.*service:/, ""))).toEqual([
      "Layer3Forwarding:1",
      "DeviceProtection:1",
      "WANCommonInterfaceConfig:1",
      "WANIPConnection:2",
      "WANIPv6FirewallControl:1",
    ]);
    expect(description.services.every(({ controlUrl }) => controlUrl.startsWith("/ctl/"))).toBe(true);
  });

  test.each([
    ["an entity bomb", bomb(), "document type"],
    ["an external entity", '<!DOCTYPE a SYSTEM "http://192.0.2.1/x"><a/>', "document type"],
    ["an unknown entity", "<root><device>&bomb;</device></root>", "no XML"],
    ["a deep document", "<a>".repeat(5000), "nests"],
    ["a wide document", `<root>${"<a/>".repeat(3000)}</root>`, "elements"],
    ["a long document", `<root>${" ".repeat(140_000)}</root>`, "characters"],
    ["a page", "<html><p>Please log in</html>", "no XML"],
    ["nothing", "", "no XML"],
    ["no device", "<root><specVersion/></root>", "no device"],
  ])("%s is refused, and why is said", (_name, text, why) => {
    expect(decodeUpnpDescription(text)).toContain(why);
  });

  test("routers that end a document with what their buffers held are read", () => {
    const text = "\ufeff\n<root><device><modelName>M</modelName></device></root>\0\0\n";
    expect(decodeUpnpDescription(text)).toEqual({ base: "", device: "M", services: [] });
  });

  test("any text is read or refused in words, in bounded time", () => {
    const piece = fc.constantFrom(
      "<a>",
      "</a>",
      "<b/>",
      "&lt;",
      "<!--",
      "-->",
      "<![CDATA[",
      "]]>",
      "x",
      "<",
      ">",
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 60 }), (pieces) => {
        const read = readXml(pieces.join(""));
        expect(typeof read === "string" ? read.length > 0 : read.name.length > 0).toBe(true);
      }),
    );
    const began = performance.now();
    for (const text of ["<".repeat(131_000), "<!--".repeat(32_000), "<a b='".repeat(20_000)]) readXml(text);
    expect(performance.now() - began).toBeLessThan(2000);
  });
});

describe("SOAP", () => {
  test.each([
    ["external address", { kind: "values", values: { NewExternalIPAddress: "5.44.10.10" } }],
    ["any port", { kind: "values", values: { NewReservedPort: "20005" } }],
    ["deleted", { kind: "values", values: {} }],
    ["no such entry", { kind: "fault", code: 714, text: "NoSuchEntryInArray" }],
    ["unknown action", { kind: "fault", code: 401, text: "Invalid Action" }],
    ["firewall status", { kind: "values", values: { FirewallEnabled: "1", InboundPinholeAllowed: "1" } }],
  ])("%s, as miniupnpd answered", (name, meaning) => {
    const { action = "" } = recorded.http.find((vector) => vector.name === name) ?? {};
    expect(decodeSoapAnswer(recordedBody(name), action)).toEqual(meaning as never);
  });

  test("an answer to something else, and a fault without a number, are none", () => {
    expect(decodeSoapAnswer(recordedBody("any port"), "AddPortMapping")).toContain("no answer");
    const fault = recordedBody("no such entry").replace("714", "many");
    expect(decodeSoapAnswer(fault, "X")).toContain("without a number");
  });

  test("values cannot break out of a call", () => {
    const call = encodeSoapCall("urn:x:1", "Do", [["Text", '</Text><Evil a="&">']]);
    const read = readXml(call);
    expect(typeof read === "string" ? read : read.text).toBe('</Text><Evil a="&">');
  });

  test("a router's words come without control characters, and short", () => {
    const fault = recordedBody("no such entry").replace("NoSuchEntryInArray", `a\tb${"c".repeat(500)}`);
    const read = decodeSoapAnswer(fault, "X");
    expect(typeof read === "object" && read.kind === "fault" && read.text).toBe(`a b${"c".repeat(97)}`);
  });
});

describe("HTTP answers", () => {
  test("those of miniupnpd are read whole, and need every octet", () => {
    for (const { answer } of recorded.http) {
      const whole = octets(answer);
      expect(decodeHttpAnswer(whole, false)).toMatchObject({ body: octets(bodyOf(answer)) });
      for (let length = 0; length < whole.length; length += 7)
        expect(decodeHttpAnswer(whole.subarray(0, length), false)).toBeUndefined();
    }
  });

  test("chunks, a body that ends with the connection, and a 100 before it are read", () => {
    const chunked =
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
    expect(text(decodeHttpAnswer(octets(chunked), false))).toBe("abcde");
    expect(text(decodeHttpAnswer(octets("HTTP/1.0 200\r\n\r\nabc"), true))).toBe("abc");
    expect(
      text(
        decodeHttpAnswer(
          octets("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length:1\r\n\r\nab"),
          false,
        ),
      ),
    ).toBe("a");
    expect(text(decodeHttpAnswer(octets("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), true))).toBe(
      "abc",
    );
  });

  test.each([
    ["no HTTP", "SSH-2.0\r\n\r\n", "no HTTP"],
    ["a head without end", "HTTP/1.1 200 OK\r\n" + "a: b\r\n".repeat(2000), "head"],
    ["a body that is announced too long", "HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n", "131072"],
    ["a body that comes too long", `HTTP/1.1 200 OK\r\n\r\n${"x".repeat(132_000)}`, "131072"],
    ["a length that is no number", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "no number"],
    ["a chunk that is no number", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "no number"],
    ["a chunk too long", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n", "131072"],
  ])("%s is refused", (_name, answer, why) => {
    expect(decodeHttpAnswer(octets(answer), false)).toContain(why);
  });

  test("random octets never throw", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        fc.boolean(),
        (bytes, ended) => void decodeHttpAnswer(bytes, ended),
      ),
    );
  });
});

function text(answer: ReturnType<typeof decodeHttpAnswer>): string {
  return typeof answer === "object" ? new TextDecoder().decode(answer.body) : String(answer);
}

/** Ten entities, each ten of the one before: 10^9 characters. */
function bomb(): string {
  const names = Array.from({ length: 10 }, (_, i) => `e${i}`);
  const entities = names.map((name, i) => `<!ENTITY ${name} "${i === 0 ? "x" : `&e${i - 1};`.repeat(10)}">`);
  return `<!DOCTYPE root [${entities.join("")}]><root><device>&e9;</device></root>`;
}
