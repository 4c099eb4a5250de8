// Curves of training: joined as they grow, smoothed, and their axes.
import { describe, expect, test } from "vitest";

import type { Curve, Series } from "../src/api/types";
import { joined, middles, nearest, range, smoothed, stateOf, ticks, type XY } from "../src/training/curve";
import { ago, duration } from "../src/shell/format";
import { Random } from "./random";

/** What a server would say of `values`, the first being that of step 1, in buckets of `width` steps. */
function thinned(values: number[], width: number, after = 0): Series {
  const [points, means]: [Series["points"], Series["means"]] = [[], []];
  for (let first = 0; first < values.length; first += width) {
    const inside = values.slice(first, first + width);
    const last = first + inside.length;
    if (last <= after) continue;
    points.push(...inside.map((value, at): XY => [first + at + 1, value]).filter(([step]) => step > after));
    means.push([first + 1, last, inside.reduce((a, b) => a + b) / inside.length]);
  }
  return { width, points, means };
}

function curveOf(values: number[], width: number, after = 0): Curve {
  const series = thinned(values, width, after);
  const samples = values.map((_, at) => ({ step: at + 1, prompt: "", text: String(at) })).filter(({ step }) => step > after);
  return {
    loss: series, held_out: series, learning_rate: series, tokens_per_second: series,
    accuracy: null, reward: { learned: series, held_out: series }, samples, dropped_steps: samples.map(({ step }) => step),
  };
}

describe("a curve that grows", () => {
  test("is the same as one that is read at once, wherever it was asked for", () => {
    const random = new Random(3);
    for (let round = 0; round < 100; round++) {
      const values = Array.from({ length: 5 + random.below(60) }, () => random.below(100) / 10);
      const width = 1 + random.below(5);
      let steps = 1 + random.below(values.length);
      let known = curveOf(values.slice(0, steps), width);
      while (steps < values.length) {
        const after = Math.max(0, steps - 1);
        steps = Math.min(values.length, steps + random.below(9));
        known = joined(known, curveOf(values.slice(0, steps), width, after), after)!;
      }
      expect(known).toEqual(curveOf(values, width));
    }
  });

  test("is asked for anew when the server has thinned it", () => {
    expect(joined(curveOf([1, 2, 3], 1), curveOf([1, 2, 3, 4], 2, 3), 3)).toBeNull();
  });

  test("may get numbers that it did not have", () => {
    const before = { ...curveOf([1], 1), reward: null };
    expect(joined(before, curveOf([1, 2], 1, 1), 1)!.reward).toEqual(curveOf([1, 2], 1, 1).reward);
  });
});

describe("smoothing", () => {
  test("leaves straight lines and the ends as they are", () => {
    const straight = Array.from({ length: 300 }, (_, x): XY => [x, 7 - 0.01 * x]);
    smoothed(straight).forEach(([x, y], at) => {
      expect(x).toBe(at);
      expect(y).toBeCloseTo(straight[at]![1], 9);
    });
    expect(smoothed([])).toEqual([]);
    expect(smoothed([[5, 1]])).toEqual([[5, 1]]);
  });

  test("takes the noise out", () => {
    const noisy = Array.from({ length: 400 }, (_, x): XY => [x, x % 2]);
    for (const [, y] of smoothed(noisy).slice(20, -20)) expect(y).toBeCloseTo(0.5, 1);
  });

  test("a mean stands in the middle of its steps", () => {
    expect(middles({ width: 4, points: [], means: [[1, 3, 2], [4, 7, 1]] })).toEqual([[2, 2], [5.5, 1]]);
  });
});

test.each([[-1, 0], [1, 0], [2.9, 0], [3.1, 1], [5, 1], [99, 2]])("the point nearest to %d is the one at %d", (x, at) => {
  expect(nearest([[1, 0], [5, 0], [9, 0]], x)).toBe(at);
});

test("nothing is nearest where there is nothing", () => expect(nearest([], 3)).toBe(-1));

test.each([
  [0, 10, 5, [0, 2, 4, 6, 8, 10]],
  [3.71, 4.32, 4, [3.8, 4, 4.2]],
  [0, 1465, 4, [0, 500, 1000]],
  [0.00002, 0.00011, 3, [0.00005, 0.0001]],
  [5, 5, 4, [5]],
])("marks from %d to %d", (low, high, count, expected) => {
  const found = ticks(low, high, count);
  expect(found.length).toBe(expected.length);
  found.forEach((tick, at) => expect(tick).toBeCloseTo(expected[at]!, 9));
});

test("a single point that is far off does not flatten the chart", () => {
  const points = Array.from({ length: 200 }, (_, x): XY => [x, 3 + (x % 10) / 10]);
  points[50] = [50, 90];
  const [low, high] = range([[[0, 3.5], [199, 3.4]]], [points]);
  expect(low).toBeLessThan(3);
  expect(low).toBeGreaterThan(2.5);
  expect(high).toBeLessThan(4.5);
  expect(range([], [])).toEqual([0, 1]);
  expect(range([[[1, 2]]], [])).toEqual([1.8, 2.2]);
});

test("times for people", () => {
  expect([0, 45, 59.6, 600, 3600, 12_000, 86_400, 190_000].map(duration)).toEqual([
    "0 s", "45 s", "1 min", "10 min", "1 h", "3 h 20 min", "1 d", "2 d 5 h",
  ]);
  expect([3, 130].map(ago)).toEqual(["just now", "2 min ago"]);
});

test("what a run is doing", () => {
  const run = {
    name: "a", steps: 5, planned: 10, loss: 1, held_out: null, bits_per_byte: null, reward: null, tokens_per_second: 1,
    seconds_left: 120, going: true, written: 0, dropped: 0, skipped: 0,
  };
  expect(stateOf(run)).toBe("Running, about 2 min left");
  expect(stateOf({ ...run, planned: null, seconds_left: null })).toBe("Running");
  expect(stateOf({ ...run, going: false, seconds_left: null })).toBe("Stopped");
  expect(stateOf({ ...run, steps: 10, going: false })).toBe("Done");
});
