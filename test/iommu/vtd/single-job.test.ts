import { describe, expect, it } from 'vitest';
import { SingleJob } from '../../../src/iommu/vtd/single-job.ts';

function make() {
  const jobs: (() => void)[] = [];
  const core = { generation: 0, later: (_what: string, job: () => void) => void jobs.push(job) };
  return { jobs, core, job: new SingleJob(core, 'queue') };
}

describe('SingleJob', () => {
  it('is queued once however often it is asked for', () => {
    const { jobs, job } = make();
    let runs = 0;
    for (let n = 0; n < 1000; n++) job.schedule(() => runs++);
    expect(jobs.length).toBe(1);
    jobs[0]!();
    expect(runs).toBe(1);
  });

  it('is queued again once it has run, also from within itself', () => {
    const { jobs, job } = make();
    job.schedule(() => job.schedule(() => {}));
    jobs.shift()!();
    expect(jobs.length).toBe(1);
  });

  it('is queued again after a reset dropped what was queued', () => {
    const { jobs, core, job } = make();
    job.schedule(() => {});
    jobs.length = 0;
    core.generation++;
    job.schedule(() => {});
    expect(jobs.length).toBe(1);
  });
});
