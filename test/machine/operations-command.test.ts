import { describe, expect, it } from 'vitest';
import { operationNames } from '../../src/iommu/dma-iommu/opcodes.ts';
import type { OperationName } from '../../src/iommu/dma-iommu/operations.ts';
import { ArgumentError } from '../../src/machine/argument-checks.ts';
import {
  checkArguments,
  checkInterfaceArguments,
  checkProbeArguments,
  isOperationName,
  MAX_CONTEXT_CHARACTERS,
  MAX_DEVICE_CONFIGURATIONS,
  MAX_FLUSH_ADDRESSES,
  MAX_PAGE_FRAMES,
  MAX_RESERVED_REGIONS,
} from '../../src/machine/operations-command.ts';
import { OPTIONAL_MEMBERS, sampleArguments } from './sample-arguments.ts';

/** Every member of every object in the arguments, as a path. */
function paths(value: unknown, prefix: readonly string[] = []): string[][] {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return [];
  return Object.entries(value).flatMap(([name, member]) => [
    ...(Array.isArray(value) ? [] : [[...prefix, name]]),
    ...paths(member, [...prefix, name]),
  ]);
}

function changed(
  value: unknown,
  [name, ...rest]: readonly string[],
  change: (object: never, name: string) => void,
): unknown {
  const copy = structuredClone(value) as Record<string, unknown>;
  const [last] = rest.slice(-1);
  let object = copy;
  for (const step of last === undefined ? [] : [name!, ...rest.slice(0, -1)]) object = object[step] as typeof copy;
  change(object as never, last ?? name!);
  return copy;
}

const put = (value: unknown) => (object: Record<string, unknown>, name: string) => {
  object[name] = value;
};
const remove = (object: Record<string, unknown>, name: string) => {
  delete object[name];
};

function refusal(operation: OperationName, value: unknown): string {
  const answer = checkArguments(operation, value);
  expect(answer).toBeInstanceOf(ArgumentError);
  return (answer as ArgumentError).message;
}

/** The tag of a variant is told by what else there is: it is neither number nor text to all. */
const isTag = (path: readonly string[]) => ['type', 'configType'].includes(path.at(-1)!);

describe.each(operationNames)('arguments of %s', operation => {
  const sample = sampleArguments[operation];
  const members = paths(sample);

  it('pass as they are', () => {
    expect(checkArguments(operation, sample)).toEqual(sample);
  });

  it('pass without what is optional, or with null for it', () => {
    for (const path of members.filter(one => OPTIONAL_MEMBERS.has(one.at(-1)!))) {
      const without = changed(sample, path, remove);
      expect(checkArguments(operation, without)).toEqual(without);
      expect(checkArguments(operation, changed(sample, path, put(null)))).toEqual(without);
    }
  });

  it('do not pass without what is needed, and the message says what', () => {
    for (const path of members.filter(one => !OPTIONAL_MEMBERS.has(one.at(-1)!))) {
      // An operation that takes nothing but an MDL need not be told that it is one.
      if (isTag(path) && path.at(-2) === 'mdl') continue;
      expect(refusal(operation, changed(sample, path, remove))).toContain(path.at(-1));
    }
  });

  it('do not pass with a member of a wrong type, and the message says which', () => {
    for (const path of members) {
      for (const wrong of [{ a: 1 }, [[]], () => {}, -1n, 1n << 64n, Number.NaN, 0.5, 'x'.repeat(300)]) {
        const isContext = /context/i.test(path.at(-1)!);
        if (isContext && typeof wrong === 'number') continue;
        // An empty list of lists is a list of wrong elements: told as such.
        expect(refusal(operation, changed(sample, path, put(wrong)))).toContain(path.at(-1));
      }
    }
  });

  it('do not pass with a member that there is not', () => {
    expect(refusal(operation, { ...sample, suprise: 1 })).toBe("'args' has no member 'suprise'");
  });

  it.each([undefined, null, 1, 'text', true, [], new Uint8Array(4)])('are an object, not %s', value => {
    expect(refusal(operation, value)).toBe("'args' must be an object");
  });
});

