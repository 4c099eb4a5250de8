// One message on the page, with what can be done to it.
import { useState } from "preact/hooks";

import { Markdown } from "../markdown/view";
import { modelOf } from "../models/models";
import { CopyButton } from "../shell/copy";
import { seconds, significant } from "../shell/format";
import { Icon } from "../shell/icons";
import type { Answer } from "./answer";
import type { Conversation } from "./conversation";
import { ErrorCard } from "./error";
import { Growing } from "./growing";
import { type Message, siblings } from "./tree";

interface Props {
  conversation: Conversation;
  message: Message;
  /** What is being written into it, if anything. */
  live: Answer | null;
  last: boolean;
}

export function MessageView({ conversation, message, live, last }: Props) {
  const [editing, setEditing] = useState(false);
  const mine = message.role === "user";
  const busy = conversation.answer.value !== null;
  // An error before the first token leaves nothing to copy, edit or time.
  const nothing = message.error !== undefined && message.content === "" && !message.reasoning;
  if (editing) {
    const done = (text: string | null) => {
      setEditing(false);
      if (text !== null && text !== message.content) conversation.edit(message.id, text);
    };
    return <Editor message={message} onDone={done} />;
  }
  return (
    <article class={mine ? "message mine" : "message"} data-id={message.id} aria-label={mine ? "You" : "Answer"}>
      {mine ? <div class="bubble">{message.content}</div> : <AnswerBody message={message} live={live} />}
      {message.error && !live && (
        <ErrorCard error={message.error} onRetry={busy ? undefined : () => conversation.regenerate(message.id)} />
      )}
      <footer class={last ? "actions shown" : "actions"}>
        <Branches conversation={conversation} message={message} />
        {!live && !nothing && (
          <>
            <CopyButton text={() => message.content} label="Copy message" />
            {!busy && (
              <button type="button" class="tool" aria-label="Edit message" title="Edit" data-edit={message.role} onClick={() => setEditing(true)}>
                <Icon name="edit" size={16} />
              </button>
            )}
            {!mine && !busy && (
              <button type="button" class="tool" aria-label="Regenerate answer" title="Regenerate" onClick={() => conversation.regenerate(message.id)}>
                <Icon name="redo" size={16} />
              </button>
            )}
          </>
        )}
        {!mine && !nothing && (live ? <LiveSpeed answer={live} /> : <Speed message={message} />)}
      </footer>
    </article>
  );
}

function AnswerBody({ message, live }: { message: Message; live: Answer | null }) {
  const text = live ? live.text.value : message.content;
  const thoughts = live ? live.thoughts.value : (message.reasoning ?? "");
  const calls = live ? live.toolCalls.value : (message.toolCalls ?? []);
  const nothing = text === "" && thoughts === "" && calls.length === 0;
  return (
    <div class="answer" aria-busy={live !== null}>
      {thoughts !== "" && <Thoughts text={thoughts} live={live} over={text !== ""} seconds={message.reasoned} />}
      {live && nothing && <Waiting answer={live} model={message.model ?? ""} />}
      <Markdown text={text} growing={live !== null} />
      {calls.map((call, i) => (
        <figure class="call" key={i}>
          <figcaption>
            <Icon name="tool" size={16} />
            <span>Calls <b>{call.name || "…"}</b></span>
            <CopyButton text={() => call.arguments} label="Copy arguments" />
          </figcaption>
          <pre tabIndex={0}><code>{pretty(call.arguments)}</code></pre>
        </figure>
      ))}
      {!live && <Ending message={message} empty={nothing} />}
    </div>
  );
}

function pretty(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}

/** Why an answer ended, where that is not its own end. */
function Ending({ message, empty }: { message: Message; empty: boolean }) {
  const why = {
    stopped: "Stopped",
    length: "Reached the longest answer allowed",
    edited: "Edited by you",
    error: "",
  }[message.finish ?? ""];
  const text = why ?? (message.finish === undefined ? "Interrupted" : empty ? "The answer is empty" : "");
  return text === "" ? null : <p class="ending">{text}</p>;
}

function Thoughts(props: { text: string; live: Answer | null; over: boolean; seconds: number | undefined }) {
  const { live } = props;
  const thinking = live !== null && !props.over;
  if (thinking) live.tick.value;
  const spent = live ? live.reasoned : (props.seconds ?? null);
  const time = spent === null ? "" : ` for ${spent < 10 ? spent.toFixed(1) : Math.round(spent)} s`;
  return (
    <details class="thoughts">
      <summary class={thinking ? "shimmer" : ""}>
        {thinking ? `Thinking${time}` : `Thought${time}`}
        <Icon name="down" size={14} />
      </summary>
      <Markdown text={props.text} growing={thinking} />
    </details>
  );
}

