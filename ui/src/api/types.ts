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
