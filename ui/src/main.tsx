// The page starts here.
import { render } from "preact";

import { refreshConversations } from "./chat/library";
import { refreshModels } from "./models/models";
import { App } from "./shell/app";
import "./shell/keys";
import "./shell/theme";
import "./styles/base.css";
import "./styles/shell.css";
import "./styles/chat.css";
import "./styles/prose.css";
import "./styles/pages.css";

render(<App />, document.getElementById("app")!);
void refreshModels().then(refreshConversations);
