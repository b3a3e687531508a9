/** Paints an address space onto a canvas: a ruler, the mappings, and a lane of touches for each device. */
import { formatBytes, formatCount, formatPermissions, pageAddress } from '../format.ts';
import type { TouchedPages } from '../store/touches.ts';
import type { Mapping } from '../wire.ts';
import { firstMapping, type SpaceModel } from './space-model.ts';
import type { Viewport } from './viewport.ts';

export interface Palette {
  readonly paper: string;
  readonly panel: string;
  readonly line: string;
  readonly ink: string;
  readonly faint: string;
  readonly read: string;
  readonly write: string;
  readonly both: string;
  readonly alarm: string;
  readonly accent: string;
}

export interface Lane {
  readonly name: string;
  /** Its bit in masks of devices. */
  readonly device: number;
}

export interface Picture {
  readonly model: SpaceModel;
  readonly view: Viewport;
  readonly touched: TouchedPages | undefined;
  readonly lanes: readonly Lane[];
  /** Page under the pointer, and the one that was chosen. */
  readonly hover: number | undefined;
  readonly chosen: number | undefined;
  readonly width: number;
  readonly height: number;
  readonly palette: Palette;
}

/** Pixels. */
export const RULER = 26;
export const MAPPINGS = 64;
export const LANE = 62;
/** Height of a lane's name. */
const LABEL = 15;
/** The longest bar, above and below a lane's line. */
const BAR = 20;
const LABEL_GAP = 110;
const MONO = '11px ui-monospace, "DejaVu Sans Mono", "Liberation Mono", monospace';

export function heightOf(lanes: number): number {
  return RULER + MAPPINGS + Math.max(lanes, 1) * LANE + 8;
}

export function xOf(view: Viewport, width: number, position: number): number {
  return ((position - view.from) / (view.to - view.from)) * width;
}

export function positionAt(view: Viewport, width: number, x: number): number {
  return view.from + (x / width) * (view.to - view.from);
}

export function paintSpace(context: CanvasRenderingContext2D, picture: Picture): void {
  const { width, height, palette } = picture;
  context.fillStyle = palette.paper;
  context.fillRect(0, 0, width, height);
  context.font = MONO;
  context.textBaseline = 'middle';
  paintFolds(context, picture);
  paintRuler(context, picture);
  paintMappings(context, picture);
  paintLanes(context, picture);
  if (picture.chosen !== undefined) paintPage(context, picture, picture.chosen, palette.accent, 2);
  if (picture.hover !== undefined) paintPage(context, picture, picture.hover, palette.faint, 1);
}

/** Stretches that are folded: marked, with how much is hidden. */
function paintFolds(context: CanvasRenderingContext2D, { model, view, width, height, palette }: Picture): void {
  context.strokeStyle = palette.line;
  context.lineWidth = 1;
  for (const segment of model.folding.between(view.from, view.to)) {
    if (!segment.folded) continue;
    const left = xOf(view, width, segment.at);
    const right = xOf(view, width, segment.at + segment.length);
    context.fillStyle = palette.panel;
    context.fillRect(left, RULER, right - left, height - RULER);
    context.beginPath();
    for (const x of [left, right]) {
      for (let y = RULER; y < height; y += 8) {
        context.moveTo(x, y);
        context.lineTo(x + 3, y + 4);
        context.lineTo(x, y + 8);
      }
    }
    context.stroke();
    const text = formatBytes(segment.pages * 4096);
    const room = right - left;
    context.fillStyle = palette.faint;
    context.textAlign = 'center';
    const middle = (Math.max(left, 0) + Math.min(right, width)) / 2;
    if (room > context.measureText(text).width + 8) {
      context.fillText(text, middle, RULER + MAPPINGS / 2 - 7);
      context.fillText('nothing', middle, RULER + MAPPINGS / 2 + 7);
    }
  }
}

