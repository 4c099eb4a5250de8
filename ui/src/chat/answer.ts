// An answer while it is written: its text so far, and how fast it comes.
import { batch, signal } from "@preact/signals";

import type { Piece } from "../api/completion";
import type { Timings, ToolCall, Usage } from "../api/types";

/** At most this share of the time goes into showing an answer that is being written. */
const SHOWING = 0.25;

export class Answer {
  readonly abort = new AbortController();
  /** What is shown; `content` and `reasoning` are ahead of it by a frame or more. */
  readonly text = signal("");
  readonly thoughts = signal("");
  readonly toolCalls = signal<ToolCall[]>([]);
  /** Counts up a few times a second, for what is shown of time. */
  readonly tick = signal(0);

  content = "";
  reasoning = "";
  calls: ToolCall[] = [];
  finish: string | undefined;
  usage: Usage | undefined;
  timings: Timings | undefined;
  /** Tokens that have come, counted as one for each event. */
  tokens = 0;
  /** Times of `performance.now()`. */
  started = performance.now();
  first: number | null = null;
  firstContent: number | null = null;
  last = 0;

  private frame = 0;
  private notBefore = 0;
  private readonly clock = setInterval(() => this.tick.value++, 250);

  /** `id` is the message that it becomes. */
  constructor(readonly id: string) {}

  /** The request is sent: time to first token counts from here. */
  start(): void {
    this.started = performance.now();
  }

  take(pieces: Piece[]): void {
    const now = performance.now();
    for (const piece of pieces) {
      if (piece.content || piece.reasoning || piece.toolCalls) {
        this.tokens++;
        this.first ??= now;
        this.last = now;
      }
      if (piece.content) {
        this.firstContent ??= now;
        this.content += piece.content;
      }
      this.reasoning += piece.reasoning ?? "";
      for (const part of piece.toolCalls ?? []) this.takeCall(part);
      this.finish = piece.finish ?? this.finish;
      this.usage = piece.usage ?? this.usage;
      this.timings = piece.timings ?? this.timings;
    }
    if (this.frame === 0) this.frame = requestAnimationFrame(() => this.show());
  }

  private takeCall(part: NonNullable<Piece["toolCalls"]>[number]): void {
    if (part.index < 0 || part.index > 63) return;
    const calls = [...this.calls];
    while (calls.length <= part.index) calls.push({ id: "", name: "", arguments: "" });
    const call = calls[part.index]!;
    calls[part.index] = {
      id: call.id || (part.id ?? ""),
      name: call.name + (part.name ?? ""),
      arguments: call.arguments + (part.arguments ?? ""),
    };
    this.calls = calls;
  }

  /** Shows what has come. The longer that takes, the longer is the pause until the next time. */
  private show(): void {
    this.frame = 0;
    const begin = performance.now();
    if (begin < this.notBefore) {
      this.frame = requestAnimationFrame(() => this.show());
      return;
    }
    batch(() => {
      this.text.value = this.content;
      this.thoughts.value = this.reasoning;
      this.toolCalls.value = this.calls;
    });
    // The page is drawn before the next task runs.
    setTimeout(() => {
      const cost = performance.now() - begin;
      this.notBefore = begin + cost / SHOWING;
    });
  }

  /** Seconds from the request to the first token; null before that. */
  get firstToken(): number | null {
    return this.first === null ? null : (this.first - this.started) / 1000;
  }

  /** Tokens a second after the first, as seen here; null before there are two. */
  get rate(): number | null {
    if (this.first === null || this.tokens < 2 || this.last <= this.first) return null;
    return ((this.tokens - 1) * 1000) / (this.last - this.first);
  }

  /** Seconds of reasoning so far; null where there is none. */
  get reasoned(): number | null {
    if (this.reasoning === "" || this.first === null) return null;
    return ((this.firstContent ?? this.last) - this.first) / 1000;
  }

  /** No more comes. */
  end(): void {
    clearInterval(this.clock);
    cancelAnimationFrame(this.frame);
  }
}
