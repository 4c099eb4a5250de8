// A conversation as a tree of messages: an edited message or another answer is a sibling, and every place remembers
// which of its branches is shown. Trees are values; each function gives a new one and shares what did not change.
import type { Timings, ToolCall, Usage } from "../api/types";

export interface Message {
  id: string;
  /** The message that it answers; null for a first message. */
  parent: string | null;
  role: "user" | "assistant";
  content: string;
  /** Unix seconds. */
  created: number;
  reasoning?: string;
  /** How long it thought, in seconds. */
  reasoned?: number;
  toolCalls?: ToolCall[];
  /** The model that wrote it. */
  model?: string;
  /** Why it ended, in the words of the API; `stopped` where the person stopped it. */
  finish?: string;
  error?: { message: string; status: number; retryAfter?: number | null };
  usage?: Usage;
  timings?: Timings;
  /** Seconds from the request to the first token, as seen here. */
  firstToken?: number;
  /** What follows it, oldest first. */
  children: string[];
  /** The child that is shown. */
  selected: string | null;
}

export interface Tree {
  messages: ReadonlyMap<string, Message>;
  /** First messages, oldest first. */
  children: string[];
  selected: string | null;
}

export const EMPTY: Tree = { messages: new Map(), children: [], selected: null };

/** A new id, also where the page is not served over HTTPS and `randomUUID` is absent. */
export function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
}

/** The messages that are shown, first to last. */
export function shown(tree: Tree): Message[] {
  const path: Message[] = [];
  for (let id = tree.selected; id !== null; ) {
    const message = tree.messages.get(id);
    if (!message) break;
    path.push(message);
    id = message.selected;
  }
  return path;
}

/** The messages from the first one down to `id`, itself included. */
export function pathTo(tree: Tree, id: string): Message[] {
  const path: Message[] = [];
  for (let at: string | null = id; at !== null; ) {
    const message: Message | undefined = tree.messages.get(at);
    if (!message) break;
    path.push(message);
    at = message.parent;
  }
  return path.reverse();
}

/** Adds a message as the last child of its parent, and shows it. */
export function add(tree: Tree, message: Omit<Message, "children" | "selected">): Tree {
  const messages = new Map(tree.messages).set(message.id, { ...message, children: [], selected: null });
  return withBranches({ ...tree, messages }, message.parent, (at) => ({
    children: [...at.children, message.id],
    selected: message.id,
  }));
}

/** Changes what a message says, not where it stands. */
export function change(tree: Tree, id: string, by: Partial<Omit<Message, "id" | "parent" | "children" | "selected">>): Tree {
  const message = tree.messages.get(id);
  return message ? { ...tree, messages: new Map(tree.messages).set(id, { ...message, ...by }) } : tree;
}

/** A message's siblings, itself included, and its place among them. */
export function siblings(tree: Tree, id: string): { ids: string[]; index: number } {
  const parent = tree.messages.get(id)?.parent ?? null;
  const ids = parent === null ? tree.children : (tree.messages.get(parent)?.children ?? []);
  return { ids, index: ids.indexOf(id) };
}

/** Shows `id` instead of its sibling. */
export function select(tree: Tree, id: string): Tree {
  const message = tree.messages.get(id);
  return message ? withBranches(tree, message.parent, (at) => ({ ...at, selected: id })) : tree;
}

interface Branches {
  children: string[];
  selected: string | null;
}

function withBranches(tree: Tree, parent: string | null, by: (at: Branches) => Branches): Tree {
  if (parent === null) return { ...tree, ...by({ children: tree.children, selected: tree.selected }) };
  const message = tree.messages.get(parent);
  if (!message) return tree;
  const branches = by({ children: message.children, selected: message.selected });
  return { ...tree, messages: new Map(tree.messages).set(parent, { ...message, ...branches }) };
}

/**
 * Both trees in one, for when two pages wrote to one conversation. What is in both is taken from `ours`, unless that
 * lacks the end of an answer which `theirs` has; what is shown is what `ours` shows.
 */
export function merge(ours: Tree, theirs: Tree): Tree {
  const messages = new Map<string, Message>();
  const joined = (a: string[], b: string[]) => [...b, ...a.filter((id) => !b.includes(id))];
  for (const [id, message] of theirs.messages) messages.set(id, message);
  for (const [id, message] of ours.messages) {
    const other = theirs.messages.get(id);
    const best = other && other.content.length > message.content.length && !message.finish ? other : message;
    const children = other ? joined(message.children, other.children) : message.children;
    messages.set(id, { ...best, children, selected: message.selected ?? other?.selected ?? null });
  }
  return { messages, children: joined(ours.children, theirs.children), selected: ours.selected ?? theirs.selected };
}
