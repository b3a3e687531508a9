/** The command ring: takes an entry, has it carried out, and has the answer written before it takes the next. All of it in jobs. */
import { MemoryStatus } from '../../../memory/guest-memory.ts';
import { operationByOpcode, operationNames } from '../opcodes.ts';
import type { OperationName } from '../operations.ts';
import { Call, type CallParts } from './call.ts';
import { RESERVED_NOT_ZERO, UNKNOWN_OPCODE } from './choices.ts';
import { commandHandlers } from './commands.ts';
import type { Completions } from './completions.ts';
import type { FunctionCore } from './core.ts';
import type { DescriptorCheck } from './descriptor-check.ts';
import { argumentLayouts, CommandFlag, commandLayout } from './layout.ts';
import { COMMANDS_PER_JOB, COMPARISONS_PER_JOB, LIST_ELEMENTS_PER_JOB } from './limits.ts';
import { RingError } from './registers.ts';
import type { Ring } from './ring.ts';
import { Entry } from './struct.ts';

const { fields } = commandLayout;
const DEFINED_FLAGS = CommandFlag.noInterrupt;
const ENTRY_WORDS = commandLayout.bytes >>> 2;

/** By operation: the bits of an entry that nothing names. */
const RESERVED = new Map(operationNames.map(name => [name, reservedWords(name)]));

function reservedWords(name: OperationName): Int32Array {
  const mask = new Entry(commandLayout.bytes);
  mask.bytes.fill(0xff);
  const { opcode, flags, cookie, args } = fields;
  for (const field of [opcode, flags, cookie]) mask.bytes.fill(0, field.offset, field.offset + field.bytes);
  for (const field of Object.values(argumentLayouts[name].fields)) {
    mask.bytes.fill(0, args.offset + field.offset, args.offset + field.offset + field.bytes);
  }
  return mask.words;
}

export class CommandRing {
  private readonly command = new Entry(commandLayout.bytes);

  constructor(
    private readonly core: FunctionCore,
    private readonly ring: Ring,
    private readonly completions: Completions,
    private readonly parts: CallParts,
    /** Looks whether software changes commands while they are carried out; undefined: nobody wants to know. */
    private readonly check?: DescriptorCheck,
  ) {}

  /** There may be something to do: new commands, room for completions, an error cleared, a state change. */
  wake(): void {
    const { work } = this.core;
    if (work.has('commands')) return;
    work.add('commands');
    this.core.later(() => this.run());
  }

  /** The rings are stopped: the job that was under way will not run. */
  stop(): void {
    this.core.work.delete('commands');
  }

  private run(): void {
    this.core.work.delete('commands');
    const { core, ring, completions } = this;
    const { lists, comparisons } = this.parts;
    const last = comparisons() + COMPARISONS_PER_JOB;
    const { cycle } = core;
    lists.elements = 0;
    completions.drain();
    for (let count = 0; ; count++) {
      // Guest memory may be slow enough for software to stop or reset the rings meanwhile.
      if (cycle !== core.cycle || !ring.running || ring.empty || !completions.ready) return;
      if (count === COMMANDS_PER_JOB || lists.elements >= LIST_ELEMENTS_PER_JOB || comparisons() >= last) {
        this.wake();
        return;
      }
      if (!this.step(cycle)) return;
      completions.drain();
    }
  }

  /** One command, up to its answer. False where the ring has stopped. */
  private step(cycle: number): boolean {
    const { core, ring, command, completions } = this;
    const { head } = ring;
    const read = core.memory.read(ring.frameOf(head), ring.offsetOf(head), command.bytes, 0, commandLayout.bytes);
    if (cycle !== core.cycle) return false;
    if (read !== MemoryStatus.ok) {
      ring.fail(RingError.memory, { index: head });
      return false;
    }
    this.check?.check(ring.frameOf(head), ring.offsetOf(head), command);
    if (cycle !== core.cycle) return false;
    const answer = completions.begin();
    const status = this.execute(new Call(this.parts, command, answer));
    if (cycle !== core.cycle) return false;
    ring.advanceHead();
    completions.finish(command.get(fields.opcode), command.get(fields.flags), command.get64(fields.cookie), status);
    return true;
  }

  private execute(call: Call): number {
    const { command, core } = this;
    const opcode = command.get(fields.opcode);
    const name = operationByOpcode(opcode);
    if (name === undefined) {
      core.note('dmaIommu.unknownOpcode', { opcode, index: this.ring.head });
      return UNKNOWN_OPCODE;
    }
    if (command.get(fields.flags) & ~DEFINED_FLAGS || this.reservedSet(RESERVED.get(name)!)) {
      core.note('dmaIommu.reserved', { operation: name, index: this.ring.head });
      return RESERVED_NOT_ZERO;
    }
    return commandHandlers[name](call);
  }

  private reservedSet(mask: Int32Array): boolean {
    const { words } = this.command;
    for (let i = 0; i < ENTRY_WORDS; i++) if (words[i]! & mask[i]!) return true;
    return false;
  }
}
