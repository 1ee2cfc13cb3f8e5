/** STUN server addresses as people write and mistype them. */
import { expect, test } from "bun:test";
import { formatStunServer, parseStunServer, type StunServer } from "../../../core/stun/server-url.ts";

test.each<[string, StunServer]>([
  ["stun:stun.example.org", { host: "stun.example.org", port: 3478 }],
  ["STUN:Stun.Example.org:19302", { host: "stun.example.org", port: 19_302 }],
  ["stun:192.0.2.7:1", { host: "192.0.2.7", port: 1 }],
  ["stun:[2001:DB8:0::1]", { host: "2001:db8::1", port: 3478 }],
  ["stun:[2001:db8::1]:65535?transport=tcp", { host: "2001:db8::1", port: 65_535, transport: "tcp" }],
  ["stun:a_b?transport=UDP", { host: "a_b", port: 3478, transport: "udp" }],
])("%s is read, and read again as it is written", (text, server) => {
  expect(parseStunServer(text)).toEqual(server);
  expect(parseStunServer(formatStunServer(server))).toEqual(server);
});

test.each([
  ["stuns:example.org", "STUN over TLS is not spoken here"],
  ["example.org:3478", "does not begin with stun:"],
  ["", "does not begin with stun:"],
  ["stun://example.org", "has no // in it"],
  ["stun:", "no host name"],
  ["stun:2001:db8::1", "IPv6 addresses stand in brackets"],
  ["stun:[192.0.2.1]", "no host name and no address"],
  ["stun:192.0.2.300", "no host name and no address"],
  ["stun:a..b", "no host name and no address"],
  ["stun:example.org:", "no port"],
  ["stun:example.org:0", "no port"],
  ["stun:example.org:65536", "no port"],
  ["stun:example.org?transport=sctp", "is not understood"],
  ["stun:example.org?transport=udp?x", "is not understood"],
  [`stun:${"a".repeat(64)}`, "no host name and no address"],
  [`stun:${"a-".repeat(5000)}!`, "no host name and no address"],
])("%p is refused, and the error says why", (text, why) => {
  expect(() => parseStunServer(text)).toThrow(why);
});
