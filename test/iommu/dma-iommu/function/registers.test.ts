import { describe, expect, it } from 'vitest';
import { dmaIommuFunctionDefinition } from '../../../../src/iommu/dma-iommu/function/identity.ts';
import { dmaIommuRegisters } from '../../../../src/iommu/dma-iommu/function/registers.ts';
import { FaultType } from '../../../../src/iommu/dma-iommu/types.ts';
import { Translation } from '../../../../src/iommu/translator.ts';
import { checkDefinition } from '../../../../src/pci/definition-check.ts';
import { at, Bench } from './support.ts';

const block = dmaIommuRegisters();

describe('registers', () => {
  it.each(block.registers.map(register => [register.name, register] as const))(
    '%s reads as defined',
    (name, register) => {
      const bench = new Bench();
      const expected = register.fields.reduce(
        (value, field) => value | (BigInt(field.reset ?? 0) << BigInt(field.bits[1])),
        0n,
      );
      expect(register.bytes === 8 ? bench.read64(name) : BigInt(bench.read(name))).toBe(expected);
      expect(bench.trace.kinds()).toEqual([]);
    },
  );

  const readOnly = block.registers.filter(register => register.fields.every(field => field.access === 'ro'));
  it.each(readOnly.map(register => register.name))('%s cannot be written', name => {
    const bench = new Bench();
    const before = bench.read(name);
    bench.write(name, -1);
    expect(bench.read(name)).toBe(before);
  });

  it('are identified', () => {
    const bench = new Bench();
    expect(String.fromCharCode(...[0, 8, 16, 24].map(shift => (bench.read('ID') >>> shift) & 0xff))).toBe('DIOM');
    expect(bench.read('VERSION')).toBe(0x10000);
  });

  it('tell the mode of the interface', () => {
    expect(new Bench().read('CAPABILITIES') & 8).toBe(0);
    expect(new Bench({ compat: 'windows' }).read('CAPABILITIES') & 8).toBe(8);
    expect(new Bench({ compat: 'windows' }).read('CAPABILITIES') & 0x30).toBe(0);
  });

  it.each([
    [0, 1],
    [1, 4],
    [2, 4],
    [4, 2],
    [4, 8],
  ])('do not take an access at %i of %i bytes', (offset, width) => {
    const bench = new Bench();
    expect(bench.read(offset, width)).toBe(0);
    bench.write(offset, 1, width);
    expect(bench.trace.kinds()).toEqual(['register.access', 'register.access']);
  });

  it('report what is not there', () => {
    const bench = new Bench();
    expect(bench.read(0x800)).toBe(0);
    bench.write(0xffc, 1);
    expect(bench.trace.kinds()).toEqual(['register.unknown', 'register.unknown']);
  });

  it('report reserved bits', () => {
    const bench = new Bench();
    bench.write('CONTROL', 0x10);
    expect(bench.trace.kinds()).toEqual(['register.reserved']);
    expect(bench.read('CONTROL')).toBe(0);
  });

  it('of 8 bytes take two halves', () => {
    const bench = new Bench();
    bench.write(at('PROBE_IOVA') + 4, 0x1234);
    bench.write('PROBE_IOVA', 0x5678);
    expect(bench.read64('PROBE_IOVA')).toBe(0x123400005678n);
  });
});

describe('the PCI function', () => {
  it('can be laid out', () => {
    expect(() => checkDefinition(dmaIommuFunctionDefinition)).not.toThrow();
    expect(dmaIommuFunctionDefinition.msix?.vectors).toBe(3);
    expect(block.bytes).toBe(dmaIommuFunctionDefinition.bars[0]?.bytes);
  });

  it('has its registers in BAR0', () => {
    const bench = new Bench();
    expect([...bench.unit.bars]).toEqual([[0, bench.unit]]);
  });
});

describe('translation', () => {
  const out = new Translation();

  it('is off at first: what is attached to nothing passes', () => {
    const bench = new Bench();
    expect(bench.translation.translate(1, 0x7, 0x12345678, 1, out)).toBe(true);
    expect(out.frame).toBe(0x700000 | 0x12345);
    expect(bench.translation.translateRun(1, 0, 0x1000, 1, 8192, out)).toBe(true);
    expect([out.frame, out.bytes]).toEqual([1, 8192]);
  });

  it('never passes what is attached', () => {
    const bench = new Bench();
    bench.operations.attached = true;
    bench.translation.translate(1, 0, 0x1000, 1, out);
    expect(out.frame).toBe(77);
    bench.translation.translateRun(1, 0, 0x1000, 1, 8192, out);
    expect([out.frame, out.bytes]).toEqual([77, 4096]);
    bench.translation.withPasid(3).translate(1, 0, 0x1000, 1, out);
    expect(out.frame).toBe(77);
  });

  it('is switched by the guest', () => {
    const bench = new Bench();
    bench.write('CONTROL', 2);
    expect(bench.read('STATUS')).toBe(2);
    bench.translation.translate(1, 0, 0x1000, 1, out);
    expect(out.frame).toBe(77);
    bench.write('CONTROL', 0);
    expect(bench.read('STATUS')).toBe(0);
    bench.translation.translate(1, 0, 0x1000, 1, out);
    expect(out.frame).toBe(1);
  });
});

