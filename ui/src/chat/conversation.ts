// One conversation: what people do to it, the answer that is being written, and keeping it in the server.
import { signal } from "@preact/signals";

import { ApiError, json } from "../api/client";
import { complete } from "../api/completion";
import type { Stored } from "../api/types";
import { known, ready, usual } from "../models/models";
import { announcement, notify, report } from "../shell/notices";
import { Answer } from "./answer";
import { type Document, fromJson, messagesTo, type Settings, titleFrom, toJson } from "./document";
import { add, change, EMPTY, merge, newId, select, type Message, type Tree } from "./tree";

/** While an answer is written, it is kept so often, in milliseconds. */
const KEEP_EVERY = 10_000;
const RETRY_AFTER = 3000;
/** A conversation whose writers collide more often in a row is left to the next change. */
const MAX_COLLISIONS = 5;

let count = 0;

export class Conversation {
  /** Tells conversations on this page apart, stored or not. */
  readonly key = ++count;
  readonly id = signal<string | null>(null);
  readonly title = signal("New chat");
  readonly model = signal<string | null>(null);
  readonly document = signal<Document>({ tree: EMPTY, settings: {} });
  readonly answer = signal<Answer | null>(null);
  /** Whether the document is here; an error where the server did not give it. */
  readonly state = signal<"loading" | "ready" | ApiError>("ready");
  /** Whether the server lacks the latest change. */
  readonly unsaved = signal(false);
  /** What is typed and not sent. */
  readonly draft = signal("");

  private revision: Stored["revision"] = 0;
  private dirty = false;
  private saving = false;
  private removed = false;

  /** `kept` is called when the server has stored it. */
  constructor(private readonly kept: (conversation: Conversation) => void) {}

  get tree(): Tree {
    return this.document.value.tree;
  }

  /** Gets the document of the conversation `id`. */
  async open(id: string): Promise<void> {
    this.id.value = id;
    this.state.value = "loading";
    try {
      const stored = await json<Stored>("GET", pathOf(id));
      this.title.value = stored.title;
      this.model.value = stored.model;
      this.revision = stored.revision;
      this.document.value = fromJson(stored.document);
      this.state.value = "ready";
    } catch (error) {
      this.state.value = error instanceof ApiError ? error : new ApiError(String(error), 0);
    }
  }

  /** Sends what the person wrote, below `parent`, and has it answered. */
  send(text: string, parent: string | null): void {
    if (this.answer.value || text.trim() === "") return;
    const message = { id: newId(), parent, role: "user" as const, content: text, created: now() };
    if (this.tree.messages.size === 0) this.title.value = titleFrom(text);
    this.setTree(add(this.tree, message));
    void this.respond(message.id);
  }

  /** Another answer beside `id`. */
  regenerate(id: string): void {
    const parent = this.tree.messages.get(id)?.parent;
    if (parent && !this.answer.value) void this.respond(parent);
  }

  /** The message `id` with another text, as a branch of its own; a person's message is answered. */
  edit(id: string, text: string): void {
    const message = this.tree.messages.get(id);
    if (!message || this.answer.value || text.trim() === "") return;
    if (message.role === "user") {
      this.send(text, message.parent);
    } else {
      const { parent, role, model } = message;
      this.setTree(add(this.tree, { id: newId(), parent, role, model, content: text, created: now(), finish: "edited" }));
    }
  }

  /** Shows the branch of message `id`. */
  select(id: string): void {
    this.setTree(select(this.tree, id));
  }

  stop(): void {
    this.answer.value?.abort.abort();
  }

  setSettings(settings: Settings): void {
    this.document.value = { ...this.document.value, settings };
    this.save(false);
  }

  setModel(model: string): void {
    this.model.value = model;
    this.save(false);
  }

  setTitle(title: string): void {
    this.title.value = title;
    this.save();
  }

  /** It is deleted: nothing is written to the server any more. */
  remove(): void {
    this.removed = true;
    this.stop();
  }

  private setTree(tree: Tree): void {
    this.document.value = { ...this.document.value, tree };
    this.save();
  }

  /** Has the message `parent` answered by the model. */
  private async respond(parent: string): Promise<void> {
    const answer = new Answer(newId());
    this.answer.value = answer;
    const model = await this.chosen(answer.abort.signal);
    if (!model) {
      answer.end();
      this.answer.value = null;
      if (!answer.abort.signal.aborted) notify("Choose a model first.", { bad: true });
      return;
    }
    this.setTree(add(this.tree, { id: answer.id, parent, role: "assistant", model, content: "", created: now() }));
    announcement.value = "Writing an answer";
    const keep = setInterval(() => this.keepAnswer(answer, {}), KEEP_EVERY);
    let outcome: Partial<Message> = {};
    try {
      await ready(model, answer.abort.signal);
      answer.start();
      const { system: _, ...sampling } = this.document.value.settings;
      await complete(model, messagesTo(this.document.value, parent), sampling, answer.abort.signal, (pieces) => answer.take(pieces));
      outcome = { finish: answer.finish ?? "stop" };
    } catch (error) {
      outcome = answer.abort.signal.aborted ? { finish: "stopped" } : { finish: "error", error: errorOf(error) };
    }
    clearInterval(keep);
    answer.end();
    this.keepAnswer(answer, outcome);
    this.answer.value = null;
    announcement.value = outcome.error ? `Error: ${outcome.error.message}` : `Answer: ${answer.content.slice(0, 4000)}`;
  }

