// The page: side bar, head, and one of the views.
import { useEffect } from "preact/hooks";

import { current } from "../chat/library";
import { SettingsPanel } from "../chat/settings";
import { ChatView } from "../chat/view";
import { EngineView } from "../engine/view";
import { ModelPicker } from "../models/picker";
import { ModelsView } from "../models/view";
import { TrainingView } from "../training/view";
import { KeyDialog, Notices, Trouble } from "./banners";
import { ConfirmDialog } from "./dialog";
import { HelpDialog } from "./help";
import { Icon } from "./icons";
import { keyName } from "./keys";
import { drawer, isNarrow, pinned, settingsOpen, toggleSidebar } from "./layout";
import { route } from "./route";
import { Sidebar } from "./sidebar";

export function App() {
  const { view } = route.value;
  const chat = view === "chat";
  const title = chat ? current.value.title.value : { engine: "Engine", models: "Models", training: "Training" }[view];
  useEffect(() => {
    document.title = title === "New chat" ? "Autarky" : `${title} · Autarky`;
  }, [title]);
  const settings = chat && settingsOpen.value;
  const classes = ["app", pinned.value && "pinned", drawer.value && "drawer", settings && "with-settings"];
  return (
    <div class={classes.filter(Boolean).join(" ")}>
      <Sidebar />
      <div class="scrim" onClick={() => (drawer.value = settingsOpen.value = false)} />
      <main inert={drawer.value && isNarrow()}>
        <Head chat={chat} />
        <Trouble />
        {chat ? <ChatView /> : view === "engine" ? <EngineView /> : view === "training" ? <TrainingView /> : <ModelsView />}
      </main>
      {settings && <SettingsPanel />}
      <Notices />
      <HelpDialog />
      <ConfirmDialog />
      <KeyDialog />
    </div>
  );
}

function Head({ chat }: { chat: boolean }) {
  return (
    <header class="head">
      <button type="button" class="tool show-sidebar" aria-label="Show the side bar" title={`Side bar (${keyName("Ctrl")} B)`} onClick={toggleSidebar}>
        <Icon name="menu" />
      </button>
      {chat && <ModelPicker />}
      <span class="space" />
      {chat && (
        <button
          type="button"
          class="tool"
          aria-label="Conversation settings"
          title="System prompt and sampling"
          aria-pressed={settingsOpen.value}
          onClick={() => (settingsOpen.value = !settingsOpen.value)}
        >
          <Icon name="sliders" />
        </button>
      )}
    </header>
  );
}