describe('the directory', () => {
  const devices = [
    { requesterId: 0x0100, inputMappingIds: [0x0100], acpi: false, pasidCapable: false },
    { requesterId: 0xffff, inputMappingIds: [1, 2, 3], acpi: true, pasidCapable: true },
  ];

  it('tells each device', () => {
    const bench = new Bench({ devices });
    expect(bench.read('DIRECTORY_COUNT')).toBe(2);
    expect([bench.read('DIRECTORY_ENTRY'), bench.read('DIRECTORY_MAPPINGS')]).toEqual([0x80000100, 1]);
    bench.write('DIRECTORY_INDEX', 1);
    expect([bench.read('DIRECTORY_ENTRY'), bench.read('DIRECTORY_MAPPINGS')]).toEqual([0x8003ffff, 3]);
  });

  it.each([2, 0xffffffff])('has nothing at index %i', index => {
    const bench = new Bench({ devices });
    bench.write('DIRECTORY_INDEX', index);
    expect([bench.read('DIRECTORY_ENTRY'), bench.read('DIRECTORY_MAPPINGS')]).toEqual([0, 0]);
  });

  it('follows the machine', () => {
    const bench = new Bench({ devices });
    bench.devices = devices.slice(1);
    expect([bench.read('DIRECTORY_COUNT'), bench.read('DIRECTORY_ENTRY')]).toEqual([1, 0x8003ffff]);
  });
});

describe('interrupts', () => {
  it('stay pending while their source is not enabled, and come with it', () => {
    const bench = new Bench().enable();
    bench.command('flushDomain', {});
    expect(bench.read('INTERRUPT_PENDING')).toBe(1);
    expect(bench.line.raised).toEqual([]);
    bench.write('INTERRUPT_ENABLE', 1);
    expect(bench.line.raised).toEqual([0]);
    bench.write('INTERRUPT_ENABLE', 1);
    expect(bench.line.raised).toEqual([0]);
  });

  it('come once until software clears the pending bit', () => {
    const bench = new Bench().enable();
    bench.write('INTERRUPT_ENABLE', 1);
    bench.command('flushDomain', {});
    bench.command('flushDomain', {});
    expect(bench.line.raised).toEqual([0]);
    bench.write('INTERRUPT_PENDING', 1);
    bench.command('flushDomain', {});
    expect(bench.line.raised).toEqual([0, 0]);
  });

  it('are raised after the completion is there', () => {
    const bench = new Bench().enable();
    bench.write('INTERRUPT_ENABLE', 1);
    const seen: unknown[] = [];
    bench.line.raise = () => seen.push(bench.read('COMPLETION_TAIL'), bench.completion(0).phase);
    bench.command('flushDomain', {});
    expect(seen).toEqual([1, 1]);
  });

  it('hold the line until nothing is left', () => {
    const bench = new Bench().enable();
    bench.write('INTERRUPT_ENABLE', 9);
    bench.command('flushDomain', {});
    bench.write('COMMAND_TAIL', 99);
    expect(bench.read('INTERRUPT_PENDING')).toBe(9);
    bench.write('INTERRUPT_PENDING', 1);
    expect(bench.line.asserted).toBe(true);
    bench.write('INTERRUPT_PENDING', 8);
    expect(bench.line.asserted).toBe(false);
  });

  it('release the line when they are disabled', () => {
    const bench = new Bench().enable();
    bench.write('INTERRUPT_ENABLE', 1);
    bench.command('flushDomain', {});
    bench.write('INTERRUPT_ENABLE', 0);
    expect(bench.line.asserted).toBe(false);
  });

  it('go to the vector that software chose', () => {
    const bench = new Bench().enable();
    bench.write('INTERRUPT_ENABLE', 15);
    bench.write('INTERRUPT_VECTOR', 0x01000002);
    bench.command('flushDomain', {});
    bench.write('COMMAND_TAIL', 99);
    expect(bench.line.raised).toEqual([2, 1]);
  });

  it('to a vector that does not exist go nowhere', () => {
    const bench = new Bench().enable();
    bench.write('INTERRUPT_ENABLE', 1);
    bench.write('INTERRUPT_VECTOR', 3);
    bench.command('flushDomain', {});
    expect(bench.line.raised).toEqual([]);
    expect(bench.trace.kinds()).toContain('dmaIommu.badVector');
  });

  it('are not asked for by a command that says so', () => {
    const bench = new Bench().enable();
    bench.write('INTERRUPT_ENABLE', 1);
    bench.command('flushDomain', {}, { flags: 1 });
    expect([bench.read('INTERRUPT_PENDING'), bench.line.raised]).toEqual([0, []]);
  });
});

