/**
 * Host names to addresses. The asynchronous resolver comes first, so that a slow name server holds no
 * thread that others need; the system's own is asked when that finds nothing (mDNS, local databases).
 */
import { P2pdError } from "../errors.ts";
import { canonicalIp, type Family, familyOf } from "../ip.ts";

/** See `World.lookup`. IPv4 and IPv6 addresses as the resolver orders them, each once. */
export async function lookup(host: string, family?: Family): Promise<readonly string[]> {
  const literal = canonicalIp(host.startsWith("[") && host.endsWith("]") ? host.slice(1, -1) : host);
  if (literal !== undefined) {
    if (family === undefined || familyOf(literal) === family) return [literal];
    throw new P2pdError("unreachable", `${host} is not an IPv${family} address`);
  }
  if (host === "" || host.length > 253) {
    throw new P2pdError(
      "unreachable",
      `"${host.slice(0, 64)}" is no host name: expected 1 to 253 characters`,
    );
  }
  let cause: unknown;
  for (const backend of ["c-ares", "system"] as const) {
    try {
      const found = await Bun.dns.lookup(host, { backend, ...(family === undefined ? {} : { family }) });
      const ips = found.map(({ address }) => canonicalIp(address)).filter((ip) => ip !== undefined);
      const wanted = ips.filter((ip) => family === undefined || familyOf(ip) === family);
      if (wanted.length > 0) return [...new Set(wanted)];
    } catch (thrown) {
      cause = thrown;
    }
  }
  const version = family === undefined ? "" : ` IPv${family}`;
  throw new P2pdError("unreachable", `no${version} address was found for the host "${host}"`, {}, { cause });
}
