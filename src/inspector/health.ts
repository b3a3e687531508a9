/** Whether every device thread answers: for those who start a server and watch it. Tells nobody more than that, so it needs no token. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { HEALTH_MILLISECONDS } from './limits.ts';
import type { MachinePort } from './machine-port.ts';

export const HEALTH_PATH = '/healthz';

export interface HealthAnswer {
  readonly status: 'ok' | 'failing';
  readonly machines: number;
}

export class Health {
  private readonly asked = new WeakMap<MachinePort, Promise<boolean>>();
  private checking: Promise<HealthAnswer> | undefined;

  constructor(
    private readonly machines: ReadonlyMap<string, MachinePort>,
    private readonly milliseconds: number = HEALTH_MILLISECONDS,
  ) {}

  /** However many ask, the machines are asked once. */
  check(): Promise<HealthAnswer> {
    this.checking ??= this.checkAll().finally(() => {
      this.checking = undefined;
    });
    return this.checking;
  }

  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    request.resume();
    const headers = { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' };
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.writeHead(405, { ...headers, Allow: 'GET, HEAD' }).end();
      return;
    }
    const health = await this.check();
    response.writeHead(health.status === 'ok' ? 200 : 503, headers);
    response.end(request.method === 'HEAD' ? undefined : JSON.stringify(health));
  }

  private async checkAll(): Promise<HealthAnswer> {
    const ports = [...this.machines.values()];
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<false>(resolve => {
      timer = setTimeout(() => resolve(false), this.milliseconds);
    });
    const answers = ports.map(port => Promise.race([this.ask(port), late]));
    const isWell = (await Promise.all(answers)).every(answer => answer);
    clearTimeout(timer);
    return { status: isWell ? 'ok' : 'failing', machines: ports.length };
  }

  /** Who has not answered yet is not asked again. */
  private ask(port: MachinePort): Promise<boolean> {
    const waiting = this.asked.get(port);
    if (waiting) return waiting;
    const answer = (port.alive?.() ?? Promise.resolve()).then(
      () => true,
      () => false,
    );
    this.asked.set(port, answer);
    void answer.then(() => this.asked.delete(port));
    return answer;
  }
}
