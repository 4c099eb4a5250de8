// What the server keeps of a conversation: the tree of messages and the settings, as JSON, and as text for people.
import type { ChatMessage, Sampling } from "../api/completion";
import { type Message, pathTo, shown, type Tree } from "./tree";

export interface Settings extends Sampling {
  system?: string;
}

export interface Document {
  tree: Tree;
  settings: Settings;
}

const ID = /^[A-Za-z0-9-]{1,64}$/;

/** The document as JSON. */
export function toJson(document: Document): unknown {
  const { tree, settings } = document;
  const messages = [...tree.messages.values()].map(({ parent: _, ...message }) => message);
  return { format: 1, settings, children: tree.children, selected: tree.selected, messages };
}

/**
 * Reads what `toJson` wrote. Whatever is not as it should be (another program may have written it) is left out: a
 * message that nothing leads to, one that two places lead to, a setting of the wrong type.
 */
export function fromJson(json: unknown): Document {
  const object = asObject(json);
  const raw = new Map<string, Record<string, unknown>>();
  for (const entry of Array.isArray(object.messages) ? object.messages : []) {
    const { id } = asObject(entry);
    if (typeof id === "string" && ID.test(id)) raw.set(id, asObject(entry));
  }
  const messages = new Map<string, Message>();
  const childrenOf = (at: Record<string, unknown>, parent: string | null) => {
    const children: string[] = [];
    for (const id of Array.isArray(at.children) ? at.children : []) {
      const entry = raw.get(id);
      if (!entry || messages.has(id)) continue;
      messages.set(id, messageOf(id, parent, entry));
      children.push(id);
    }
    const selected = children.includes(at.selected as string) ? (at.selected as string) : (children.at(-1) ?? null);
    return { children, selected };
  };
  const top = childrenOf(object, null);
  // The map grows as it is walked, until nothing new is reached.
  for (const message of messages.values()) Object.assign(message, childrenOf(raw.get(message.id)!, message.id));
  return { tree: { messages, ...top }, settings: settingsOf(object.settings) };
}

function messageOf(id: string, parent: string | null, entry: Record<string, unknown>): Message {
  const text = (value: unknown) => (typeof value === "string" ? value : undefined);
  const number = (value: unknown) => (typeof value === "number" && Number.isFinite(value) ? value : undefined);
  const message: Message = {
    id,
    parent,
    role: entry.role === "assistant" ? "assistant" : "user",
    content: text(entry.content) ?? "",
    created: number(entry.created) ?? 0,
    reasoning: text(entry.reasoning),
    reasoned: number(entry.reasoned),
    model: text(entry.model),
    finish: text(entry.finish),
    firstToken: number(entry.firstToken),
    children: [],
    selected: null,
  };
  const { usage, timings, error } = entry as { usage?: Message["usage"]; timings?: Message["timings"]; error?: Message["error"] };
  if (number(usage?.completion_tokens) !== undefined) message.usage = usage;
  if (number(timings?.decode_tokens_per_second) !== undefined) message.timings = timings;
  if (typeof error?.message === "string") message.error = { message: error.message, status: number(error.status) ?? 0 };
  if (Array.isArray(entry.toolCalls)) {
    message.toolCalls = entry.toolCalls.map(asObject).map((call) => ({
      id: text(call.id) ?? "",
      name: text(call.name) ?? "",
      arguments: text(call.arguments) ?? "",
    }));
  }
  return message;
}

/** Settings of the right types. */
export function settingsOf(json: unknown): Settings {
  const object = asObject(json);
  const settings: Settings = {};
  if (typeof object.system === "string" && object.system !== "") settings.system = object.system;
  for (const name of ["temperature", "top_p", "top_k", "max_tokens", "seed"] as const) {
    const value = object[name];
    if (typeof value === "number" && Number.isFinite(value)) settings[name] = value;
  }
  const stop = Array.isArray(object.stop) ? object.stop.filter((s) => typeof s === "string" && s !== "") : [];
  if (stop.length > 0) settings.stop = stop;
  return settings;
}

function asObject(json: unknown): Record<string, unknown> {
  return typeof json === "object" && json !== null ? (json as Record<string, unknown>) : {};
}

/**
 * What the model is told: the system prompt, and the branch that ends with message `id`. Answers that never came are
 * left out; messages that then follow each other become one, since chat templates want roles to take turns.
 */
export function messagesTo({ tree, settings }: Document, id: string): ChatMessage[] {
  const messages: ChatMessage[] = settings.system ? [{ role: "system", content: settings.system }] : [];
  for (const { role, content } of pathTo(tree, id)) {
    const last = messages.at(-1);
    if (content === "") continue;
    if (last?.role === role) last.content += `\n\n${content}`;
    else messages.push({ role, content });
  }
  return messages;
}

/** The shown branch as Markdown. */
export function toMarkdown(title: string, document: Document): string {
  const parts = [`# ${title.replaceAll("\n", " ")}`];
  if (document.settings.system) parts.push(`## System\n\n${document.settings.system}`);
  for (const message of shown(document.tree)) {
    const name = message.role === "user" ? "You" : message.model ? `Assistant (${message.model})` : "Assistant";
    const calls = (message.toolCalls ?? []).map((call) => `Calls \`${call.name}\`:\n\n\`\`\`json\n${call.arguments}\n\`\`\``);
    parts.push([`## ${name}`, message.content, ...calls].filter((part) => part !== "").join("\n\n"));
  }
  return `${parts.join("\n\n")}\n`;
}

/** The title that a conversation gets from its first message. */
export function titleFrom(text: string): string {
  const line = text.trim().split(/\s*\n/, 1)[0]!.replace(/\s+/g, " ").replace(/^[#>*\-\s]+/, "");
  // By characters, not by halves of them.
  const characters = [...line];
  if (characters.length <= 60) return line || "New chat";
  const cut = characters.slice(0, 60).join("");
  const space = cut.lastIndexOf(" ");
  return `${space > 30 ? cut.slice(0, space) : cut}…`;
}
