// The button that names the model of the conversation, and the menu to choose another.
import { current } from "../chat/library";
import { Icon } from "../shell/icons";
import { Menu } from "../shell/menu";
import { go } from "../shell/route";
import { loadNow, modelOf, models, prefer, refreshModels } from "./models";
import { describe, StateDot, stateText } from "./view";

export function ModelPicker() {
  const conversation = current.value;
  const id = conversation.model.value;
  const model = modelOf(id);
  const all = models.value ?? [];
  const close = () => document.getElementById("model-menu")?.hidePopover();
  const choose = (chosen: string) => {
    close();
    conversation.setModel(chosen);
    prefer(chosen);
    const state = modelOf(chosen)?.state;
    if (state === "unloaded" || state === "failed") loadNow(chosen);
  };
  return (
    <>
      <button
        type="button"
        class="picker"
        popovertarget="model-menu"
        aria-haspopup="menu"
        aria-expanded="false"
        aria-label={`Model: ${id ?? "none"}${model ? `, ${stateText(model)}` : ""}`}
        onClick={() => void refreshModels()}
      >
        <StateDot model={model} />
        <span class="picker-name">{id || (models.value === null ? "…" : "No model")}</span>
        {model?.state === "loading" && <span class="quiet">{Math.round(model.progress * 100)} %</span>}
        <Icon name="down" size={14} />
      </button>
      <Menu id="model-menu" label="Models" class="models-menu">
        {all.map((entry) => (
          <button
            key={entry.id}
            type="button"
            role="menuitemradio"
            aria-checked={entry.id === id}
            class="item two"
            onClick={() => choose(entry.id)}
          >
            <StateDot model={entry} />
            <span class="item-text">
              <span class="item-name">{entry.id}</span>
              <span class="quiet">{describe(entry)} · {stateText(entry).toLowerCase()}</span>
              {entry.state === "loading" && <progress max={1} value={entry.progress} aria-label="Load progress" />}
            </span>
            {entry.id === id && <Icon name="check" size={16} />}
          </button>
        ))}
        {all.length > 0 && <hr />}
        <button
          type="button"
          role="menuitem"
          class="item"
          onClick={() => {
            close();
            go({ view: "models" });
          }}
        >
          <Icon name="cube" size={16} />
          Manage models
        </button>
      </Menu>
    </>
  );
}
