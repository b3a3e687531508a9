/** A guest that polls without end, and descriptors that change under the device's eyes. */
import { wordsText } from './text.ts';
import type { World } from './world.ts';

const CONFIG_REGION = 7;

export function guestSpins(world: World, source: string, time: number, payload: Int32Array): void {
  const region = payload[0]! & 0xf;
  const offset = payload[1]! >>> 0;
  const value = payload[2]! >>> 0;
  const place = region === CONFIG_REGION ? 'configuration space' : `BAR ${region}`;
  const text = `${world.describeSource(source)}: the guest read offset 0x${offset.toString(16)} of ${place} ${payload[3]! >>> 0} times in ${payload[4]! >>> 0} ms, and it was 0x${value.toString(16)} each time`;
  const access = { time, kind: 'register.spin', source, text };
  world.log.report({ detector: 'register-spin', device: source, key: `${region} ${offset}`, access }, () => ({
    summary: text,
    explanation:
      'The guest did nothing else with the device meanwhile, and the register did not change: what it waits for does not come.',
  }));
}

export function descriptorChanged(world: World, source: string, time: number, payload: Int32Array): void {
  const address = wordsText(payload[1]!, payload[2]!);
  const before = wordsText(payload[5]!, payload[6]!);
  const after = wordsText(payload[7]!, payload[8]!);
  const text = `the descriptor of ${payload[4]! >>> 0} bytes at ${address} changed while ${world.describeSource(source)} read it: ${before} became ${after} at offset ${payload[3]! >>> 0}`;
  const access = { time, kind: 'descriptor.changed', source, text };
  world.log.report({ detector: 'descriptor-race', device: source, key: 'queue', access }, () => ({
    summary: text,
    explanation:
      'The first reading was carried out. Hardware reads once, or more often, at a time that nobody can foresee: it may see either, or half of each.',
  }));
}
