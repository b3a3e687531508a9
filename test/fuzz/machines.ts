/** The machines that are fuzzed: each kind of IOMMU, endpoints to be fuzzed, and one that a witness does right things with. */
import type { IommuKindName } from '../../src/machine/description.ts';
import { ANY_ANSWERS, PATIENT } from './answers.ts';
import type { FunctionKind } from './programs.ts';
import type { AnswerWay } from './steps.ts';

export interface FuzzedMachine {
  readonly name: string;
  readonly iommu: IommuKindName;
  readonly devices: readonly string[];
  /** To be fuzzed. */
  readonly functions: Readonly<Record<string, FunctionKind>>;
  readonly witness: string;
  /** The witness's DMA goes to its own memory as it is: nobody else can be in its way. */
  readonly witnessDoesDma: boolean;
  readonly answers: readonly AnswerWay[];
  /** The functions to be fuzzed offer what `offers.ts` says. */
  readonly offers?: boolean;
}

const DEVICES = ['edu@01:00.0,dmaMask=64', 'edu@02:00.0,dmaMask=64', 'edu@03:00.0,dmaMask=64'];

export const machines: readonly FuzzedMachine[] = [
  {
    name: 'vtd',
    iommu: 'vtd',
    devices: DEVICES,
    functions: { iommu: 'vtd', edu0: 'edu', edu1: 'edu' },
    witness: 'edu2',
    witnessDoesDma: false,
    answers: ANY_ANSWERS,
  },
  {
    name: 'dma-iommu',
    iommu: 'dma-iommu',
    devices: DEVICES,
    functions: { iommu: 'dma-iommu', edu0: 'edu', edu1: 'edu' },
    witness: 'edu2',
    witnessDoesDma: false,
    answers: ANY_ANSWERS,
  },
  {
    // A client that does not answer holds up the work of its whole machine for as long as a message may take; here none does that.
    name: 'none',
    iommu: 'none',
    devices: DEVICES,
    functions: { edu0: 'edu', edu1: 'edu' },
    witness: 'edu2',
    witnessDoesDma: true,
    answers: PATIENT,
  },
  {
    name: 'offering',
    iommu: 'none',
    devices: DEVICES,
    functions: { edu0: 'offering', edu1: 'offering' },
    witness: 'edu2',
    witnessDoesDma: false,
    answers: ANY_ANSWERS,
    offers: true,
  },
];