function paintRuler(context: CanvasRenderingContext2D, { model, view, width, palette }: Picture): void {
  context.fillStyle = palette.ink;
  context.strokeStyle = palette.line;
  context.textAlign = 'left';
  context.beginPath();
  context.moveTo(0, RULER - 0.5);
  context.lineTo(width, RULER - 0.5);
  let free = 0;
  for (const segment of model.folding.between(view.from, view.to)) {
    if (segment.folded) continue;
    const perPage = (width / (view.to - view.from)) * (segment.length / segment.pages);
    const step = 2 ** Math.max(Math.ceil(Math.log2(LABEL_GAP / perPage)), 0);
    const from = Math.max(segment.start, Math.floor(model.folding.page(Math.max(view.from, segment.at))));
    const to = Math.min(
      segment.start + segment.pages,
      model.folding.page(Math.min(view.to, segment.at + segment.length)) + 1,
    );
    // The first page of a stretch is named as well, although it is rarely a round one.
    for (let page = from; page < to; page = (Math.floor(page / step) + 1) * step) {
      const x = xOf(view, width, model.folding.position(page));
      if (x < free || x > width - 20) continue;
      const text = pageAddress(page);
      context.moveTo(x + 0.5, RULER - 6);
      context.lineTo(x + 0.5, RULER);
      context.fillText(text, x + 2, RULER / 2 - 2);
      free = x + context.measureText(text).width + 14;
    }
  }
  context.stroke();
}

function colourOf({ permissions }: Mapping, palette: Palette): string {
  return permissions === 3 ? palette.both : permissions === 2 ? palette.write : palette.read;
}

function paintMappings(context: CanvasRenderingContext2D, picture: Picture): void {
  const { model, view, width, palette } = picture;
  const { folding, mappings } = model;
  const last = folding.page(view.to);
  const top = RULER + 10;
  const height = MAPPINGS - 20;
  /** Where the last narrow one was drawn: many of them share a column. */
  let column = -1;
  for (let index = firstMapping(mappings, Math.floor(folding.page(view.from))); index < mappings.length; index++) {
    const mapping = mappings[index]!;
    if (mapping.page > last) break;
    const left = xOf(view, width, folding.position(mapping.page));
    const right = xOf(view, width, folding.position(mapping.page + mapping.pages));
    if (right - left < 1.5) {
      if (Math.floor(left) === column) continue;
      column = Math.floor(left);
      context.fillStyle = colourOf(mapping, palette);
      context.fillRect(column, top, 1, height);
      continue;
    }
    paintMapping(context, picture, mapping, Math.max(left, -4), Math.min(right, width + 4));
  }
}

function paintMapping(
  context: CanvasRenderingContext2D,
  { palette }: Picture,
  mapping: Mapping,
  left: number,
  right: number,
): void {
  const top = RULER + 10;
  const height = MAPPINGS - 20;
  const colour = colourOf(mapping, palette);
  const width = Math.max(right - left - 1, 1);
  context.save();
  context.beginPath();
  context.rect(left, top, width, height);
  context.clip();
  context.fillStyle = colour;
  context.globalAlpha = 0.28;
  context.fillRect(left, top, width, height);
  context.globalAlpha = 0.75;
  context.strokeStyle = colour;
  context.lineWidth = 1.5;
  hatch(context, mapping.permissions, left, top, width, height);
  context.globalAlpha = 1;
  const text = `${formatPermissions(mapping.permissions)} → ${mapping.frame < 0 ? 'scattered' : pageAddress(mapping.frame)}`;
  const size = context.measureText(text).width;
  if (width > size + 12) {
    context.fillStyle = palette.paper;
    context.fillRect(left + 4, top + height / 2 - 9, size + 6, 18);
    context.fillStyle = palette.ink;
    context.textAlign = 'left';
    context.fillText(text, left + 7, top + height / 2);
  }
  context.restore();
  context.strokeStyle = colour;
  context.lineWidth = 1;
  context.strokeRect(left + 0.5, top + 0.5, width - 1, height - 1);
}

/** Read only: strokes that rise; write only: lines; both: plain. */
export function hatch(
  context: CanvasRenderingContext2D,
  permissions: number,
  left: number,
  top: number,
  width: number,
  height: number,
): void {
  context.beginPath();
  if (permissions === 1) {
    for (let x = left - height - (left % 8); x < left + width; x += 8) {
      context.moveTo(x, top + height);
      context.lineTo(x + height, top);
    }
  } else if (permissions === 2) {
    for (let y = top + 4; y < top + height; y += 6) {
      context.moveTo(left, y);
      context.lineTo(left + width, y);
    }
  } else if (permissions === 3) {
    context.fillRect(left, top, width, height);
  }
  context.stroke();
}

/**
 * Reads stand above a lane's line, writes hang below it. Heights go by the logarithm: a page that was touched once is to be seen beside
 * one that was touched a million times.
 */
function paintLanes(context: CanvasRenderingContext2D, picture: Picture): void {
  let top = RULER + MAPPINGS;
  for (const lane of picture.lanes) {
    paintLane(context, picture, lane, top);
    top += LANE;
  }
}

