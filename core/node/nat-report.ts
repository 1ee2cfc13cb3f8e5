/** The JSON forms of what is known of NATs, with P2PD's numbers beside the names. */
import { adviseNat, type AdviceSubject } from "../nat/advice.ts";
import type { NatDetection } from "../stun/detect-nat.ts";
import { DELTA_TYPE_NUMBERS, NAT_TYPE_NUMBERS, type NatKind, type NatProfile } from "../nat/nat-kind.ts";

/** What was found out for one NIC and family. */
export interface NatFinding {
  readonly nic: string;
  readonly family: 4 | 6;
  /** The NIC address that was asked from; it stands for the NIC's others. */
  readonly ip: string;
  /** Absent until something was measured. */
  readonly detection?: NatDetection;
  /** Why nothing could be measured. */
  readonly failure?: string;
}

/** One protocol, as `GET /p2p/nat` shows it. */
export interface NatKindDescription extends Omit<NatKind, "delta"> {
  readonly typeNumber: number;
  readonly delta: NatKind["delta"] & { readonly typeNumber: number };
}

export interface NatFamilyDescription {
  readonly family: 4 | 6;
  /** The NIC address that was asked from. */
  readonly address: string;
  readonly external: string | null;
  /** Null while nothing is known. */
  readonly nat: { readonly udp: NatKindDescription; readonly tcp: NatKindDescription } | null;
  readonly elapsedMs: number;
  readonly servers: { readonly asked: number; readonly answered: number };
  /** Why nothing is known. */
  readonly msg?: string;
}

export interface NatReport {
  readonly nics: readonly { readonly name: string; readonly families: readonly NatFamilyDescription[] }[];
  /** What follows, in words. */
  readonly advice: readonly string[];
}

/** The NAT of one NIC, as P2PD's `ifs` has it: the type of UDP, and each family's in full beside it. */
export interface NicNatDescription {
  readonly type: number;
  readonly nat_info: string;
  readonly delta: { readonly type: number; readonly value: number };
  readonly delta_info: string;
  readonly families: Readonly<Partial<Record<"2" | "10", NatFamilyDescription["nat"]>>>;
}

export function describeNats(findings: readonly NatFinding[]): NatReport {
  const names = [...new Set(findings.map(({ nic }) => nic))];
  const subjects = findings.flatMap(({ nic, family, detection }): readonly AdviceSubject[] =>
    detection?.profile === undefined ? [] : [{ nic, family, profile: detection.profile }],
  );
  return {
    nics: names.map((name) => ({
      name,
      families: findings.filter(({ nic }) => nic === name).map(describeFamily),
    })),
    advice: adviseNat(subjects),
  };
}

/** null where nothing is known of the NIC. */
export function describeNicNat(findings: readonly NatFinding[]): NicNatDescription | null {
  const known = findings.flatMap(({ family, detection }) =>
    detection?.profile === undefined ? [] : [{ family, profile: detection.profile }],
  );
  const [first] = known;
  if (first === undefined) return null;
  const { type, delta } = summarise(first.profile);
  return {
    type: NAT_TYPE_NUMBERS[type],
    nat_info: type,
    delta: { type: DELTA_TYPE_NUMBERS[delta.type], value: delta.value },
    delta_info: delta.type,
    families: Object.fromEntries(
      known.map(({ family, profile }) => [family === 4 ? "2" : "10", describeProfile(profile)]),
    ),
  };
}

/** One type and delta for both protocols: those of UDP, and where that is blocked the delta of TCP. */
export function summarise({ udp, tcp }: NatProfile): Pick<NatKind, "type" | "delta"> {
  return { type: udp.type, delta: udp.type === "blocked" ? tcp.delta : udp.delta };
}

function describeFamily({ family, ip, detection, failure }: NatFinding): NatFamilyDescription {
  const profile = detection?.profile;
  const silent = detection !== undefined && profile === undefined ? "no server answered" : undefined;
  const msg = failure ?? silent ?? (detection === undefined ? "not measured yet" : undefined);
  return {
    family,
    address: ip,
    external: profile?.external ?? null,
    nat: profile === undefined ? null : describeProfile(profile),
    elapsedMs: Math.round(detection?.elapsedMs ?? 0),
    servers: detection?.servers ?? { asked: 0, answered: 0 },
    ...(msg === undefined ? {} : { msg }),
  };
}

function describeProfile({ udp, tcp }: NatProfile): NonNullable<NatFamilyDescription["nat"]> {
  return { udp: describeKind(udp), tcp: describeKind(tcp) };
}

function describeKind({ type, delta, ...rest }: NatKind): NatKindDescription {
  return {
    type,
    typeNumber: NAT_TYPE_NUMBERS[type],
    delta: { type: delta.type, typeNumber: DELTA_TYPE_NUMBERS[delta.type], value: delta.value },
    ...rest,
  };
}
