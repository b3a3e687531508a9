import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Pausable, RunControl, STEP_JOBS_MAX, WAITING_JOBS_MAX } from '../../src/machine/run-control.ts';
import { EventLoop } from '../../src/posix/event-loop.ts';
import { createEventFd } from '../../src/posix/eventfd.ts';
import { closeDescriptor } from '../../src/posix/socket.ts';
import { TraceLog } from '../../src/trace/trace.ts';

const PATIENCE_MS = 20_000;

class FakeServer implements Pausable {
  serves = true;
  accessed: (() => void) | undefined;
  /** Accesses that wait, as names. */
  readonly waiting: string[] = [];
  readonly served: string[] = [];

  pause(): void {
    this.serves = false;
  }

  resume(accessed?: () => void): void {
    this.serves = true;
    this.accessed = accessed;
    this.arrive();
  }

  arrive(...accesses: string[]): void {
    this.waiting.push(...accesses);
    while (this.serves && this.waiting.length > 0) {
      this.served.push(this.waiting.shift()!);
      this.accessed?.();
    }
  }
}

let loop: EventLoop;
let errors: unknown[];
let trace: TraceLog;
let servers: FakeServer[];
let transfers: number;
let control: RunControl;
let fd: number;
const ran: string[] = [];

beforeEach(() => {
  errors = [];
  ran.length = 0;
  loop = new EventLoop(error => errors.push(error));
  // Else there is nothing to wait for.
  fd = createEventFd();
  loop.watch(fd, 1, () => {});
  trace = new TraceLog();
  servers = [new FakeServer(), new FakeServer()];
  transfers = 0;
  control = new RunControl({ loop, trace, servers: () => servers, transfers: () => transfers });
});

afterEach(() => {
  loop.close();
  closeDescriptor(fd);
});

/** As a command of the control channel: announced at once where it pauses, done in a job. */
function order<T>(what: () => T): { readonly value: T } {
  let result: { value: T } | undefined;
  loop.push(() => {
    result = { value: what() };
  });
  loop.runOnce(0);
  return result!;
}

function pause(): void {
  control.announcePause();
  order(() => control.pause());
}

const job = (name: string) => () => {
  ran.push(name);
};
const transfer = (name: string) => () => {
  ran.push(name);
  transfers++;
};

function rounds(): void {
  for (let i = 0; i < 8; i++) loop.runOnce(0);
}

describe('a machine that runs', () => {
  it('does its jobs as the loop does them', () => {
    for (const name of ['a', 'b']) control.push(job(name));
    loop.runOnce(0);
    expect(ran).toEqual(['a', 'b']);
    expect(control.state).toBe('running');
  });

  it('takes no steps', () => {
    expect(() => control.stepDma()).toThrow(/runs/);
    expect(() => control.stepRegister(() => {})).toThrow(/runs/);
  });

  it('is not changed by going on', () => {
    control.resume();
    expect(trace.events).toEqual([]);
  });
});

describe('a paused machine', () => {
  it('does no jobs, serves nobody, and says so once', () => {
    pause();
    pause();
    control.push(job('a'));
    rounds();
    expect(ran).toEqual([]);
    expect(servers.map(({ serves }) => serves)).toEqual([false, false]);
    expect(trace.kinds()).toEqual(['machine.paused']);
    expect(control.held).toBe(1);
  });

  it('goes on with what waited, in its order, before what comes then', () => {
    pause();
    control.push(job('a'));
    control.push(() => {
      ran.push('b');
      control.push(job('caused by b'));
    });
    control.push(job('c'));
    order(() => control.resume());
    control.push(job('late'));
    rounds();
    expect(ran).toEqual(['a', 'b', 'c', 'late', 'caused by b']);
    expect(servers.map(({ serves }) => serves)).toEqual([true, true]);
    expect(trace.kinds()).toEqual(['machine.paused', 'machine.resumed']);
    expect(control.held).toBe(0);
  });

  it('still does what was queued before the order to pause, and nothing that came after it', () => {
    control.push(() => {
      ran.push('before');
      control.push(job('caused later'));
    });
    control.announcePause();
    control.push(job('after'));
    order(() => control.pause());
    rounds();
    expect(ran).toEqual(['before']);
    order(() => control.resume());
    rounds();
    expect(ran).toEqual(['before', 'after', 'caused later']);
  });

  it('stays paused where an order to go on is followed at once by one to pause', () => {
    pause();
    control.push(job('a'));
    loop.push(() => control.resume());
    control.announcePause();
    loop.push(() => control.pause());
    rounds();
    expect(ran).toEqual([]);
    expect(control.state).toBe('paused');
    order(() => control.resume());
    rounds();
    expect(ran).toEqual(['a']);
  });

  it('can be paused by one of the jobs that waited, and keeps the rest', () => {
    pause();
    control.push(() => {
      ran.push('a');
      control.pause();
    });
    control.push(job('b'));
    order(() => control.resume());
    rounds();
    expect(ran).toEqual(['a']);
    order(() => control.resume());
    rounds();
    expect(ran).toEqual(['a', 'b']);
  });

  it('tells the loop of a job that failed, and goes on', () => {
    pause();
    control.push(() => {
      throw new Error('broken');
    });
    control.push(job('b'));
    order(() => control.resume());
    rounds();
    expect(errors).toMatchObject([{ message: 'broken' }]);
    expect(ran).toEqual(['b']);
  });

  it('keeps nothing of jobs that go on for ever, once it runs again', () => {
    const chain = () => {
      transfers++;
      control.push(chain);
    };
    pause();
    control.push(chain);
    control.push(chain);
    order(() => control.resume());
    for (let i = 0; i < 5000; i++) loop.runOnce(0);
    expect(transfers).toBeGreaterThan(1000);
    expect(control.held).toBe(0);
    expect(Reflect.get(control, 'waiting')).toHaveLength(0);
  });

  it('forgets what it has done step by step', () => {
    const chain = () => control.push(chain);
    pause();
    control.push(chain);
    control.push(chain);
    for (let i = 0; i < 4; i++) order(() => control.stepDma());
    expect(control.held).toBe(2);
    expect(Reflect.get(control, 'waiting').length).toBeLessThan(STEP_JOBS_MAX);
  });

  it('goes on by itself where more waits than there is room for', () => {
    pause();
    for (let i = 0; i <= WAITING_JOBS_MAX; i++) {
      control.push(() => {
        transfers++;
      });
    }
    rounds();
    expect(control.state).toBe('running');
    expect(transfers).toBe(WAITING_JOBS_MAX + 1);
    expect(trace.kinds()).toEqual(['machine.paused', 'machine.overflow', 'machine.resumed']);
  });

  it('serves clients while a job waits for one, and only then', () => {
    pause();
    let during: boolean | undefined;
    order(() =>
      loop.waitUntil(() => {
        during = servers[0]!.serves;
        return true;
      }, 0),
    );
    expect(during).toBe(true);
    expect(servers[0]!.serves).toBe(false);
  });
});