function paintLane(context: CanvasRenderingContext2D, picture: Picture, { name, device }: Lane, top: number): void {
  const { width, palette } = picture;
  const line = top + LABEL + BAR;
  const columns = columnsOf(picture, device);
  const { reads, writes, failures, most } = columns;
  const size = (count: number) => (count === 0 ? 0 : 2 + (Math.log(count) / Math.log(most + 1)) * (BAR - 3));
  for (let x = 0; x < width; x++) {
    context.fillStyle = palette.read;
    context.fillRect(x, line - size(reads[x]!), 1, size(reads[x]!));
    context.fillStyle = palette.write;
    context.fillRect(x, line + 1, 1, size(writes[x]!));
    if (failures[x]! > 0 && !(failures[x - 1]! > 0)) paintAlarm(context, x, line, palette);
  }
  context.strokeStyle = palette.line;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(0, line + 0.5);
  context.lineTo(width, line + 0.5);
  context.stroke();
  context.textAlign = 'left';
  context.fillStyle = palette.faint;
  context.fillText(`${name}: up to ${formatCount(most)} × a page`, 5, top + LABEL / 2 + 1);
}

interface Columns {
  readonly reads: Float64Array;
  readonly writes: Float64Array;
  readonly failures: Float64Array;
  /** Of reads and of writes, of one page. */
  readonly most: number;
}

/** What one device did to the pages behind each column of pixels: the busiest of them counts. */
function columnsOf({ model, view, width, touched }: Picture, device: number): Columns {
  const { folding } = model;
  const count = Math.ceil(width) + 1;
  const reads = new Float64Array(count);
  const writes = new Float64Array(count);
  const failures = new Float64Array(count);
  let most = 1;
  const from = Math.floor(folding.page(view.from));
  touched?.within(from, folding.page(view.to), (page, read, written, failed, devices) => {
    if ((devices & (1 << device)) === 0) return;
    const start = Math.max(Math.floor(xOf(view, width, folding.position(page))), 0);
    const end = Math.min(Math.max(Math.ceil(xOf(view, width, folding.position(page + 1))) - 1, start + 1), count);
    most = Math.max(most, read, written);
    for (let x = start; x < end; x++) {
      reads[x] = Math.max(reads[x]!, read);
      writes[x] = Math.max(writes[x]!, written);
      failures[x] = Math.max(failures[x]!, failed);
    }
  });
  return { reads, writes, failures, most };
}

function paintAlarm(context: CanvasRenderingContext2D, x: number, middle: number, palette: Palette): void {
  context.fillStyle = palette.alarm;
  context.beginPath();
  context.moveTo(x, middle - 7);
  context.lineTo(x + 7, middle + 6);
  context.lineTo(x - 7, middle + 6);
  context.closePath();
  context.fill();
}

function paintPage(
  context: CanvasRenderingContext2D,
  { model, view, width, height }: Picture,
  page: number,
  colour: string,
  thickness: number,
): void {
  const left = xOf(view, width, model.folding.position(page));
  const right = xOf(view, width, model.folding.position(page + 1));
  context.strokeStyle = colour;
  context.lineWidth = thickness;
  context.strokeRect(left, RULER, Math.max(right - left, 1), height - RULER - 2);
}

/** All of the line, and which part of it the large picture shows. */
export function paintMini(context: CanvasRenderingContext2D, picture: Picture): void {
  const { model, view, width, height, palette } = picture;
  const whole: Viewport = { from: 0, to: model.folding.length };
  context.fillStyle = palette.panel;
  context.fillRect(0, 0, width, height);
  for (const { folded, at, length } of model.folding.segments) {
    if (folded) continue;
    context.fillStyle = palette.paper;
    context.fillRect(xOf(whole, width, at), 0, (length / model.folding.length) * width, height);
  }
  for (const mapping of model.mappings) {
    const left = xOf(whole, width, model.folding.position(mapping.page));
    const right = xOf(whole, width, model.folding.position(mapping.page + mapping.pages));
    context.fillStyle = colourOf(mapping, palette);
    context.fillRect(left, 8, Math.max(right - left, 1), height - 16);
  }
  const left = xOf(whole, width, view.from);
  const right = xOf(whole, width, view.to);
  context.strokeStyle = palette.accent;
  context.lineWidth = 2;
  context.strokeRect(Math.max(left, 1), 1, Math.max(Math.min(right, width - 1) - Math.max(left, 1), 4), height - 2);
}
