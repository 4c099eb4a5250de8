// The page starts here.
import { effect } from "@preact/signals";
import { render } from "preact";

import { refreshConversations, summaries } from "./chat/library";
import { models, refreshModels } from "./models/models";
import { App } from "./shell/app";
import "./shell/keys";
import "./shell/theme";
import "./styles/base.css";
import "./styles/shell.css";
import "./styles/chat.css";
import "./styles/prose.css";
import "./styles/pages.css";
import "./styles/training.css";

render(<App />, document.getElementById("app")!);
void refreshModels();
// The list comes when the server is there, whenever that is.
effect(() => {
  if (models.value !== null && summaries.peek() === null) void refreshConversations();
});
