// What of the page is open. On a narrow page the side bar and the settings lie over the conversation.
import { signal } from "@preact/signals";

import { remember, remembered } from "./memory";

export const NARROW = "(max-width: 860px)";

/** The side bar on a wide page. */
export const pinned = signal(remembered("sidebar") !== "closed");
/** The side bar on a narrow page. */
export const drawer = signal(false);
export const settingsOpen = signal(false);
export const helpOpen = signal(false);

export function isNarrow(): boolean {
  return matchMedia(NARROW).matches;
}

export function toggleSidebar(): void {
  if (isNarrow()) {
    drawer.value = !drawer.value;
  } else {
    pinned.value = !pinned.value;
    remember("sidebar", pinned.value ? null : "closed");
  }
}

/** Puts the cursor where a message is written, unless that would bring up a phone's keyboard. */
export function focusComposer(always = true): void {
  if (!always && matchMedia("(pointer: coarse)").matches) return;
  requestAnimationFrame(() => document.querySelector<HTMLElement>("#composer")?.focus());
}
