/** Answers requests: finds the machine, checks the arguments, asks, and names the status. */
import type { Answer, OperationName } from '../iommu/dma-iommu/operations.ts';
import {
  ArgumentError,
  type Check,
  checked,
  count,
  list,
  optional,
  record,
  text,
  uint16,
  uint32,
  uint64,
  whole,
} from '../machine/argument-checks.ts';
import type { FindingsAnswer } from '../machine/debug-commands.ts';
import { checkDescription, DescriptionError, type MachineDescription } from '../machine/description.ts';
import { checkInjectionRule } from '../machine/injection/rules.ts';
import { type StepWhat, TLB_LIMIT_MAX } from '../machine/inspection.ts';
import {
  checkArguments,
  checkInterfaceArguments,
  checkProbeArguments,
  isOperationName,
} from '../machine/operations-command.ts';
import { EVENT_KINDS } from '../trace/event-kinds.ts';
import { PolicyError, parsePolicy, type SanitizePolicy } from '../trace/sanitizer/policy.ts';
import type { LeaseAnswer, LeaseRequest } from './leases.ts';
import {
  defaultLimits,
  MAX_GRACE_ASKED,
  MAX_KIND_CHARACTERS,
  MAX_KINDS,
  MAX_LEASE_ID_CHARACTERS,
  MAX_MACHINE_CHARACTERS,
  MAX_POLICY_CHARACTERS,
  MAX_QUOTED_CHARACTERS,
} from './limits.ts';
import type { MachineEnd, MachinePort } from './machine-port.ts';
import {
  ErrorCode,
  type Named,
  named,
  RemoteError,
  type RemoteRequest,
  type ServiceName,
  serviceNames,
  success,
} from './protocol.ts';
import type { SubscriptionCounts, SubscriptionRequest } from './subscriptions.ts';

export interface ResumeRequest {
  readonly lease: string;
  /** Those that are to go on, by the numbers that they had; all others to the machine end. */
  readonly subscriptions?: readonly number[] | undefined;
}

export interface ResumedSubscription extends SubscriptionCounts {
  /** Its number from now on. */
  readonly subscription: number;
}

export interface ResumedAnswer extends LeaseAnswer {
  readonly subscription: number;
  /** In the order of the request; null: there is none of that number. */
  readonly subscriptions: readonly (ResumedSubscription | null)[];
  /** The machine has ended by itself. */
  readonly ended?: MachineEnd;
}

/** The client's own state, as far as requests change it. */
export interface Subscriber {
  /** Throws a `RemoteError` where there are too many. */
  subscribe(request: SubscriptionRequest): number;
  /** undefined: no such subscription. */
  unsubscribe(id: number): SubscriptionCounts | undefined;
  /** A subscription to records of these classes. Throws a `RemoteError` where there are too many. */
  record(machine: string, port: MachinePort, classes: number): number;
  /** A subscription to which machines there are. Throws a `RemoteError` where there are too many. */
  watch(): number;
  /** A machine of its own, until it is released or the client goes. Rejects with a `RemoteError`. */
  lease(request: LeaseRequest): Promise<LeaseAnswer>;
  /** Takes a lease over from a connection that is lost. Throws a `RemoteError`. */
  resumeLease(request: ResumeRequest): ResumedAnswer;
  /** What the machine's sanitizer found in all. Rejects with a `RemoteError`. */
  release(machine: string, lease?: string): Promise<FindingsAnswer>;
}

export type Machines = ReadonlyMap<string, MachinePort>;

const anything: Check<unknown> = value => value;
const request = record<RemoteRequest>({
  id: count,
  machine: optional(text(MAX_MACHINE_CHARACTERS)),
  operation: text(MAX_QUOTED_CHARACTERS),
  args: anything,
});
const noArguments = optional(record<object>({}));
const kind = text(MAX_KIND_CHARACTERS);
/** A context is given back as it came, so that nothing but text and numbers can be behind it. */
const context: Check<string | number> = (value, where) =>
  typeof value === 'number' ? value : text(MAX_QUOTED_CHARACTERS)(value, where);
