// Short messages at the edge of the page, and what screen readers are told.
import { signal } from "@preact/signals";

import { ApiError } from "../api/client";

export interface Notice {
  id: number;
  text: string;
  bad: boolean;
  action?: { label: string; run(): void };
}

export const notices = signal<Notice[]>([]);

/** What a screen reader says next. */
export const announcement = signal("");

const SECONDS = 8;
let last = 0;

/** Shows a message for some seconds. */
export function notify(text: string, options: { bad?: boolean; action?: Notice["action"] } = {}): void {
  const notice: Notice = { id: ++last, text, bad: options.bad ?? false, action: options.action };
  notices.value = [...notices.value.filter((other) => other.text !== text), notice].slice(-3);
  setTimeout(() => dismiss(notice.id), SECONDS * 1000);
}

export function dismiss(id: number): void {
  notices.value = notices.value.filter((notice) => notice.id !== id);
}

/** Shows why something failed. What the page shows elsewhere (no server, no key) is not repeated. */
export function report(what: string, error: unknown): void {
  if (error instanceof ApiError) {
    if (error.status === 0 || error.status === 401) return;
    const again = error.retryAfter === null ? "" : ` Try again in ${error.retryAfter} s.`;
    notify(`${what}: ${error.message}${again}`, { bad: true });
  } else if (!(error instanceof DOMException && error.name === "AbortError")) {
    notify(`${what}: ${error instanceof Error ? error.message : String(error)}`, { bad: true });
  }
}
