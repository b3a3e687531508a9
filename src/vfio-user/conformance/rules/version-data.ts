import { PROPOSAL } from '../context.ts';
import { inSection, isTrue, type Rule } from '../rule.ts';
import { NOTHING, versionPayload } from '../wire.ts';
import { accepts, decides, rejects } from './version-steps.ts';

export const versionDataRules: readonly Rule[] = inSection('VFIO_USER_VERSION', [
  {
    id: 'version.data-optional',
    basis: 'specification',
    says: 'The version data is optional.',
    check: context => void accepts(context, undefined),
  },
  {
    id: 'version.capabilities-optional',
    basis: 'specification',
    says: 'The capabilities in the version data are optional.',
    check: context => void accepts(context, {}),
  },
  {
    id: 'version.capabilities-empty',
    basis: 'specification',
    says: 'Each of the capabilities is optional.',
    check: context => void accepts(context, { capabilities: {} }),
  },
  {
    id: 'version.unknown-capability',
    basis: 'specification',
    says: 'A capability that the server does not know is left out of the reply.',
    check: context => {
      const names = Object.keys(context.negotiated({ capabilities: { ...PROPOSAL.capabilities, teleport: true } }));
      isTrue(!names.includes('teleport'), 'a capability that nobody knows is in the reply');
    },
  },
  {
    id: 'version.unknown-member',
    basis: 'robustness',
    says: 'A member beside "capabilities" is left alone.',
    check: context => void accepts(context, { ...PROPOSAL, client: 'conformance' }),
  },
  {
    id: 'version.qemu-proposal',
    basis: 'specification',
    says: 'What QEMU 11.1 proposes is accepted, its migration capability too.',
    check: context =>
      void accepts(context, {
        capabilities: {
          pgsizes: 4096,
          max_msg_fds: 16,
          max_dma_maps: 65535,
          max_data_xfer_size: 1048576,
          migration: { max_bitmap_size: 268435456, pgsize: 4096 },
          write_multiple: true,
        },
      }),
  },
  {
    id: 'version.white-space',
    basis: 'specification',
    says: 'White space in the JSON means nothing.',
    check: context => void accepts(context, ' {\n\t"capabilities" : { "max_msg_fds" : 8 }\r\n} '),
  },
  {
    id: 'version.utf8',
    basis: 'specification',
    says: 'The JSON is in UTF-8, beyond ASCII too.',
    check: context => void accepts(context, { capabilities: { note: 'Größe ∞ 😀' } }),
  },
  {
    id: 'version.escapes',
    basis: 'specification',
    says: 'JSON escapes in names are the characters that they stand for.',
    check: context => {
      accepts(context, '{"\\u0063apabilities": {"max_msg_fds": 8}}');
      context.closePeers();
      const wrong = '{"\\u0063apabilities": {"max_\\u006dsg_fds": "8"}}';
      rejects(context, versionPayload(wrong), 'a number as a string behind an escaped name');
    },
  },
  {
    id: 'version.long-data',
    basis: 'specification',
    says: 'A kilobyte of version data is not too much.',
    check: context => void accepts(context, { capabilities: { note: 'x'.repeat(1024) } }),
  },
  {
    id: 'version.huge-data',
    basis: 'robustness',
    says: 'A megabyte of version data is decided on.',
    check: context => decides(context, versionPayload({ capabilities: { note: 'x'.repeat(1000000) } }), '1 MB of JSON'),
  },
  {
    id: 'version.deep-data',
    basis: 'robustness',
    says: 'JSON of a thousand levels is decided on.',
    check: context => decides(context, versionPayload(`${'['.repeat(1000)}${']'.repeat(1000)}`), '1000 levels of JSON'),
  },
  {
    id: 'version.payload-missing',
    basis: 'specification',
    says: 'A VERSION without a version does not get through.',
    check: context => rejects(context, NOTHING, 'no version'),
  },
  {
    id: 'version.payload-short',
    basis: 'specification',
    says: 'Half a version does not get through.',
    check: context => rejects(context, Uint8Array.of(0, 0, 0), '3 bytes of version'),
  },
  {
    id: 'version.not-terminated',
    basis: 'specification',
    says: 'The version data includes its terminating NUL.',
    check: context => rejects(context, versionPayload(PROPOSAL, { end: '' }), 'version data without a NUL'),
  },
  {
    id: 'version.data-behind-nul',
    basis: 'robustness',
    says: 'Data behind the NUL is decided on.',
    check: context => decides(context, versionPayload(PROPOSAL, { end: '\0tail\0' }), 'data behind the NUL'),
  },
  {
    id: 'version.empty-data',
    basis: 'robustness',
    says: 'Version data of a NUL alone is decided on.',
    check: context => decides(context, versionPayload(''), 'version data of a NUL'),
  },
  {
    id: 'version.no-json',
    basis: 'specification',
    says: 'Version data that is no JSON does not get through.',
    check: context => rejects(context, versionPayload('capabilities=all'), 'no JSON'),
  },
  {
    id: 'version.json-cut',
    basis: 'specification',
    says: 'JSON that ends in the middle does not get through.',
    check: context => rejects(context, versionPayload('{"capabilities": {'), 'half an object'),
  },
  {
    id: 'version.json-array',
    basis: 'robustness',
    says: 'Version data that is an array is decided on: it names nothing.',
    check: context => decides(context, versionPayload('[]'), 'an array'),
  },
  {
    id: 'version.json-null',
    basis: 'robustness',
    says: 'Version data that is null is decided on: it names nothing.',
    check: context => decides(context, versionPayload('null'), 'null'),
  },
  {
    id: 'version.capabilities-no-object',
    basis: 'specification',
    says: 'Capabilities that are no object do not get through.',
    check: context => rejects(context, versionPayload('{"capabilities": "all"}'), 'capabilities that are a string'),
  },
  {
    id: 'version.number-as-string',
    basis: 'specification',
    says: 'A capability of the wrong type does not get through.',
    check: context => rejects(context, versionPayload({ capabilities: { max_msg_fds: '8' } }), 'a number as a string'),
  },
  {
    id: 'version.number-negative',
    basis: 'robustness',
    says: 'A negative limit is decided on.',
    check: context => decides(context, versionPayload({ capabilities: { max_data_xfer_size: -1 } }), 'a limit of -1'),
  },
  {
    id: 'version.number-fraction',
    basis: 'robustness',
    says: 'A limit with a fraction is decided on.',
    check: context => decides(context, versionPayload({ capabilities: { max_msg_fds: 1.5 } }), 'a limit of 1.5'),
  },
  {
    id: 'version.number-huge',
    basis: 'robustness',
    says: 'A limit beyond 64 bits is decided on.',
    check: context =>
      decides(context, versionPayload('{"capabilities": {"max_dma_maps": 1e300}}'), 'a limit beyond 64 bits'),
  },
  {
    id: 'version.not-utf8',
    basis: 'specification',
    says: 'Version data that is not UTF-8 does not get through.',
    check: context =>
      rejects(context, Uint8Array.of(0, 0, 0, 0, 0x7b, 0xff, 0xfe, 0x7d, 0), 'bytes that are not UTF-8'),
  },
  {
    id: 'version.prototype',
    basis: 'robustness',
    says: 'A capability called __proto__ changes nothing.',
    check: context => decides(context, versionPayload('{"capabilities": {"__proto__": {"pgsizes": 1}}}'), '__proto__'),
  },
]);
