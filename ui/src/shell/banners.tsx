// What is wrong, and what to do: no server, a key to enter, notices.
import { useState } from "preact/hooks";

import { keyDeclined, keyQuestion, reachable } from "../api/client";
import { refreshConversations } from "../chat/library";
import { refreshModels } from "../models/models";
import { Dialog } from "./dialog";
import { Icon } from "./icons";
import { announcement, dismiss, notices } from "./notices";

/** Why the page is of no use now. */
export function Trouble() {
  const again = () => {
    void refreshModels();
    void refreshConversations();
  };
  if (keyDeclined.value) {
    const enter = () => {
      keyDeclined.value = false;
      again();
    };
    return (
      <div class="banner" role="alert">
        <Icon name="key" />
        <p><b>This server needs an API key.</b> Without it, nothing can be shown.</p>
        <button type="button" class="button" onClick={enter}>Enter the key</button>
      </div>
    );
  }
  if (reachable.value) return null;
  return (
    <div class="banner" role="alert">
      <Icon name="alert" />
      <p>
        <b>{location.host} does not answer.</b> Start <code>autarky serve</code> there, or check the network. The page tries again by itself.
      </p>
      <button type="button" class="button" onClick={again}>Try now</button>
    </div>
  );
}

export function KeyDialog() {
  const [key, setKey] = useState("");
  const ask = keyQuestion.value;
  if (!ask) return null;
  return (
    <Dialog label="API key" class="small" onClose={() => ask.answer(null)}>
      <h2><Icon name="key" /> API key</h2>
      <p class="quiet">
        {ask.refused ? "The server did not take the key that this browser has. " : "This server answers only to those who have its key. "}
        Ask whoever runs it. The key stays in this browser.
      </p>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          const given = key.trim();
          setKey("");
          if (given !== "") ask.answer(given);
        }}
      >
        <input type="password" value={key} aria-label="API key" autocomplete="current-password" autofocus onInput={(event) => setKey(event.currentTarget.value)} />
        <div class="buttons">
          <button type="submit" class="button primary" disabled={key.trim() === ""}>Continue</button>
        </div>
      </form>
    </Dialog>
  );
}

export function Notices() {
  return (
    <>
      <div class="notices">
        {notices.value.map((notice) => (
          <div key={notice.id} class={notice.bad ? "notice bad" : "notice"} role={notice.bad ? "alert" : "status"}>
            <p>{notice.text}</p>
            {notice.action && (
              <button
                type="button"
                class="button"
                onClick={() => {
                  dismiss(notice.id);
                  notice.action!.run();
                }}
              >
                {notice.action.label}
              </button>
            )}
            <button type="button" class="tool" aria-label="Dismiss" onClick={() => dismiss(notice.id)}><Icon name="close" size={14} /></button>
          </div>
        ))}
      </div>
      <div class="offscreen" role="status" aria-live="polite">{announcement.value}</div>
    </>
  );
}
