// Dialogs: the browser's own, which keep the focus inside and close by Escape.
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { signal } from "@preact/signals";

export function Dialog(props: { label: string; class?: string; onClose(): void; children: ComponentChildren }) {
  const self = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    self.current!.showModal();
    return () => self.current?.close();
  }, []);
  const outside = (event: MouseEvent) => event.target === self.current && self.current!.close();
  return (
    <dialog ref={self} class={props.class} aria-label={props.label} onClose={props.onClose} onMouseDown={outside}>
      <div class="dialog-body" tabIndex={-1} autofocus>{props.children}</div>
    </dialog>
  );
}

interface Question {
  title: string;
  text: string;
  action: string;
  run(): void;
}

const question = signal<Question | null>(null);

/** Asks before something that cannot be undone. */
export function confirmFirst(ask: Question): void {
  question.value = ask;
}

export function ConfirmDialog() {
  const ask = question.value;
  if (!ask) return null;
  const close = () => (question.value = null);
  return (
    <Dialog label={ask.title} class="small" onClose={close}>
      <h2>{ask.title}</h2>
      <p>{ask.text}</p>
      <div class="buttons">
        <button type="button" class="button" onClick={close}>Cancel</button>
        <button
          type="button"
          class="button danger"
          onClick={() => {
            close();
            ask.run();
          }}
        >
          {ask.action}
        </button>
      </div>
    </Dialog>
  );
}