describe('the probe', () => {
  const START = 0x80000000;

  it('asks the unit in a job', () => {
    const bench = new Bench();
    bench.operations.attached = true;
    bench.write('PROBE_DEVICE', 0x0102);
    bench.write('PROBE_PASID', START | 0x54321);
    bench.write64('PROBE_IOVA', 0xffff812345678abcn);
    bench.write('PROBE_COMMAND', START | 2);
    expect(bench.read('PROBE_COMMAND')).toBe(START + 2);
    expect(bench.operations.probes).toEqual([]);
    bench.jobs.run();
    expect(bench.operations.probes).toEqual([[0x0102, 0x54321, 0xffff8123 | 0, 0x45678abc, 2]]);
    expect(bench.read('PROBE_COMMAND')).toBe(2);
  });

  it('is without a PASID where that is not valid', () => {
    const bench = new Bench();
    bench.operations.attached = true;
    bench.write('PROBE_PASID', 5);
    bench.write('PROBE_COMMAND', START | 1);
    bench.jobs.run();
    expect(bench.operations.probes).toEqual([[0, -1, 0, 0, 1]]);
  });

  it('tells what the unit answers', () => {
    const bench = new Bench();
    bench.operations.attached = true;
    bench.operations.probeAnswer = {
      translated: true,
      fault: -1,
      domain: 12,
      frame: 0x7fffffff,
      shift: 30,
      permissions: 3,
      level: 5,
      source: 'iotlb',
      stale: true,
    };
    bench.write64('PROBE_IOVA', 0xabcn);
    bench.write('PROBE_COMMAND', START | 1);
    bench.jobs.run();
    expect(bench.read('PROBE_RESULT')).toBe(1 | 2 | (2 << 4) | (5 << 8) | (3 << 12) | (30 << 16));
    expect(bench.read64('PROBE_ADDRESS')).toBe(0x7fffffffabcn);
    expect(bench.read('PROBE_DOMAIN')).toBe(12);
  });

  it.each([
    ['walk', true, 3],
    ['paging-structure', true, 3],
    ['iotlb', true, 2],
    ['none', true, 1],
    ['none', false, 0],
  ] as const)('has a source for %s, translated %s', (source, translated, expected) => {
    const bench = new Bench();
    bench.operations.attached = true;
    bench.operations.probeAnswer = { ...bench.operations.probeAnswer, source, translated, fault: translated ? -1 : 6 };
    bench.write('PROBE_COMMAND', START | 1);
    bench.jobs.run();
    expect((bench.read('PROBE_RESULT') >>> 4) & 3).toBe(expected);
  });

  it('tells the fault that the access would cause', () => {
    const bench = new Bench();
    bench.operations.attached = true;
    bench.operations.probeAnswer = { ...bench.operations.probeAnswer, fault: FaultType.TranslationFault, frame: 9 };
    bench.write('PROBE_COMMAND', START | 1);
    bench.jobs.run();
    expect(bench.read('PROBE_RESULT')).toBe(6 << 24);
    expect(bench.read64('PROBE_ADDRESS')).toBe(0n);
  });

  it('of what is attached to nothing shows the bypass', () => {
    const bench = new Bench();
    bench.write64('PROBE_IOVA', 0x712345678abn);
    bench.write('PROBE_COMMAND', START | 1);
    bench.jobs.run();
    expect(bench.operations.probes).toEqual([]);
    expect(bench.read('PROBE_RESULT')).toBe(1 | (1 << 4) | (3 << 12) | (12 << 16));
    expect(bench.read64('PROBE_ADDRESS')).toBe(0x712345678abn);
    bench.write64('PROBE_IOVA', 1n << 43n);
    bench.write('PROBE_COMMAND', START | 1);
    bench.jobs.run();
    expect(bench.read('PROBE_RESULT')).toBe(FaultType.AddressSizeFault << 24);
  });

  it('while one is under way is refused', () => {
    const bench = new Bench();
    bench.operations.attached = true;
    bench.write('PROBE_COMMAND', START | 1);
    bench.write('PROBE_COMMAND', START | 2);
    bench.jobs.run();
    expect(bench.operations.probes).toHaveLength(1);
    expect(bench.trace.kinds()).toEqual(['dmaIommu.probeBusy']);
  });

  it('without an access is one of a read', () => {
    const bench = new Bench();
    bench.operations.attached = true;
    bench.write('PROBE_COMMAND', START);
    bench.jobs.run();
    expect(bench.operations.probes[0]?.[4]).toBe(1);
    expect(bench.trace.kinds()).toEqual(['dmaIommu.probeAccess']);
  });

  it('without START does nothing', () => {
    const bench = new Bench();
    bench.write('PROBE_COMMAND', 3);
    expect(bench.jobs.run()).toBe(0);
  });
});
