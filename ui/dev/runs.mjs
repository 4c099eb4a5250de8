// Runs of training for the mock server: curves that look like some, and grow when a test says so.

/** Steps of a bucket, as the server would thin them. */
const WIDTH = 4;

/** The loss of a step: it falls, with some noise. */
function lossOf(step, floor) {
  return floor + 5 * Math.exp(-step / 60) + 0.15 * Math.sin(step * 12.9898);
}

/** What the server's list has of a run: `{name, steps, planned, floor, going}`. */
export function summary({ name, steps, planned, floor, going = false, dropped = [] }) {
  const seconds_left = going && planned !== null ? (planned - steps) * 1.5 : null;
  return {
    name, steps, planned, going, seconds_left, loss: lossOf(steps, floor), held_out: floor + 0.2, bits_per_byte: 1.25, reward: null,
    tokens_per_second: 4096, written: 1_700_000_000 + steps, dropped: dropped.length, skipped: 0, unfinished: false,
  };
}

function series(steps, after, width, value) {
  const [points, means] = [[], []];
  for (let first = 0; first < steps; first += width) {
    const inside = Array.from({ length: Math.min(width, steps - first) }, (_, at) => [first + at + 1, value(first + at + 1)]);
    const last = inside.at(-1)[0];
    if (last <= after) continue;
    points.push(...inside.filter(([step], at) => step > after && (at === 0 || at === inside.length - 1)));
    means.push([first + 1, last, inside.reduce((sum, [, y]) => sum + y, 0) / inside.length]);
  }
  return { width, points, means };
}

/** What the server says of one run, of steps above `after`. */
export function curve(run, after) {
  const { steps, floor, dropped = [] } = run;
  const evaluations = Math.floor(steps / 50);
  const held = Array.from({ length: evaluations }, (_, at) => [50 * (at + 1), lossOf(50 * (at + 1), floor) + 0.2]).filter(([step]) => step > after);
  return {
    run: summary(run),
    curve: {
      loss: series(steps, after, WIDTH, (step) => lossOf(step, floor)),
      held_out: { width: 1, points: held, means: held.map(([step, y]) => [step, step, y]) },
      learning_rate: series(steps, after, WIDTH, (step) => 0.002 * Math.min(1, step / 20)),
      tokens_per_second: series(steps, after, WIDTH, (step) => 4096 + 100 * Math.cos(step)),
      accuracy: null,
      reward: null,
      samples: held.map(([step]) => ({ step, prompt: "The sea", text: ` was calm after ${step} steps.` })),
      dropped_steps: dropped.filter((step) => step > after),
    },
  };
}
