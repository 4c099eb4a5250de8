// What the keys do everywhere on the page.
import { current, newChat } from "../chat/library";
import { drawer, focusComposer, helpOpen, settingsOpen, toggleSidebar } from "./layout";

/** The keys, for the help panel. */
export const KEYS: [string[], string][] = [
  [["Ctrl", "K"], "New chat"],
  [["/"], "Write a message"],
  [["Enter"], "Send"],
  [["Shift", "Enter"], "New line"],
  [["↑"], "Edit the last message, from an empty field"],
  [["Esc"], "Stop the answer; close what is open"],
  [["Alt", "←"], "Other branch of the last message; also →"],
  [["Ctrl", "B"], "Show or hide the side bar"],
  [["↑", "↓"], "Go through the side bar's chats"],
  [["?"], "This help"],
];

const MAC = /Mac|iPhone|iPad/.test(navigator.platform);

/** The name of a key on this system. */
export function keyName(name: string): string {
  if (!MAC) return name;
  return { Ctrl: "⌘", Alt: "⌥", Shift: "⇧" }[name] ?? name;
}

function onKey(event: KeyboardEvent): void {
  if (event.isComposing || event.defaultPrevented) return;
  const command = (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey;
  if (command && event.key.toLowerCase() === "k") {
    event.preventDefault();
    drawer.value = false;
    newChat();
    focusComposer();
    return;
  }
  if (command && event.key.toLowerCase() === "b") {
    event.preventDefault();
    toggleSidebar();
    return;
  }
  if (document.querySelector("dialog[open], [popover]:popover-open")) return;
  if (event.key === "Escape") {
    if (drawer.value) drawer.value = false;
    else if (current.value.answer.value) current.value.stop();
    else settingsOpen.value = false;
    return;
  }
  if (event.altKey && (event.key === "ArrowLeft" || event.key === "ArrowRight") && !isTyped(event)) {
    // The last message that has branches.
    const name = event.key === "ArrowLeft" ? "previous" : "next";
    const buttons = document.querySelectorAll<HTMLElement>(`[data-branch=${name}]`);
    event.preventDefault();
    buttons[buttons.length - 1]?.click();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  if (event.key === "/") {
    event.preventDefault();
    focusComposer();
  } else if (event.key === "?") {
    event.preventDefault();
    helpOpen.value = true;
  }
}

/** Whether the key moves the cursor in a text that somebody wrote. */
function isTyped(event: KeyboardEvent): boolean {
  return isTyping(event.target) && (event.target as HTMLInputElement).value !== "";
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof Element && target.matches("input, textarea, select, [contenteditable]");
}

addEventListener("keydown", onKey);