const subscription = record<{ kinds: string[]; context?: unknown }>({
  kinds: list(kind, MAX_KINDS),
  context: optional(context),
});
const recording = record<{ classes: number }>({ classes: uint32 });
/** 20 bits (PCI Express 6.0, 6.20). */
const PASID_MAX = 0xfffff;
const functionName = record<{ function: string }>({ function: text(MAX_MACHINE_CHARACTERS) });
const walk = record<{ requesterId: number; iova: bigint; pasid?: number | undefined }>({
  requesterId: uint16,
  iova: uint64,
  pasid: optional(whole(0, PASID_MAX)),
});
const tlb = record<{ limit: number }>({ limit: whole(0, TLB_LIMIT_MAX) });
const stepWhat: Check<StepWhat> = (value, where) => {
  if (value === 'dma' || value === 'register') return value;
  throw new ArgumentError(`'${where}' must be 'dma' or 'register'`);
};
const step = record<{ what: StepWhat }>({ what: stepWhat });
const anyDescription: Check<MachineDescription> = value => {
  try {
    return checkDescription(value);
  } catch (error) {
    if (error instanceof DescriptionError) throw new ArgumentError(error.message);
    throw error;
  }
};
const policyText = text(MAX_POLICY_CHARACTERS);
const policy: Check<SanitizePolicy> = (value, where) => {
  const list = policyText(value, where);
  try {
    return parsePolicy(list);
  } catch (error) {
    if (error instanceof PolicyError) throw new ArgumentError(error.message);
    throw error;
  }
};
const leaseRequest = record<LeaseRequest>({
  description: optional(anyDescription),
  sanitize: optional(policy),
  grace: optional(whole(0, MAX_GRACE_ASKED)),
});
const resumeRequest = record<ResumeRequest>({
  lease: text(MAX_LEASE_ID_CHARACTERS),
  subscriptions: optional(list(uint32, defaultLimits.subscriptions)),
});
const leasedMachine = record<{ machine: string; lease?: string | undefined }>({
  machine: text(MAX_MACHINE_CHARACTERS),
  lease: optional(text(MAX_LEASE_ID_CHARACTERS)),
});
const injectionId = record<{ injection: number }>({ injection: uint32 });
const subscriptionId = record<{ subscription: number }>({ subscription: uint32 });

/** Throws a `RemoteError`. */
export function checkRequest(message: unknown): RemoteRequest {
  return accept(checked(request, message, 'request'), ErrorCode.malformed);
}

/** The id of a request that is otherwise wrong, so that its client can tell which one it was. */
export function requestId(message: Readonly<Record<string, unknown>>): number | null {
  const id = checked(count, message.id, 'id');
  return typeof id === 'number' ? id : null;
}

/** Rejects with a `RemoteError`. */
export async function answerRequest(
  request: RemoteRequest,
  machines: Machines,
  subscriber: Subscriber,
): Promise<Named<Answer>> {
  const { operation, args } = request;
  if (isOperationName(operation)) return await operate(findMachine(request, machines).port, operation, args);
  if (isServiceName(operation)) return await services[operation](request, machines, subscriber);
  throw new RemoteError(ErrorCode.unknownOperation, `there is no operation '${operation}'`);
}

async function operate(port: MachinePort, operation: OperationName, args: unknown): Promise<Named<Answer>> {
  const typed = accept(checkArguments(operation, args ?? {}));
  return named(await ask(port.operate(operation, typed)));
}

type Service = (request: RemoteRequest, machines: Machines, subscriber: Subscriber) => Promise<Named<Answer>>;