/** Before the first token: the model loads, or reads the prompt. */
function Waiting({ answer, model }: { answer: Answer; model: string }) {
  answer.tick.value;
  const known = modelOf(model);
  const waited = (performance.now() - answer.started) / 1000;
  const loading = known?.state === "loading";
  const text = loading ? `Loading ${model} · ${Math.round(known.progress * 100)} %` : "Reading the prompt";
  return (
    <div class="waiting">
      <Growing />
      <span>{text}{!loading && waited > 1 ? ` · ${Math.round(waited)} s` : ""}</span>
      {loading && <progress max={1} value={known.progress} aria-label="Load progress" />}
    </div>
  );
}

/** How fast an answer comes. */
function LiveSpeed({ answer }: { answer: Answer }) {
  answer.tick.value;
  const { rate, firstToken, tokens } = answer;
  if (firstToken === null) return null;
  return (
    <p class="speed" data-live>
      {rate !== null && <span>{significant(rate)} tokens/s</span>}
      <span>{seconds(firstToken)} to first token</span>
      <span>{tokens} tokens</span>
    </p>
  );
}

function Speed({ message }: { message: Message }) {
  const { usage, timings, firstToken, model } = message;
  const rate = timings?.decode_tokens_per_second;
  const cached = usage?.prompt_tokens_details?.cached_tokens;
  const details = [
    usage && usage.prompt_tokens > 0 && `Prompt: ${usage.prompt_tokens} tokens${cached ? `, ${cached} of them from the cache` : ""}`,
    timings && timings.prefill_tokens_per_second > 0 && `Read at ${significant(timings.prefill_tokens_per_second)} tokens/s`,
    timings && timings.queue_ms >= 1 && `Waited ${seconds(timings.queue_ms / 1000)} in the queue`,
  ].filter(Boolean);
  return (
    <p class="speed" title={details.join("\n")}>
      {rate !== undefined && rate > 0 && <span>{significant(rate)} tokens/s</span>}
      {firstToken !== undefined && <span>{seconds(firstToken)} to first token</span>}
      {usage && <span class="optional">{usage.completion_tokens} tokens</span>}
      {model && <span class="optional">{model}</span>}
    </p>
  );
}

/** `‹ 2/3 ›`: which of the branches at this place is shown. */
function Branches({ conversation, message }: { conversation: Conversation; message: Message }) {
  const { ids, index } = siblings(conversation.tree, message.id);
  if (ids.length < 2) return null;
  const busy = conversation.answer.value !== null;
  const to = (step: number) => conversation.select(ids[(index + step + ids.length) % ids.length]!);
  const onKey = (event: KeyboardEvent) => {
    if (busy || event.altKey || (event.key !== "ArrowLeft" && event.key !== "ArrowRight")) return;
    event.preventDefault();
    to(event.key === "ArrowLeft" ? -1 : 1);
  };
  return (
    <div class="branches" role="group" aria-label="Branches" onKeyDown={onKey}>
      <button type="button" class="tool" data-branch="previous" aria-label="Previous branch" disabled={busy} onClick={() => to(-1)}>
        <Icon name="left" size={14} />
      </button>
      <span aria-label={`Branch ${index + 1} of ${ids.length}`}>{index + 1}/{ids.length}</span>
      <button type="button" class="tool" data-branch="next" aria-label="Next branch" disabled={busy} onClick={() => to(1)}>
        <Icon name="right" size={14} />
      </button>
    </div>
  );
}

/** A message that is being changed; null where it stays as it was. */
function Editor({ message, onDone }: { message: Message; onDone(text: string | null): void }) {
  const [text, setText] = useState(message.content);
  const mine = message.role === "user";
  const onKey = (event: KeyboardEvent) => {
    if (event.isComposing) return;
    if (event.key === "Escape") {
      event.preventDefault();
      onDone(null);
    } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey || (mine && !event.shiftKey))) {
      event.preventDefault();
      onDone(text);
    }
  };
  return (
    <form
      class="editor"
      onSubmit={(event) => {
        event.preventDefault();
        onDone(text);
      }}
    >
      <textarea
        aria-label="Edit message"
        value={text}
        ref={(area) => {
          if (area && document.activeElement !== area) area.focus();
        }}
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={onKey}
      />
      <div class="buttons">
        <span class="hint">{mine ? "The old branch is kept." : "Kept beside the model's answer."}</span>
        <button type="button" class="button" onClick={() => onDone(null)}>Cancel</button>
        <button type="submit" class="button primary">{mine ? "Send" : "Save"}</button>
      </div>
    </form>
  );
}
