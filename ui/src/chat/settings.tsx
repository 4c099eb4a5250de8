// The settings of a conversation: the system prompt, and how tokens are drawn. An empty field is the server's choice.
import { useState } from "preact/hooks";

import { Icon } from "../shell/icons";
import { settingsOpen } from "../shell/layout";
import { remember } from "../shell/memory";
import { notify } from "../shell/notices";
import type { Settings } from "./document";
import { current } from "./library";

interface Field {
  name: "temperature" | "top_p" | "top_k" | "max_tokens" | "seed";
  label: string;
  hint: string;
  min: number;
  max?: number;
  /** With a step there is a slider. */
  slider?: { max: number; step: number; rest: number };
  whole?: boolean;
}

const FIELDS: Field[] = [
  { name: "temperature", label: "Temperature", hint: "0 always takes the likeliest token", min: 0, max: 5, slider: { max: 2, step: 0.05, rest: 1 } },
  { name: "top_p", label: "Top-p", hint: "draw from the likeliest tokens that make up this share", min: 0, max: 1, slider: { max: 1, step: 0.01, rest: 1 } },
  { name: "top_k", label: "Top-k", hint: "draw from this many tokens", min: 0, whole: true },
  { name: "max_tokens", label: "Longest answer", hint: "in tokens", min: 1, whole: true },
  { name: "seed", label: "Seed", hint: "the same seed gives the same answer", min: 0, max: Number.MAX_SAFE_INTEGER, whole: true },
];

export function SettingsPanel() {
  const conversation = current.value;
  const settings = conversation.document.value.settings;
  const set = (change: Partial<Settings>) => {
    const next: Record<string, unknown> = { ...settings, ...change };
    for (const name of Object.keys(next)) if (next[name] === undefined) delete next[name];
    conversation.setSettings(next as Settings);
  };
  return (
    <aside class="settings" aria-label="Conversation settings">
      <header>
        <h2>Settings</h2>
        <button type="button" class="tool" aria-label="Close settings" onClick={() => (settingsOpen.value = false)}>
          <Icon name="close" />
        </button>
      </header>
      <label class="field">
        <span class="label">System prompt</span>
        <textarea
          rows={5}
          value={settings.system ?? ""}
          placeholder="What the model should know before the first message"
          onInput={(event) => set({ system: event.currentTarget.value || undefined })}
        />
      </label>
      {FIELDS.map((field) => (
        <NumberField key={field.name} field={field} value={settings[field.name]} onChange={(value) => set({ [field.name]: value })} />
      ))}
      <StopField key={conversation.key} value={settings.stop} onChange={(stop) => set({ stop })} />
      <div class="buttons">
        <button type="button" class="button" disabled={Object.keys(settings).length === 0} onClick={() => conversation.setSettings({})}>
          Reset
        </button>
        <button
          type="button"
          class="button"
          onClick={() => {
            remember("settings", JSON.stringify(settings));
            notify("New chats start with these settings.");
          }}
        >
          Use for new chats
        </button>
      </div>
    </aside>
  );
}

function NumberField(props: { field: Field; value: number | undefined; onChange(value: number | undefined): void }) {
  const { field, value } = props;
  const [bad, setBad] = useState(false);
  const id = `setting-${field.name}`;
  const read = (input: HTMLInputElement) => {
    const number = input.valueAsNumber;
    const empty = input.value === "" && !input.validity.badInput;
    const fits = number >= field.min && number <= (field.max ?? 1e9) && (!field.whole || Number.isInteger(number));
    setBad(!empty && !fits);
    if (empty) props.onChange(undefined);
    else if (fits) props.onChange(number);
  };
  return (
    <div class="field">
      <div class="field-row">
        <label class="label" for={id}>{field.label}</label>
        <input
          id={id}
          type="number"
          inputMode={field.whole ? "numeric" : "decimal"}
          min={field.min}
          max={field.max}
          step={field.slider?.step ?? 1}
          value={value ?? ""}
          placeholder="auto"
          aria-invalid={bad}
          aria-describedby={`${id}-hint`}
          onInput={(event) => read(event.currentTarget)}
        />
      </div>
      {field.slider && (
        <input
          type="range"
          class={value === undefined ? "unset" : ""}
          aria-label={field.label}
          min={0}
          max={field.slider.max}
          step={field.slider.step}
          value={value ?? field.slider.rest}
          onInput={(event) => props.onChange(event.currentTarget.valueAsNumber)}
        />
      )}
      <p class="hint" id={`${id}-hint`}>
        {bad ? `Must be ${field.whole ? "a whole number " : ""}from ${field.min}${field.max ? ` to ${field.max}` : ""}.` : field.hint}
      </p>
    </div>
  );
}

/** Texts that end an answer, one a line; `\n` in them is a line break. */
function StopField({ value, onChange }: { value: string[] | undefined; onChange(stop: string[] | undefined): void }) {
  const [text, setText] = useState(() => (value ?? []).map((s) => s.replaceAll("\n", "\\n")).join("\n"));
  const take = (typed: string) => {
    setText(typed);
    const stop = typed.split("\n").filter((line) => line !== "").map((line) => line.replaceAll("\\n", "\n"));
    onChange(stop.length > 0 ? stop.slice(0, 16) : undefined);
  };
  return (
    <label class="field">
      <span class="label">Stop at</span>
      <textarea rows={2} value={value === undefined && text.trim() !== "" ? "" : text} placeholder={"One text a line; \\n is a line break"} onInput={(event) => take(event.currentTarget.value)} />
    </label>
  );
}
