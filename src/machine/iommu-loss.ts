/**
 * What becomes of endpoints whose IOMMU goes away: a guest that has switched translation on must never find its devices past it. The
 * functions of a guest are connected one by one, and so one of them can be lost by itself. An IOMMU that is gone answers no request:
 * what depends on it reaches no memory, as behind a port whose link is down.
 */
import type { DmaPath } from '../iommu/dma-port.ts';
import type { Trace } from '../trace/trace.ts';

/** What of an endpoint's function is looked at: a `PciFunction`. */
export interface CuttableFunction {
  /** Undefined: nobody is connected. */
  readonly client: unknown;
  generation: number;
}

export class IommuLoss {
  private readonly links: EndpointLink[] = [];
  private iommuConnected = false;

  constructor(private readonly trace: Trace) {}

  /** One more endpoint of the machine. */
  endpoint(name: string, pci: CuttableFunction): EndpointLink {
    const link = new EndpointLink(name, pci, this.trace, {
      iommuConnected: () => this.iommuConnected,
      // Only of a guest that is still there are some functions left behind.
      guestHasLost: () => !this.iommuConnected && this.links.some(one => !one.open),
    });
    this.links.push(link);
    return link;
  }

  connected(): void {
    this.iommuConnected = true;
  }

  disconnected(): void {
    this.iommuConnected = false;
    for (const link of this.links) link.cut();
  }
}

interface Platform {
  iommuConnected(): boolean;
  guestHasLost(): boolean;
}

/** Of one endpoint, whatever PASID its requests carry. */
export class EndpointLink implements DmaPath {
  open = true;
  private told = false;

  constructor(
    private readonly name: string,
    private readonly pci: CuttableFunction,
    private readonly trace: Trace,
    private readonly platform: Platform,
  ) {}

  /** Until the endpoint is reset under an IOMMU that is connected again, or its own client ends. */
  cut(): void {
    if (this.pci.client === undefined) return;
    this.open = false;
    this.told = false;
    // A transfer under way stops at its next page.
    this.pci.generation++;
  }

  connected(): void {
    if (this.platform.guestHasLost()) this.cut();
  }

  disconnected(): void {
    this.open = true;
  }

  /** An IOMMU that is back is off: what an endpoint was told before would pass it untranslated. */
  reset(): void {
    if (this.platform.iommuConnected()) this.open = true;
  }

  refused(): void {
    if (this.told) return;
    this.told = true;
    this.trace.note('endpoint.cutOff', this.name, { reason: "the IOMMU's client is gone" });
  }
}