const services: Readonly<Record<ServiceName, Service>> = {
  async machines({ args }, machines) {
    accept(checked(noArguments, args, 'args'));
    return success({ machines: [...machines.keys()] });
  },
  async watch({ args }, machines, subscriber) {
    accept(checked(noArguments, args, 'args'));
    return success({ subscription: subscriber.watch(), machines: [...machines.keys()] });
  },
  async lease({ args }, _machines, subscriber) {
    return success(await subscriber.lease(accept(checked(leaseRequest, args ?? {}, 'args'))));
  },
  async resumeLease({ args }, _machines, subscriber) {
    return success(subscriber.resumeLease(accept(checked(resumeRequest, args, 'args'))));
  },
  async release({ args }, _machines, subscriber) {
    const { machine, lease } = accept(checked(leasedMachine, args, 'args'));
    return success(await subscriber.release(machine, lease));
  },
  async describe(request, machines) {
    accept(checked(noArguments, request.args, 'args'));
    const { name, port } = findMachine(request, machines);
    const { description, kinds = EVENT_KINDS, replays = false } = port;
    return success({ machine: name, description, kinds, replays });
  },
  async interface(request, machines) {
    const args = accept(checkInterfaceArguments(request.args));
    return named(await ask(findMachine(request, machines).port.getInterface(args)));
  },
  async probe(request, machines) {
    const args = accept(checkProbeArguments(request.args));
    return success({ probe: await ask(findMachine(request, machines).port.probe(args)) });
  },
  async statistics(request, machines) {
    accept(checked(noArguments, request.args, 'args'));
    return success({ statistics: await ask(findMachine(request, machines).port.statistics()) });
  },
  async snapshot(request, machines) {
    accept(checked(noArguments, request.args, 'args'));
    return success({ snapshot: await ask(findMachine(request, machines).port.snapshot()) });
  },
  async subscribe(request, machines, subscriber) {
    const { kinds, context } = accept(checked(subscription, request.args, 'args'));
    const machine = findMachine(request, machines).name;
    return success({ subscription: subscriber.subscribe({ machine, kinds, context }) });
  },
  async unsubscribe({ args }, _machines, subscriber) {
    const id = accept(checked(subscriptionId, args, 'args')).subscription;
    const counts = subscriber.unsubscribe(id);
    if (!counts) throw new RemoteError(ErrorCode.badArguments, `there is no subscription ${id}`);
    return success(counts);
  },
  async findings(request, machines) {
    accept(checked(noArguments, request.args, 'args'));
    return success(await ask(findMachine(request, machines).port.findings()));
  },
  async mappings(request, machines) {
    accept(checked(noArguments, request.args, 'args'));
    return success(await ask(findMachine(request, machines).port.mappings()));
  },
  async record(request, machines, subscriber) {
    const { classes } = accept(checked(recording, request.args, 'args'));
    const { name, port } = findMachine(request, machines);
    const subscription = subscriber.record(name, port, classes);
    return success({ subscription, machine: port.description, kinds: port.kinds ?? EVENT_KINDS });
  },
  async inject(request, machines) {
    const rule = accept(checkInjectionRule(request.args));
    return success({ injection: await ask(findMachine(request, machines).port.inject(rule)) });
  },
  async releaseInjection(request, machines) {
    return await changeInjection(request, machines, 'releaseInjection');
  },
  async removeInjection(request, machines) {
    return await changeInjection(request, machines, 'removeInjection');
  },
  async injections(request, machines) {
    accept(checked(noArguments, request.args, 'args'));
    return success({ injections: await ask(findMachine(request, machines).port.injections()) });
  },
  async inspect(request, machines) {
    accept(checked(noArguments, request.args, 'args'));
    return success(await ask(findMachine(request, machines).port.inspect()));
  },
  async registers(request, machines) {
    const args = accept(checked(functionName, request.args, 'args'));
    return success(await ask(findMachine(request, machines).port.registers(args.function)));
  },
  async walk(request, machines) {
    const { requesterId, iova, pasid } = accept(checked(walk, request.args, 'args'));
    return success({ walk: await ask(findMachine(request, machines).port.walk(requesterId, iova, pasid)) });
  },
  async tlb(request, machines) {
    const { limit } = accept(checked(tlb, request.args, 'args'));
    return success(await ask(findMachine(request, machines).port.tlb(limit)));
  },
  async queue(request, machines) {
    accept(checked(noArguments, request.args, 'args'));
    return success(await ask(findMachine(request, machines).port.queue()));
  },
  async pause(request, machines) {
    accept(checked(noArguments, request.args, 'args'));
    return success(await ask(findMachine(request, machines).port.pause()));
  },
  async step(request, machines) {
    const { what } = accept(checked(step, request.args, 'args'));
    return success(await ask(findMachine(request, machines).port.step(what)));
  },
  async resume(request, machines) {
    accept(checked(noArguments, request.args, 'args'));
    return success(await ask(findMachine(request, machines).port.resume()));
  },
};

async function changeInjection(
  request: RemoteRequest,
  machines: Machines,
  change: 'releaseInjection' | 'removeInjection',
): Promise<Named<Answer>> {
  const { injection } = accept(checked(injectionId, request.args, 'args'));
  const found = await ask(findMachine(request, machines).port[change](injection));
  if (!found) throw new RemoteError(ErrorCode.badArguments, `there is no injection ${injection}`);
  return success({});
}

function isServiceName(name: string): name is ServiceName {
  return (serviceNames as readonly string[]).includes(name);
}

function findMachine({ machine }: RemoteRequest, machines: Machines): { name: string; port: MachinePort } {
  const [first, second] = machines;
  if (first === undefined) throw new RemoteError(ErrorCode.unknownMachine, 'the server has no machine now');
  if (machine === undefined && second !== undefined) {
    throw new RemoteError(
      ErrorCode.unknownMachine,
      `say which machine is meant: one of ${[...machines.keys()].join(', ')}`,
    );
  }
  const name = machine ?? first[0];
  const port = machines.get(name);
  if (!port) throw new RemoteError(ErrorCode.unknownMachine, `there is no machine '${name}', or none any more`);
  return { name, port };
}

/** What the machine could not answer is told to the client as it is. */
async function ask<T>(promise: Promise<T>): Promise<T> {
  try {
    return await promise;
  } catch (error) {
    throw new RemoteError(ErrorCode.failed, error instanceof Error ? error.message : String(error));
  }
}

function accept<T>(value: T | ArgumentError, code: ErrorCode = ErrorCode.badArguments): T {
  if (value instanceof ArgumentError) throw new RemoteError(code, value.message);
  return value;
}