  /** The model that answers: the usual one, once the server has said what it has, where none was chosen. */
  private async chosen(abort: AbortSignal): Promise<string | null> {
    if (!this.model.value) {
      await known(abort).catch(() => {});
      this.model.value ||= usual.value;
    }
    return abort.aborted ? null : this.model.value;
  }

  /** Writes what has come of an answer into the tree. */
  private keepAnswer(answer: Answer, outcome: Partial<Message>): void {
    const { content, reasoning, reasoned, calls, usage, timings, firstToken } = answer;
    const estimate = timings ?? estimateOf(answer);
    this.setTree(
      change(this.tree, answer.id, {
        content,
        ...(reasoning && { reasoning, reasoned: reasoned ?? 0 }),
        ...(calls.length > 0 && { toolCalls: calls }),
        ...(firstToken !== null && { firstToken }),
        usage: usage ?? { prompt_tokens: 0, completion_tokens: answer.tokens },
        ...(estimate && { timings: estimate }),
        ...outcome,
      }),
    );
  }

  /** Writes the conversation to the server, once at a time; `create` says whether to when it was never stored. */
  save(create = true): void {
    if (this.removed || (!create && this.id.value === null)) return;
    this.dirty = true;
    this.unsaved.value = true;
    if (!this.saving) void this.saveAll();
  }

  private async saveAll(): Promise<void> {
    this.saving = true;
    let collisions = 0;
    while (this.dirty && !this.removed) {
      this.dirty = false;
      try {
        await this.saveOnce();
        collisions = 0;
      } catch (error) {
        if (error instanceof ApiError && error.status === 409 && ++collisions <= MAX_COLLISIONS) {
          await this.takeTheirs().catch((e) => report("The conversation was not saved", e));
          this.dirty = true;
        } else if (error instanceof ApiError && error.status === 404 && this.id.value !== null) {
          this.removedElsewhere();
        } else if (error instanceof ApiError && (error.status === 0 || error.status === 503 || error.status === 429)) {
          this.dirty = true;
          await new Promise((resolve) => setTimeout(resolve, (error.retryAfter ?? 0) * 1000 || RETRY_AFTER));
        } else {
          report("The conversation was not saved", error);
        }
      }
    }
    this.saving = false;
    this.unsaved.value = false;
  }

  private async saveOnce(): Promise<void> {
    const body = { title: this.title.value, model: this.model.value ?? "", document: toJson(this.document.value) };
    const id = this.id.value;
    if (id === null) {
      const stored = await json<Stored>("POST", "api/conversations", body);
      this.revision = stored.revision ?? 1;
      this.id.value = stored.id;
    } else {
      const stored = await json<Stored>("PUT", pathOf(id), { ...body, revision: this.revision });
      this.revision = stored.revision;
    }
    if (!this.removed) this.kept(this);
  }

  /** Another page wrote to this conversation: its messages come in beside ours. */
  private async takeTheirs(): Promise<void> {
    const stored = await json<Stored>("GET", pathOf(this.id.value!));
    this.revision = stored.revision;
    const tree = merge(this.tree, fromJson(stored.document).tree);
    this.document.value = { ...this.document.value, tree };
  }

  private removedElsewhere(): void {
    const keep = () => {
      this.id.value = null;
      this.save();
    };
    notify("This conversation was deleted in another window.", { bad: true, action: { label: "Keep it", run: keep } });
  }
}

function pathOf(id: string): string {
  return `api/conversations/${encodeURIComponent(id)}`;
}

function now(): number {
  return Math.floor(Date.now() / 1000);
}

function errorOf(error: unknown): NonNullable<Message["error"]> {
  if (error instanceof ApiError) return { message: error.message, status: error.status, retryAfter: error.retryAfter };
  return { message: error instanceof Error ? error.message : String(error), status: 0 };
}

/** The speed as seen here, for answers that ended before the server told its own. */
function estimateOf(answer: Answer): Message["timings"] {
  const { rate } = answer;
  if (rate === null) return undefined;
  const decode_ms = ((answer.tokens - 1) / rate) * 1000;
  return { queue_ms: 0, prefill_ms: 0, decode_ms, prefill_tokens_per_second: 0, decode_tokens_per_second: rate };
}
