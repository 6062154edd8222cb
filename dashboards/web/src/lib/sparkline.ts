//! A history as SVG path data in a box of 100 × 30. A missing bucket is a gap, never a line drawn across it.

import type { Bucket } from "./types";

export interface Drawn { line: string; band: string; /** The values at the lower and the upper edge. */ low: number; high: number }

/** Quantities that are read against their own range, zero being far away or no news, with the least that is shown
 * beyond it; all others are read against nothing at all. */
const OWN_RANGE: Record<string, number> = { "°C": 1, V: 1, Hz: 0.1, Wh: 10, Pa: 100 };

export function draw(buckets: Bucket[], unit: string): Drawn {
  const known = buckets.filter((bucket) => bucket !== null);
  if (known.length === 0) return { line: "", band: "", low: 0, high: 0 };
  const max = Math.max(...known.map((bucket) => bucket.max));
  const min = Math.min(...known.map((bucket) => bucket.min));
  const beyond = OWN_RANGE[unit];
  const low = beyond === undefined ? Math.min(0, min) : min - beyond;
  const high = beyond === undefined ? Math.max(max, low + 1) : max + beyond;
  const step = buckets.length > 1 ? 100 / (buckets.length - 1) : 0;
  const y = (value: number) => (28 - ((value - low) / (high - low)) * 26).toFixed(1);
  let line = "";
  let band = "";
  for (const run of runs(buckets)) {
    const at = (i: number) => ((run.start + i) * step).toFixed(1);
    line += run.part.map((b, i) => `${i === 0 ? "M" : "L"}${at(i)} ${y(b.mean)}`).join("");
    // A lone bucket is a dot: a line of no length with a round cap.
    if (run.part.length === 1) line += "h0.1";
    const top = run.part.map((b, i) => `${i === 0 ? "M" : "L"}${at(i)} ${y(b.max)}`).join("");
    const bottom = run.part.map((b, i) => `L${at(i)} ${y(b.min)}`).reverse().join("");
    band += `${top}${bottom}Z`;
  }
  return { line, band, low, high };
}

/** Where nothing is known, as begin and width in the box: from the last step before to the first one after. */
export function gaps(buckets: Bucket[]): [number, number][] {
  const step = buckets.length > 1 ? 100 / (buckets.length - 1) : 100;
  const edges = [...runs(buckets).map(({ start, part }) => [start, start + part.length - 1] as const), [buckets.length, 0] as const];
  let from = -1;
  return edges.flatMap(([first, last]): [number, number][] => {
    const [begin, end] = [Math.max(0, from * step), Math.min(100, first * step)];
    const missing = first - from > 1 && end > begin;
    from = last;
    return missing ? [[begin, end - begin]] : [];
  });
}

function runs(buckets: Bucket[]): { start: number; part: NonNullable<Bucket>[] }[] {
  const all: { start: number; part: NonNullable<Bucket>[] }[] = [];
  let open = false;
  buckets.forEach((bucket, i) => {
    if (bucket === null) { open = false; return; }
    if (!open) all.push({ start: i, part: [] });
    open = true;
    all.at(-1)?.part.push(bucket);
  });
  return all;
}
