// Runs of training in words and curves: joined as they grow, smoothed, and where their axes have marks.
import type { Curve, Run, Series, TwoSeries } from "../api/types";
import { duration } from "../shell/format";

export type XY = [number, number];

/** What a run is doing, in words. */
export function stateOf(run: Run): string {
  if (run.planned !== null && run.steps >= run.planned) return "Done";
  if (!run.going) return "Stopped";
  return run.seconds_left === null ? "Running" : `Running, about ${duration(run.seconds_left)} left`;
}

/** What is known of a curve with what is new of steps above `after`; null where the server has thinned it anew. */
export function joined(known: Curve, fresh: Curve, after: number): Curve | null {
  let same = true;
  const series = (old: Series, { width, points, means }: Series): Series => {
    if (old.means.length > 0 && old.width !== width) same = false;
    const from = means[0]?.[0] ?? Infinity;
    return {
      width,
      points: [...old.points.filter(([step]) => step <= after), ...points],
      means: [...old.means.filter(([first]) => first < from), ...means],
    };
  };
  const two = (old: TwoSeries | null, now: TwoSeries | null) =>
    old && now ? { learned: series(old.learned, now.learned), held_out: series(old.held_out, now.held_out) } : (now ?? old);
  const curve: Curve = {
    loss: series(known.loss, fresh.loss),
    held_out: series(known.held_out, fresh.held_out),
    learning_rate: series(known.learning_rate, fresh.learning_rate),
    tokens_per_second: series(known.tokens_per_second, fresh.tokens_per_second),
    accuracy: two(known.accuracy, fresh.accuracy),
    reward: two(known.reward, fresh.reward),
    samples: [...known.samples.filter(({ step }) => step <= after), ...fresh.samples],
    dropped_steps: [...known.dropped_steps.filter((step) => step <= after), ...fresh.dropped_steps],
  };
  return same ? curve : null;
}

/** The means of buckets, each at its middle. */
export function middles({ means }: Series): XY[] {
  return means.map(([first, last, mean]) => [(first + last) / 2, mean]);
}

/** Neighbours on either side that smoothing takes in, as a part of all. */
const REACH = 0.02;

/** A line without its noise: the mean of each value with its neighbours, the far ones counting less. At the ends as many
 * are taken from the left as from the right, so that a line that falls is not held up. */
export function smoothed(line: XY[]): XY[] {
  const reach = Math.ceil(line.length * REACH);
  return line.map(([x], at) => {
    const near = Math.min(reach, at, line.length - 1 - at);
    let sum = 0;
    let weights = 0;
    for (let by = -near; by <= near; by++) {
      const weight = near + 1 - Math.abs(by);
      sum += weight * line[at + by]![1];
      weights += weight;
    }
    return [x, sum / weights];
  });
}

/** The place in `points`, which go up, of the one nearest to `x`; -1 where there is none. */
export function nearest(points: XY[], x: number): number {
  let low = 0;
  let high = points.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle]![0] < x) low = middle + 1;
    else high = middle;
  }
  if (low === points.length) return low - 1;
  return low > 0 && x - points[low - 1]![0] <= points[low]![0] - x ? low - 1 : low;
}

/** Round numbers from `low` to `high`, about `count` of them: 1, 2 or 5 times a power of ten apart. */
export function ticks(low: number, high: number, count: number): number[] {
  if (!(high > low)) return [low];
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const gap = [1, 2, 5, 10].map((factor) => factor * power).find((gap) => gap >= rough * 0.999)!;
  const out: number[] = [];
  // What is added makes 0 of -0.
  for (let n = Math.ceil(low / gap - 1e-9); n * gap <= high + gap * 1e-9; n++) out.push(n * gap + 0);
  return out;
}

/** From where to where the values of lines go, with some room; single points that are far off do not count. */
export function range(lines: XY[][], points: XY[][]): XY {
  const values = lines.flat().map(([, y]) => y);
  for (const list of points) {
    const sorted = list.map(([, y]) => y).sort((a, b) => a - b);
    const off = Math.floor(sorted.length * 0.02);
    if (sorted.length > 0) values.push(sorted[off]!, sorted[sorted.length - 1 - off]!);
  }
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return [0, 1];
  const room = high > low ? (high - low) * 0.04 : Math.abs(high) * 0.1 || 1;
  return [low - room, high + room];
}
