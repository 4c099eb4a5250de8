// Where a message is written.
import { useLayoutEffect, useRef } from "preact/hooks";

import { modelOf } from "../models/models";
import { Icon } from "../shell/icons";
import { focusComposer } from "../shell/layout";
import type { Conversation } from "./conversation";
import { shown } from "./tree";

export function Composer({ conversation }: { conversation: Conversation }) {
  const area = useRef<HTMLTextAreaElement>(null);
  const text = conversation.draft.value;
  const busy = conversation.answer.value !== null;
  const model = modelOf(conversation.model.value);

  // Where the browser does not fit the field to its text, its height is set here.
  useLayoutEffect(() => {
    const field = area.current!;
    if (CSS.supports("field-sizing", "content")) return;
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight}px`;
  }, [text]);

  const send = () => {
    // What was typed since the field was drawn counts, too.
    const written = conversation.draft.value.trim();
    if (conversation.answer.value !== null || written === "") return;
    conversation.draft.value = "";
    conversation.send(written, shown(conversation.tree).at(-1)?.id ?? null);
    focusComposer(false);
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.isComposing) return;
    // The Enter of a phone's keyboard makes a new line: it has no Shift to hold.
    const phone = matchMedia("(pointer: coarse)").matches;
    if (event.key === "Enter" && !event.shiftKey && !event.altKey && (!phone || event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      send();
    } else if (event.key === "ArrowUp" && text === "" && !busy) {
      const edits = document.querySelectorAll<HTMLElement>("[data-edit=user]");
      if (edits.length > 0) event.preventDefault();
      edits[edits.length - 1]?.click();
    }
  };
  return (
    <form
      aria-label="Write a message"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <div class="composer">
        <textarea
          id="composer"
          ref={area}
          rows={1}
          value={text}
          placeholder="Write a message"
          aria-label="Message"
          enterkeyhint="enter"
          onInput={(event) => (conversation.draft.value = event.currentTarget.value)}
          onKeyDown={onKey}
        />
        {busy ? (
          <button type="button" class="round" aria-label="Stop" title="Stop (Esc)" onClick={() => conversation.stop()}>
            <Icon name="stop" />
          </button>
        ) : (
          <button type="submit" class="round" aria-label="Send" title="Send (Enter)" disabled={text.trim() === ""}>
            <Icon name="send" />
          </button>
        )}
      </div>
      {model && !model.chat && (
        <p class="hint composer-hint">This model has no chat template: it may continue your text rather than answer it.</p>
      )}
    </form>
  );
}
