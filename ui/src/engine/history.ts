// What the engine did in the last minutes, from its counters.
import type { ModelStats, Stats } from "../api/types";

/** One second of the engine; rates in tokens a second. */
export interface Point {
  prefill: number;
  decode: number;
  running: number;
  waiting: number;
  used: number;
  cached: number;
  free: number;
  memory: number;
}

/** So many points are kept: two minutes. */
export const LENGTH = 120;

/** The models that `only` names, or all of them. */
export function chosen(stats: Stats, only: string | null): ModelStats[] {
  return only === null ? stats.models : stats.models.filter(({ id }) => id === only);
}

/** What happened between two readings that are `seconds` apart. A counter that went back started anew. */
export function pointOf(before: Stats | null, after: Stats, seconds: number, only: string | null): Point {
  const now = chosen(after, only);
  const sum = (of: (model: ModelStats) => number) => now.reduce((total, model) => total + of(model), 0);
  const rate = (name: "prefill_tokens" | "decode_tokens") => {
    if (!before || seconds <= 0) return 0;
    const then = new Map(before.models.map((model) => [model.id, model[name]]));
    return sum((model) => Math.max(0, model[name] - (then.get(model.id) ?? model[name]))) / seconds;
  };
  return {
    prefill: rate("prefill_tokens"),
    decode: rate("decode_tokens"),
    running: sum((model) => model.running),
    waiting: sum((model) => model.waiting),
    used: sum((model) => model.blocks_used),
    cached: sum((model) => model.blocks_cached),
    free: sum((model) => Math.max(0, model.blocks_total - model.blocks_used - model.blocks_cached)),
    memory: only === null ? after.process_bytes : sum((model) => model.memory_bytes),
  };
}

/** A round number not below `n`, for the top of a chart: 1, 2, 2.5 or 5 times a power of ten. */
export function ceiling(n: number): number {
  if (n <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((top) => top >= n)!;
}
