// The help panel: the keys, and what server this is.
import { forgetKey, hasKey } from "../api/client";
import { info } from "../models/models";
import { Dialog } from "./dialog";
import { Icon } from "./icons";
import { KEYS, keyName } from "./keys";
import { helpOpen } from "./layout";
import { notify } from "./notices";

export function HelpDialog() {
  if (!helpOpen.value) return null;
  const close = () => (helpOpen.value = false);
  const about = info.value;
  const forget = () => {
    forgetKey();
    notify("The API key is forgotten.");
  };
  return (
    <Dialog label="Help" onClose={close}>
      <header class="dialog-head">
        <h2>Keys</h2>
        <button type="button" class="tool" aria-label="Close" onClick={close}><Icon name="close" /></button>
      </header>
      <dl class="keys">
        {KEYS.map(([keys, what]) => (
          <div key={what}>
            <dt>{keys.map((key) => <kbd key={key}>{keyName(key)}</kbd>)}</dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <h2>This server</h2>
      <p class="quiet">
        {about ? `Autarky ${about.version} on ${about.device}, ${about.threads} threads. Models in ${about.models_folder}.` : "The server has not answered yet."}{" "}
        Chats are kept in the server, the API key and the colours in this browser. The page asks no other host for anything.
      </p>
      {hasKey.value && <button type="button" class="button" onClick={forget}>Forget the API key</button>}
    </Dialog>
  );
}
