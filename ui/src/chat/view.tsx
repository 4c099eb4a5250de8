// The view of a conversation: its messages, and the field below them.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import { ApiError } from "../api/client";
import { AddModel } from "../models/add";
import { info, modelOf, models } from "../models/models";
import { Icon, Mark } from "../shell/icons";
import { focusComposer } from "../shell/layout";
import { go } from "../shell/route";
import { Composer } from "./composer";
import type { Conversation } from "./conversation";
import { current } from "./library";
import { MessageView } from "./message";
import { shown } from "./tree";

export function ChatView() {
  const conversation = current.value;
  const state = conversation.state.value;
  const messages = shown(conversation.tree);
  useEffect(() => focusComposer(false), [conversation]);
  if (state instanceof ApiError) return <NotThere error={state} />;
  if (models.value?.length === 0 && messages.length === 0) return <FirstRun />;
  if (state === "loading") return <div class="thread" aria-busy="true" />;
  if (messages.length === 0) return <Begin conversation={conversation} />;
  return (
    <>
      <Thread key={conversation.key} conversation={conversation} />
      <div class="dock">
        <Composer conversation={conversation} />
      </div>
    </>
  );
}

/** So near to the end, in pixels, a reader wants to follow what is written. */
const NEAR = 48;

function Thread({ conversation }: { conversation: Conversation }) {
  const frame = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const following = useRef(true);
  const [away, setAway] = useState(false);
  const messages = shown(conversation.tree);
  const answer = conversation.answer.value;

  const toEnd = () => {
    frame.current!.scrollTop = frame.current!.scrollHeight;
  };
  useLayoutEffect(() => {
    const observer = new ResizeObserver(() => following.current && toEnd());
    observer.observe(content.current!);
    observer.observe(frame.current!);
    toEnd();
    return () => observer.disconnect();
  }, []);
  // A new answer is followed from its start.
  useLayoutEffect(() => {
    if (!answer) return;
    following.current = true;
    toEnd();
  }, [answer]);

  const onScroll = () => {
    const { scrollHeight, scrollTop, clientHeight } = frame.current!;
    const near = scrollHeight - scrollTop - clientHeight < NEAR;
    following.current = near;
    setAway(!near);
  };
  return (
    <div class="thread-frame">
      <div class="thread" ref={frame} onScroll={onScroll} tabIndex={-1} data-unsaved={conversation.unsaved.value}>
        <div class="column" ref={content} role="log" aria-live="off" aria-label="Conversation">
          {messages.map((message, i) => (
            <MessageView
              key={message.id}
              conversation={conversation}
              message={message}
              live={answer?.id === message.id ? answer : null}
              last={i === messages.length - 1}
            />
          ))}
        </div>
      </div>
      {away && (
        <button
          type="button"
          class="to-end"
          aria-label="Go to the end"
          onClick={() => {
            following.current = true;
            toEnd();
          }}
        >
          <Icon name="end" />
        </button>
      )}
    </div>
  );
}

/** A chat before its first message. */
function Begin({ conversation }: { conversation: Conversation }) {
  const model = modelOf(conversation.model.value);
  const about = info.value;
  return (
    <div class="begin">
      <div class="greeting">
        <Mark size={44} />
        <h1>What is on your mind?</h1>
      </div>
      <Composer conversation={conversation} />
      <p class="fine">
        {about && (
          <>
            {model?.id ?? "No model"} on {about.device}, {about.threads} {about.threads === 1 ? "thread" : "threads"}.{" "}
          </>
        )}
        Nothing that you write leaves your server.
      </p>
    </div>
  );
}

/** The server has no model yet. */
function FirstRun() {
  return (
    <div class="scroll">
      <div class="column first-run">
        <div class="greeting">
          <Mark size={44} />
          <h1>Welcome to Autarky</h1>
          <p>One thing is missing: a model. Bring one, and everything else is here.</p>
        </div>
        <AddModel />
      </div>
    </div>
  );
}

function NotThere({ error }: { error: ApiError }) {
  const gone = error.status === 404;
  return (
    <div class="begin">
      <div class="greeting">
        <h1>{gone ? "This conversation is gone" : "This conversation cannot be shown"}</h1>
        <p>{gone ? "It was deleted, or the server keeps its conversations elsewhere now." : error.message}</p>
        <div class="buttons">
          {!gone && <button type="button" class="button" onClick={() => location.reload()}>Try again</button>}
          <button type="button" class="button primary" onClick={() => go({ view: "chat", id: null })}>New chat</button>
        </div>
      </div>
    </div>
  );
}
