// The conversations that the server keeps, and the one on the page.
import { batch, computed, effect, signal } from "@preact/signals";

import { ApiError, json } from "../api/client";
import type { Stored, Summary } from "../api/types";
import { usual } from "../models/models";
import { remembered } from "../shell/memory";
import { report } from "../shell/notices";
import { go, route } from "../shell/route";
import { Conversation } from "./conversation";
import { fromJson, settingsOf, toMarkdown } from "./document";

/** Newest first; null until the server has answered. */
export const summaries = signal<Summary[] | null>(null);

/** Conversations that are open: an answer goes on while another conversation is looked at. */
const opened = new Map<string, Conversation>();

const fresh = signal(blank());

/** The conversation on the page. */
export const current = signal<Conversation>(fresh.peek());

effect(() => {
  const at = route.value;
  if (at.view !== "chat") return;
  if (at.id === null) {
    current.value = fresh.value;
    return;
  }
  let conversation = opened.get(at.id);
  if (!conversation || conversation.state.peek() instanceof ApiError) {
    conversation = new Conversation(kept);
    opened.set(at.id, conversation);
    void conversation.open(at.id);
  }
  current.value = conversation;
});

// A chat that was not begun follows the usual model.
effect(() => {
  const conversation = fresh.value;
  if (conversation.model.value === null && usual.value !== null) conversation.model.value = usual.value;
});

/** Ids of conversations that are being answered. */
export const answering = computed(() => {
  summaries.value;
  return new Set([...opened].filter(([, c]) => c.answer.value !== null).map(([id]) => id));
});

function blank(): Conversation {
  const conversation = new Conversation(kept);
  try {
    const settings = settingsOf(JSON.parse(remembered("settings") ?? "{}"));
    conversation.document.value = { ...conversation.document.value, settings };
  } catch {
    // What was remembered is not readable: the server's settings hold.
  }
  return conversation;
}

/** A conversation was stored: it goes to the top of the list. */
function kept(conversation: Conversation): void {
  const id = conversation.id.value!;
  const isNew = !opened.has(id);
  opened.set(id, conversation);
  const old = summaries.value?.find((summary) => summary.id === id);
  const updated = Math.floor(Date.now() / 1000);
  const { value: title } = conversation.title;
  const summary = { id, title, model: conversation.model.value, created: old?.created ?? updated, updated };
  summaries.value = [summary, ...(summaries.value ?? []).filter((other) => other.id !== id)];
  if (isNew && fresh.value === conversation) {
    // The view goes with the conversation, unless the person has gone elsewhere.
    batch(() => {
      const here = route.value.view === "chat" && route.value.id === null;
      if (here) go({ view: "chat", id }, true);
      fresh.value = blank();
    });
  }
}

/** Starts a chat. */
export function newChat(): void {
  const draft = fresh.value.document.value.tree.messages.size > 0;
  if (draft) fresh.value = blank();
  else if (usual.value !== null) fresh.value.model.value = usual.value;
  go({ view: "chat", id: null });
}

/** Gets the list of conversations. */
export async function refreshConversations(): Promise<void> {
  try {
    const { conversations } = await json<{ conversations: Summary[] }>("GET", "api/conversations");
    summaries.value = conversations.sort((a, b) => b.updated - a.updated);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
}

addEventListener("focus", () => void refreshConversations());

/** Gives a conversation another title. */
export async function rename(id: string, title: string): Promise<void> {
  let conversation = opened.get(id);
  if (!conversation) {
    conversation = new Conversation(kept);
    opened.set(id, conversation);
    await conversation.open(id);
  }
  if (conversation.state.value !== "ready") {
    report("The conversation was not renamed", conversation.state.value);
    opened.delete(id);
    return;
  }
  conversation.setTitle(title);
}

/** Deletes a conversation. */
export async function remove(id: string): Promise<void> {
  try {
    await json("DELETE", `api/conversations/${encodeURIComponent(id)}`);
  } catch (error) {
    // One that is gone already is as good as deleted.
    if (!(error instanceof ApiError && error.status === 404)) {
      report("The conversation was not deleted", error);
      return;
    }
  }
  forget(id);
  summaries.value = (summaries.value ?? []).filter((summary) => summary.id !== id);
}

/** Deletes all conversations. */
export async function removeAll(): Promise<void> {
  try {
    await json("DELETE", "api/conversations");
  } catch (error) {
    report("The conversations were not deleted", error);
    return;
  }
  for (const id of [...opened.keys()]) forget(id);
  summaries.value = [];
}

function forget(id: string): void {
  opened.get(id)?.remove();
  opened.delete(id);
  if (route.value.view === "chat" && route.value.id === id) go({ view: "chat", id: null }, true);
}

/** Hands a conversation to the person as a file. */
export async function exportAs(kind: "json" | "markdown", id: string): Promise<void> {
  try {
    const stored = await json<Stored>("GET", `api/conversations/${encodeURIComponent(id)}`);
    const name = stored.title.replace(/[^\p{L}\p{N} _-]+/gu, "").trim().slice(0, 60) || "conversation";
    if (kind === "json") download(`${name}.json`, "application/json", `${JSON.stringify(stored, null, 2)}\n`);
    else download(`${name}.md`, "text/markdown", toMarkdown(stored.title, fromJson(stored.document)));
  } catch (error) {
    report("The conversation was not exported", error);
  }
}

function download(name: string, type: string, text: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
