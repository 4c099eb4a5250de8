// The models page: what the server has, loading and unloading, and adding more.
import type { Model } from "../api/types";
import { bytes, tokens, weights } from "../shell/format";
import { AddModel } from "./add";
import { loadNow, models, unloadNow } from "./models";

export function ModelsView() {
  const all = models.value;
  return (
    <div class="scroll">
      <div class="column wide">
        <h1>Models</h1>
        {all !== null && all.length === 0 && <p class="quiet">The server has no model yet. Add one below.</p>}
        <ul class="model-list">
          {(all ?? []).map((model) => <Row key={model.id} model={model} />)}
        </ul>
        <h2 class="section">Add a model</h2>
        <AddModel />
      </div>
    </div>
  );
}

function Row({ model }: { model: Model }) {
  const busy = model.state === "loading";
  const loaded = model.state === "ready";
  return (
    <li class="card model" data-model={model.id} data-state={model.state}>
      <div class="model-head">
        <StateDot model={model} />
        <h3>{model.id}</h3>
        {loaded ? (
          <button type="button" class="button" aria-label={`Unload ${model.id}`} onClick={() => unloadNow(model.id)}>Unload</button>
        ) : (
          <button type="button" class="button" aria-label={`Load ${model.id}`} disabled={busy} onClick={() => loadNow(model.id)}>
            {model.state === "failed" ? "Try again" : "Load"}
          </button>
        )}
      </div>
      <p class="quiet">{[stateText(model), describe(model), `${tokens(model.context)} context`, model.chat ? "" : "no chat template"].filter(Boolean).join(" · ")}</p>
      <p class="path" title={model.path}>{model.path}</p>
      {busy && <progress max={1} value={model.progress} aria-label={`Loading ${model.id}`} />}
      {model.state === "failed" && <p class="problem">{model.error ?? "It could not be loaded."}</p>}
    </li>
  );
}

/** Family, weights and size on disk. */
export function describe(model: Model): string {
  const size = typeof model.parameters === "number" && model.parameters > 0 ? weights(model.parameters) : "";
  return [model.family, size, bytes(model.bytes)].filter(Boolean).join(" · ");
}

export function stateText(model: Model): string {
  switch (model.state) {
    case "loading":
      return `Loading, ${Math.round(model.progress * 100)} %`;
    case "ready":
      return "Ready";
    case "failed":
      return "Failed";
    default:
      return "Not loaded";
  }
}

export function StateDot({ model }: { model: Model | undefined }) {
  return <span class={`dot ${model?.state ?? "unloaded"}`} aria-hidden="true" />;
}
