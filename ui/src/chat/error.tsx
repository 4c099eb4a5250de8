// Why there is no answer, and what to do.
import { useEffect, useState } from "preact/hooks";

import { Icon } from "../shell/icons";
import type { Message } from "./tree";

/** What a person can do about an error. */
function advice(status: number): string {
  switch (status) {
    case 0:
      return "Check that autarky serve is running and that this page can reach it. What came so far is kept.";
    case 400:
      return "If the conversation is longer than the model's context, start a new one or edit an earlier message.";
    case 401:
    case 403:
      return "Send the message again and enter the server's API key.";
    case 404:
      return "Choose another model at the top, or add this one on the models page.";
    case 413:
      return "Start a new conversation; export this one to keep it.";
    case 429:
    case 503:
      return "Other requests are being answered. This one was not queued.";
    default:
      return "The server's log says more. Another try does no harm.";
  }
}

export function ErrorCard({ error, onRetry }: { error: NonNullable<Message["error"]>; onRetry?: () => void }) {
  const [left, setLeft] = useState(error.retryAfter ?? 0);
  useEffect(() => {
    if (left <= 0) return;
    const timer = setTimeout(() => setLeft(left - 1), 1000);
    return () => clearTimeout(timer);
  }, [left]);
  return (
    <div class="error-card" role="alert">
      <Icon name="alert" />
      <div>
        <p><b>{error.message}</b></p>
        <p>{advice(error.status)}</p>
      </div>
      {onRetry && (
        <button type="button" class="button" disabled={left > 0} onClick={onRetry}>
          {left > 0 ? `Try again in ${left} s` : "Try again"}
        </button>
      )}
    </div>
  );
}
