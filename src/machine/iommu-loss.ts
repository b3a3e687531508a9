/**
 * What becomes of endpoints whose IOMMU goes away: a guest that has switched translation on must never find its devices past it. The
 * functions of a guest are connected one by one, and so one of them can be lost by itself. An IOMMU that is gone answers no request:
 * what depends on it reaches no memory, as behind a port whose link is down.
 *
 * An endpoint that comes while the IOMMU is gone may be the next guest's, or one that the same guest took out and put back: nothing
 * tells them apart, so it is blocked, too. The next guest does not notice: it has connected every function before it runs.
 */
import type { DmaPath } from '../iommu/dma-port.ts';
import type { Trace } from '../trace/trace.ts';

/** What of an endpoint's function is looked at: a `PciFunction`. */
export interface CuttableFunction {
  /** Undefined: nobody is connected. */
  readonly client: unknown;
  generation: number;
  readonly busMaster: boolean;
}

export class IommuLoss {
  private readonly links: EndpointLink[] = [];
  private iommuConnected = false;
  /** It has had a client. */
  private iommuUsed = false;

  constructor(private readonly trace: Trace) {}

  /** One more endpoint of the machine. */
  endpoint(name: string, pci: CuttableFunction): EndpointLink {
    const link = new EndpointLink(name, pci, this.trace, {
      iommuConnected: () => this.iommuConnected,
      iommuLost: () => this.iommuUsed && !this.iommuConnected,
    });
    this.links.push(link);
    return link;
  }

  connected(): void {
    this.iommuConnected = true;
    this.iommuUsed = true;
    for (const link of this.links) link.letIn();
  }

  disconnected(): void {
    this.iommuConnected = false;
    for (const link of this.links) link.cut();
  }
}

interface Platform {
  iommuConnected(): boolean;
  iommuLost(): boolean;
}

/** Of one endpoint, whatever PASID its requests carry. */
export class EndpointLink implements DmaPath {
  open = true;
  private told = false;
  /** It came while the IOMMU was gone, which has not been back since. */
  private waits = false;

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
    this.waits = false;
    // A transfer under way stops at its next page.
    this.pci.generation++;
  }

  connected(): void {
    if (!this.platform.iommuLost()) return;
    this.cut();
    this.waits = true;
  }

  disconnected(): void {
    this.open = true;
    this.waits = false;
  }

  /** The IOMMU is back, and off. An endpoint that nobody has let onto the bus yet was told nothing that could pass it. */
  letIn(): void {
    if (this.waits && !this.pci.busMaster) this.open = true;
    this.waits = false;
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