describe('a step of one transfer', () => {
  it('does jobs up to the one that makes it, and no more', () => {
    pause();
    control.push(job('a'));
    control.push(transfer('b'));
    control.push(transfer('c'));
    expect(order(() => control.stepDma()).value).toBe(true);
    expect(ran).toEqual(['a', 'b']);
    expect(order(() => control.stepDma()).value).toBe(true);
    expect(ran).toEqual(['a', 'b', 'c']);
    expect(trace.events.at(-1)).toMatchObject({ kind: 'machine.stepped', detail: { what: 'dma', transfers: 1 } });
  });

  it('follows what jobs cause', () => {
    pause();
    control.push(() => {
      ran.push('a');
      control.push(transfer('caused'));
    });
    control.push(job('b'));
    expect(order(() => control.stepDma()).value).toBe(true);
    expect(ran).toEqual(['a', 'b', 'caused']);
    expect(control.state).toBe('paused');
  });

  it('says that there was none', () => {
    pause();
    control.push(job('a'));
    expect(order(() => control.stepDma()).value).toBe(false);
    expect(ran).toEqual(['a']);
    expect(control.state).toBe('paused');
    expect(servers[0]!.serves).toBe(false);
  });

  it('ends where jobs cause jobs without end', () => {
    pause();
    let runs = 0;
    const again = () => {
      runs++;
      control.push(again);
    };
    control.push(again);
    expect(order(() => control.stepDma()).value).toBe(false);
    expect(runs).toBe(STEP_JOBS_MAX);
  });
});

describe('a step of one register access', () => {
  function step(): boolean[] {
    const answers: boolean[] = [];
    order(() => control.stepRegister(stepped => answers.push(stepped)));
    return answers;
  }

  it('serves one that waits, of whichever client', () => {
    pause();
    servers[1]!.arrive('x', 'y');
    expect(step()).toEqual([true]);
    expect(servers[1]!.served).toEqual(['x']);
    expect(servers.map(({ serves }) => serves)).toEqual([false, false]);
  });

  it('serves one only where several clients have some', () => {
    pause();
    servers[0]!.arrive('x');
    servers[1]!.arrive('y');
    expect(step()).toEqual([true]);
    expect([servers[0]!.served, servers[1]!.served]).toEqual([['x'], []]);
    expect(servers.map(({ serves }) => serves)).toEqual([false, false]);
    expect(step()).toEqual([true]);
    expect(servers[1]!.served).toEqual(['y']);
  });

  it('does no jobs', () => {
    pause();
    control.push(job('a'));
    servers[0]!.arrive('x');
    step();
    rounds();
    expect(ran).toEqual([]);
  });

  it('waits for the guest', () => {
    pause();
    const answers = step();
    expect(answers).toEqual([]);
    servers[0]!.arrive('x', 'y');
    expect(answers).toEqual([true]);
    expect(servers[0]!.served).toEqual(['x']);
  });

  it('ends in time where the guest does nothing', () => {
    pause();
    const answers = step();
    expect(loop.waitUntil(() => answers.length > 0, PATIENCE_MS)).toBe(true);
    expect(answers).toEqual([false]);
    expect(servers.map(({ serves }) => serves)).toEqual([false, false]);
  });

  it('ends without an access when the machine goes on, or is paused once more', () => {
    pause();
    const first = step();
    order(() => control.resume());
    expect(first).toEqual([false]);
    expect(servers[0]!.serves).toBe(true);
    pause();
    const second = step();
    pause();
    expect(second).toEqual([false]);
    servers[0]!.arrive('x');
    expect(servers[0]!.served).toEqual([]);
  });

  it('is one at a time, and no other step beside it', () => {
    pause();
    step();
    expect(() => control.stepRegister(() => {})).toThrow(/under way/);
    expect(() => control.stepDma()).toThrow(/under way/);
  });

  it('does not watch clients any more when the machine has gone on', () => {
    pause();
    servers[0]!.arrive('x');
    step();
    order(() => control.resume());
    const before = trace.events.length;
    servers[0]!.arrive('y', 'z');
    expect(servers[0]!.served).toEqual(['x', 'y', 'z']);
    expect(trace.events).toHaveLength(before);
  });
});
