// What the server says and is told, as `docs` of the server describe it.

export interface Info {
  version: string;
  models_folder: string;
  needs_key: boolean;
  device: string;
  threads: number;
}

export interface Model {
  id: string;
  path: string;
  family: string;
  /** Number of weights. */
  parameters: number;
  bytes: number;
  /** Longest context, in tokens. */
  context: number;
  state: "unloaded" | "loading" | "ready" | "failed";
  /** Share of the load that is done, 0 to 1. */
  progress: number;
  error: string | null;
  /** Whether it has a chat template. */
  chat: boolean;
}

export interface ModelFile {
  path: string;
  bytes: number;
  kind: "gguf" | "hugging_face";
}

/** A conversation without its document. Times are Unix seconds. */
export interface Summary {
  id: string;
  title: string;
  model: string | null;
  created: number;
  updated: number;
}

export interface Stored extends Summary {
  revision: number | string;
  document: unknown;
}

/** Counters count since the server started. */
export interface ModelStats {
  id: string;
  running: number;
  waiting: number;
  prefill_tokens: number;
  decode_tokens: number;
  cached_tokens: number;
  blocks_total: number;
  blocks_used: number;
  blocks_cached: number;
  memory_bytes: number;
  requests: number;
  failed: number;
}

export interface Stats {
  time: number;
  models: ModelStats[];
  process_bytes: number;
}

export interface ToolCall {
  id: string;
  name: string;
  /** JSON, as far as it has arrived. */
  arguments: string;
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  prompt_tokens_details?: { cached_tokens?: number } | null;
}

/** Times in milliseconds. */
export interface Timings {
  queue_ms: number;
  prefill_ms: number;
  decode_ms: number;
  prefill_tokens_per_second: number;
  decode_tokens_per_second: number;
}

/** A run of training. Losses are in nats a token, `written` is Unix seconds. */
export interface Run {
  name: string;
  /** Steps that are done. */
  steps: number;
  /** Known from the first checkpoint on. */
  planned: number | null;
  loss: number | null;
  held_out: number | null;
  bits_per_byte: number | null;
  reward: number | null;
  tokens_per_second: number | null;
  seconds_left: number | null;
  /** Whether it seems to go on. */
  going: boolean;
  written: number | null;
  /** Steps that changed nothing. */
  dropped: number;
  /** Lines of its file that could not be read. */
  skipped: number;
}

/** A number that changes from step to step, thinned by the server. */
export interface Series {
  /** Steps of a bucket. */
  width: number;
  /** Step and value: the least and the greatest of each bucket, the first and the last of all. */
  points: [number, number][];
  /** First step, last step, and mean of each bucket. */
  means: [number, number, number][];
}

export interface TwoSeries {
  learned: Series;
  held_out: Series;
}

export interface Sample {
  step: number;
  prompt: string;
  text: string;
}

export interface Curve {
  loss: Series;
  held_out: Series;
  learning_rate: Series;
  tokens_per_second: Series;
  /** Of runs that learn from preferences: the part of the pairs that are the right way round. */
  accuracy: TwoSeries | null;
  /** Of runs that learn from rewards. */
  reward: TwoSeries | null;
  samples: Sample[];
  dropped_steps: number[];
}
