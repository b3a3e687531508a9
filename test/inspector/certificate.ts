/** A certificate that signs itself, made anew for each run: X.509 v3 (RFC 5280) for 127.0.0.1 and localhost. */
import { createSign, generateKeyPairSync, randomBytes } from 'node:crypto';

export interface Identity {
  /** PEM. */
  readonly cert: string;
  readonly key: string;
}

const SEQUENCE = 0x30;
const SET = 0x31;
const INTEGER = 0x02;
const BIT_STRING = 0x03;
const OCTET_STRING = 0x04;
const OBJECT_ID = 0x06;
const UTF8 = 0x0c;
const UTC_TIME = 0x17;
const VERSION_3 = Buffer.from([0xa0, 3, INTEGER, 1, 2]);
const ECDSA_WITH_SHA256 = node(OBJECT_ID, Buffer.from('2a8648ce3d040302', 'hex'));
const COMMON_NAME = node(OBJECT_ID, Buffer.from('550403', 'hex'));
const SUBJECT_ALT_NAME = node(OBJECT_ID, Buffer.from('551d11', 'hex'));
const DNS_NAME = 0x82;
const IP_ADDRESS = 0x87;
const DAY = 86_400_000;

export function selfSigned(): Identity {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const algorithm = node(SEQUENCE, ECDSA_WITH_SHA256);
  const name = node(SEQUENCE, node(SET, node(SEQUENCE, COMMON_NAME, node(UTF8, Buffer.from('viommu test')))));
  const names = node(SEQUENCE, node(DNS_NAME, Buffer.from('localhost')), node(IP_ADDRESS, Buffer.from([127, 0, 0, 1])));
  const extensions = node(0xa3, node(SEQUENCE, node(SEQUENCE, SUBJECT_ALT_NAME, node(OCTET_STRING, names))));
  // Positive, as it must be.
  const serial = node(INTEGER, Buffer.concat([Buffer.from([1]), randomBytes(8)]));
  const now = Date.now();
  const validity = node(SEQUENCE, time(now - DAY), time(now + DAY));
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  const body = node(SEQUENCE, VERSION_3, serial, algorithm, name, validity, name, spki, extensions);
  const signature = createSign('sha256').update(body).sign(privateKey);
  const der = node(SEQUENCE, body, algorithm, node(BIT_STRING, Buffer.from([0]), signature));
  return {
    cert: `-----BEGIN CERTIFICATE-----\n${der.toString('base64').replace(/.{64}/g, '$&\n')}\n-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
  };
}

/** DER: the tag, the length, the content. */
function node(tag: number, ...parts: Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  if (length < 0x80) return Buffer.concat([Buffer.from([tag, length]), content]);
  const bytes = length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...bytes]), content]);
}

function time(milliseconds: number): Buffer {
  const text = new Date(milliseconds).toISOString().replace(/\.\d+/, '').replace(/[-:T]/g, '').slice(2);
  return node(UTC_TIME, Buffer.from(text));
}
