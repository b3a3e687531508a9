/** What a PCI function is, as data: the configuration space, BARs and interrupts are built from it. */

export interface FunctionIdentity {
  readonly vendorId: number;
  readonly deviceId: number;
  readonly revisionId: number;
  /** Class, subclass, programming interface: 24 bits. */
  readonly classCode: number;
  readonly subsystemVendorId: number;
  readonly subsystemId: number;
}

/** A memory BAR. I/O BARs are not offered: QEMU's client would need port forwarding that no endpoint here wants. */
export interface BarDefinition {
  /** 0-5; a 64-bit BAR takes the next index too. */
  readonly index: number;
  /** Size in bytes: a power of two, at least 16 (PCI Local Bus 3.0, 6.2.5.1). */
  readonly bytes: number;
  readonly width: 32 | 64;
  readonly prefetchable: boolean;
}

export interface MsiDefinition {
  /** 1, 2, 4, 8, 16 or 32. */
  readonly vectors: number;
  readonly wide: boolean;
  readonly maskable: boolean;
}

export interface MsixDefinition {
  /** 1-2048. */
  readonly vectors: number;
  readonly table: { readonly bar: number; readonly offset: number };
  readonly pending: { readonly bar: number; readonly offset: number };
}

export interface FunctionDefinition {
  readonly identity: FunctionIdentity;
  readonly bars: readonly BarDefinition[];
  /** PCI Express endpoint: 4096 bytes of configuration space and the PCI Express capability; otherwise 256 bytes. */
  readonly express: boolean;
  /** 0: none; 1-4: INTA-INTD. */
  readonly interruptPin: number;
  readonly msi?: MsiDefinition;
  readonly msix?: MsixDefinition;
  /** Command register bits that read as one whatever software writes. */
  readonly hardwiredCommand?: number;
}