describe('arguments', () => {
  const map = (more: object) => ({ ...sampleArguments.mapLogicalRangeEx, ...more });

  it('take any 64-bit address, as number or bigint', () => {
    for (const address of [0n, 1n, 0xffff_ffff_ffff_ffffn]) {
      expect(checkArguments('mapLogicalRangeEx', map({ explicitLogicalAddress: address }))).toMatchObject({
        explicitLogicalAddress: address,
      });
    }
    expect(checkArguments('mapLogicalRangeEx', map({ explicitLogicalAddress: 4096 }))).toMatchObject({
      explicitLogicalAddress: 4096n,
    });
  });

  it('take numbers that an encoder made a bigint of', () => {
    expect(checkArguments('deleteDomain', { domain: 7n })).toEqual({ domain: 7 });
  });

  it('take page frames as bytes', () => {
    const bytes = Uint8Array.of(0, 1, 0, 0, 0xff, 0xff, 0xff, 0x7f);
    expect(
      checkArguments('mapIdentityRangeEx', {
        domain: 1,
        permissions: 3,
        physicalAddressToMap: { type: 'pfnArray', pages: bytes },
      }),
    ).toMatchObject({ physicalAddressToMap: { pages: Int32Array.of(0x100, 0x7fffffff) } });
  });

  it.each([
    ['a torn word', new Uint8Array(5)],
    ['a negative one in bytes', Uint8Array.of(0, 0, 0, 0x80)],
    ['a negative one', [-1]],
    ['one of 32 bits', [0x8000_0000]],
    ['a fraction', [1.5]],
    ['text', ['1']],
    ['too many', new Int32Array(MAX_PAGE_FRAMES + 1)],
    ['words of another size', new Float64Array(1)],
  ])('do not take page frames with %s', (_what, pages) => {
    expect(refusal('mapLogicalRangeEx', map({ physicalAddressToMap: { type: 'pfnArray', pages } }))).toContain('pages');
  });

  it('take as many page frames as is said', () => {
    const pages = new Int32Array(MAX_PAGE_FRAMES);
    const answer = checkArguments('mapLogicalRangeEx', map({ physicalAddressToMap: { type: 'pfnArray', pages } }));
    expect(answer).not.toBeInstanceOf(ArgumentError);
  });

  it.each(['other', 'toString', '__proto__', 7, null])('do not take memory of the type %s', type => {
    expect(refusal('mapLogicalRangeEx', map({ physicalAddressToMap: { type, base: 0n, size: 0n } }))).toBe(
      "'args.physicalAddressToMap.type' must be one of mdl, contiguousRange, pfnArray",
    );
  });

  it('do not take members of another type of memory', () => {
    const physicalAddressToMap = { type: 'contiguousRange', base: 0n, size: 0n, pages: [] };
    expect(refusal('mapLogicalRangeEx', map({ physicalAddressToMap }))).toContain("no member 'pages'");
  });

  it('take an MDL without its type where there is no other', () => {
    const { type: _, ...mdl } = sampleArguments.mapLogicalRange.mdl;
    expect(checkArguments('mapLogicalRange', { ...sampleArguments.mapLogicalRange, mdl })).toEqual(
      sampleArguments.mapLogicalRange,
    );
  });

  it('take both configurations, and leave their sense to the operation', () => {
    const configuration = { type: 1, firstLevelPageTableRoot: 0xfffn, translationEnabled: false, levels: 9 };
    expect(checkArguments('configureDomain', { domain: 1, configuration })).toEqual({ domain: 1, configuration });
    expect(refusal('configureDomain', { domain: 1, configuration: { ...configuration, type: 2 } })).toContain(
      'one of 0, 1',
    );
  });

  it('leave reserved bits, unknown types and alignment to the operation', () => {
    expect(checkArguments('createDomainEx', { domainType: 99, flags: 1n })).toEqual({ domainType: 99, flags: 1n });
    expect(checkArguments('mapLogicalRangeEx', map({ permissions: 0xffff_ffff }))).toMatchObject({
      permissions: 0xffff_ffff,
    });
  });

  it.each([
    ['flushDomainByVaList', 'vaList', MAX_FLUSH_ADDRESSES, 0n],
    ['createDomainEx', 'reservedRegions', MAX_RESERVED_REGIONS, { base: 0n, numberOfPages: 1, shouldMap: true }],
    ['createDevice', 'deviceConfig', MAX_DEVICE_CONFIGURATIONS, { configType: 2, deviceId: 0 }],
  ] as const)('of %s: %s has at most %i elements', (operation, name, longest, element) => {
    const withLength = (length: number) => ({ ...sampleArguments[operation], [name]: new Array(length).fill(element) });
    expect(checkArguments(operation, withLength(longest))).not.toBeInstanceOf(ArgumentError);
    expect(refusal(operation, withLength(longest + 1))).toBe(`'args.${name}' must be a list of at most ${longest}`);
  });

  it('have contexts of any scalar, but no long ones', () => {
    const withContext = (context: unknown) =>
      checkArguments('registerInterfaceStateChangeCallback', { dmaDevice: 1, stateFields: 1, context });
    for (const context of ['', 'x'.repeat(MAX_CONTEXT_CHARACTERS), 0, -1.5, true, 0xffff_ffff_ffff_ffffn]) {
      expect(withContext(context)).toMatchObject({ context });
    }
    for (const context of ['x'.repeat(MAX_CONTEXT_CHARACTERS + 1), {}, [], 1n << 64n]) {
      expect(withContext(context)).toBeInstanceOf(ArgumentError);
    }
  });
});

describe('the other commands', () => {
  it('probe by requester id, address and access', () => {
    const args = { requesterId: 0xffff, logicalAddress: 0xffff_ffff_ffff_ffffn, access: 3, pasid: 0xfffff };
    expect(checkProbeArguments(args)).toEqual(args);
    expect(checkProbeArguments({ requesterId: 1, logicalAddress: 5, access: 1 })).toEqual({
      requesterId: 1,
      logicalAddress: 5n,
      access: 1,
    });
  });

  it.each([
    { requesterId: 0x10000, logicalAddress: 0n, access: 1 },
    { requesterId: 0, logicalAddress: -1n, access: 1 },
    { requesterId: 0, logicalAddress: 0n, access: 1, pasid: 0x100000 },
    { requesterId: 0, logicalAddress: 0n },
    {},
    undefined,
  ])('probe nothing with bad arguments (%#)', args => {
    expect(checkProbeArguments(args as unknown)).toBeInstanceOf(ArgumentError);
  });

  it('ask for an interface', () => {
    expect(checkInterfaceArguments({ version: 3, ex: true, flags: 1 })).toEqual({ version: 3, ex: true, flags: 1n });
    expect(checkInterfaceArguments({ version: 1 })).toEqual({ version: 1 });
    expect(checkInterfaceArguments({})).toBeInstanceOf(ArgumentError);
    expect(checkInterfaceArguments({ version: 1, ex: 1 })).toBeInstanceOf(ArgumentError);
  });

  it('know the names of operations, and nothing that every object has', () => {
    expect(operationNames.every(isOperationName)).toBe(true);
    for (const name of ['toString', 'constructor', '__proto__', 'hasOwnProperty', 'probe', '']) {
      expect(isOperationName(name)).toBe(false);
    }
  });
});
