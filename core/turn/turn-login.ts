/**
 * The client's half of STUN's long-term credentials (RFC 8489 section 9.2.3 to 9.2.5): learns realm, nonce and password
 * algorithm from refusals, and signs requests with them. Pure; one login serves all requests of one allocation.
 */
import { opaqueString } from "../wire/opaque-string.ts";
import * as kinds from "../wire/stun-attributes.ts";
import { type IntegrityHash, longTermKey, nonceFeatures, userHash } from "../wire/stun-integrity.ts";
import { readAttribute, type StunMessage } from "../wire/stun.ts";

export interface Signature {
  readonly attributes: readonly kinds.Attribute[];
  readonly integrity: { readonly key: Uint8Array; readonly hash: IntegrityHash };
}

export interface TurnLogin {
  /** What a request needs to be signed; undefined until the server has told its realm. */
  sign(): Signature | undefined;
  /**
   * Takes an error response to a request that was signed with `used`; true if the request may be sent again, signed
   * anew. A password that was refused is not sent twice.
   */
  learn(message: StunMessage, used: Signature | undefined): boolean;
}

/** @param known what another login of this user learnt of the server: a nonce that still serves saves a round trip */
export function createTurnLogin(username: string, password: string, known?: Signature): TurnLogin {
  let signature = known;

  function challengeOf(message: StunMessage): Signature | undefined {
    const realm = readAttribute(message, kinds.REALM);
    const nonce = readAttribute(message, kinds.NONCE);
    if (realm === undefined || nonce === undefined || !isRealm(realm)) return undefined;
    const features = nonceFeatures(nonce);
    const offered = readAttribute(message, kinds.PASSWORD_ALGORITHMS);
    // The nonce says that there was a list: somebody on the way took it out.
    if (features?.passwordAlgorithms === true && offered === undefined) return undefined;
    const list = features?.passwordAlgorithms === true ? offered : undefined;
    const choice = list?.find(
      ({ algorithm }) => algorithm === kinds.PASSWORD_SHA256 || algorithm === kinds.PASSWORD_MD5,
    );
    if (list !== undefined && choice === undefined) return undefined;
    const algorithm =
      choice?.algorithm === kinds.PASSWORD_SHA256 ? kinds.PASSWORD_SHA256 : kinds.PASSWORD_MD5;
    const name =
      features?.usernameAnonymity === true
        ? kinds.attribute(kinds.USERHASH, userHash(username, realm))
        : kinds.attribute(kinds.USERNAME, username);
    return {
      attributes: [
        name,
        kinds.attribute(kinds.REALM, realm),
        kinds.attribute(kinds.NONCE, nonce),
        ...(list === undefined || choice === undefined
          ? []
          : [
              // Views of a message that goes: copies.
              kinds.attribute(
                kinds.PASSWORD_ALGORITHMS,
                list.map((one) => ({ ...one, parameters: one.parameters.slice() })),
              ),
              kinds.attribute(kinds.PASSWORD_ALGORITHM, { ...choice, parameters: choice.parameters.slice() }),
            ]),
      ],
      integrity: {
        key: longTermKey(username, realm, password, algorithm),
        hash: list === undefined ? "sha1" : "sha256",
      },
    };
  }

  return {
    sign: () => signature,
    learn(message, used) {
      const code = readAttribute(message, kinds.ERROR_CODE)?.code;
      if (code !== 401 && code !== 438) return false;
      // Another request has learnt something newer meanwhile.
      if (used !== signature) return true;
      // What another login learnt may be of a server that has changed its realm since.
      if (code === 401 && used !== undefined && used !== known) return false;
      const next = challengeOf(message);
      if (next === undefined) return false;
      signature = next;
      return true;
    },
  };
}

/** Whether keys can be made of it: it came from the network, and may have characters that no realm has. */
function isRealm(text: string): boolean {
  try {
    return opaqueString(text, "the realm") !== "";
  } catch {
    return false;
  }
}
