// Copying text.
import { useState } from "preact/hooks";

import { Icon } from "./icons";
import { announcement } from "./notices";

/** Copies `text`; where the page is not served over HTTPS, the browser has no clipboard and a selection has to do. */
async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "offscreen";
    const focused = document.activeElement;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (focused instanceof HTMLElement) focused.focus();
    return done;
  }
}

export function CopyButton({ text, label }: { text(): string; label: string }) {
  const [done, setDone] = useState(false);
  const run = async () => {
    if (!(await copy(text()))) return;
    setDone(true);
    announcement.value = "Copied";
    setTimeout(() => setDone(false), 1500);
  };
  return (
    <button type="button" class="tool" aria-label={label} title={label} onClick={run}>
      <Icon name={done ? "check" : "copy"} size={16} />
    </button>
  );
}
