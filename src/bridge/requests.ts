/** Which commands of QEMU the server has not answered yet, by id (vfio-user, section "Header"). */

const ID_COUNT = 0x10000;

export interface Pages {
  readonly firstFrame: number;
  readonly frames: number;
}

/** What is to be done when the answer comes, before it is passed on. */
export interface Settlement {
  /** `errno` 0: the server did it. */
  settle(errno: number): void;
  /** On success the answer is not to be seen before DMA under way there is over. */
  readonly pages?: Pages;
}

export class Requests {
  /** Command + 1 by id, 0 where none is out. */
  private readonly commands = new Int32Array(ID_COUNT);
  private readonly settlements = new Map<number, Settlement>();
  /** Out now, by command. */
  private readonly counts = new Map<number, number>();

  isOut(id: number): boolean {
    return this.commands[id] !== 0;
  }

  /** Commands with a settlement that are out now. */
  unsettled(command: number): number {
    return this.counts.get(command) ?? 0;
  }

  add(id: number, command: number, settlement?: Settlement): void {
    this.commands[id] = command + 1;
    if (settlement === undefined) return;
    this.settlements.set(id, settlement);
    this.counts.set(command, this.unsettled(command) + 1);
  }

  /** The command that had this id, which is free from here on; -1 where there was none. */
  take(id: number): number {
    const command = this.commands[id]! - 1;
    this.commands[id] = 0;
    return command;
  }

  takeSettlement(id: number, command: number): Settlement | undefined {
    if (this.settlements.size === 0) return undefined;
    const settlement = this.settlements.get(id);
    if (settlement === undefined) return undefined;
    this.settlements.delete(id);
    this.counts.set(command, this.unsettled(command) - 1);
    return settlement;
  }
}
