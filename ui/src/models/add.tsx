// Adding a model: what lies in the server's models folder, or a path in it.
import { useEffect, useState } from "preact/hooks";

import { ApiError } from "../api/client";
import type { ModelFile } from "../api/types";
import { bytes } from "../shell/format";
import { Icon } from "../shell/icons";
import { addModel, info, listFiles, loadNow, models } from "./models";

export function AddModel() {
  const [files, setFiles] = useState<ModelFile[] | null>(null);
  const [path, setPath] = useState("");
  const [busy, setBusy] = useState<string | null>(null);
  const [problem, setProblem] = useState("");
  const folder = info.value?.models_folder ?? "the models folder";

  const look = () => {
    listFiles().then(
      (listing) => setFiles(listing.files),
      (error) => setProblem(error instanceof ApiError ? error.message : String(error)),
    );
  };
  useEffect(look, []);

  const add = async (which: string) => {
    setBusy(which);
    setProblem("");
    try {
      const first = models.value?.length === 0;
      await addModel(which);
      if (first && models.value?.[0]) loadNow(models.value[0].id);
      setPath("");
    } catch (error) {
      setProblem(error instanceof ApiError ? error.message : String(error));
    }
    setBusy(null);
  };
  const known = new Set((models.value ?? []).map((model) => model.path));
  const fresh = (files ?? []).filter((file) => !known.has(file.path));
  return (
    <section class="add" aria-label="Add a model">
      <div class="card">
        <div class="card-head">
          <h2>In the models folder</h2>
          <button type="button" class="tool" aria-label="Look again" title="Look again" onClick={look}>
            <Icon name="redo" size={16} />
          </button>
        </div>
        <p class="path" title={folder}>{folder}</p>
        {files !== null && fresh.length === 0 && (
          <p class="quiet">
            {files.length === 0
              ? "Nothing is there yet. Copy a GGUF file or a Hugging Face folder (config.json, tokenizer.json and safetensors files) into it, then look again."
              : "Every model in it is added."}
          </p>
        )}
        <ul class="files">
          {fresh.map((file) => (
            <li key={file.path}>
              <Icon name={file.kind === "gguf" ? "file" : "folder"} />
              <span class="file-name">{file.path}</span>
              <span class="quiet">{file.kind === "gguf" ? "GGUF" : "Hugging Face"} · {bytes(file.bytes)}</span>
              <button type="button" class="button" disabled={busy !== null} onClick={() => add(file.path)} aria-label={`Add ${file.path}`}>
                {busy === file.path ? "Adding…" : "Add"}
              </button>
            </li>
          ))}
        </ul>
      </div>
      <form
        class="card"
        onSubmit={(event) => {
          event.preventDefault();
          if (path.trim() !== "") void add(path.trim());
        }}
      >
        <h2>By its path</h2>
        <p class="quiet">A GGUF file, or a folder as Hugging Face lays it out, within the models folder.</p>
        <div class="path-row">
          <input
            type="text"
            value={path}
            placeholder="qwen3-4b-q4_k_m.gguf"
            aria-label="Path of the model"
            autocomplete="off"
            autocapitalize="off"
            spellcheck={false}
            onInput={(event) => setPath(event.currentTarget.value)}
          />
          <button type="submit" class="button primary" disabled={busy !== null || path.trim() === ""}>Add</button>
        </div>
        {problem !== "" && <p class="problem" role="alert">{problem}</p>}
      </form>
    </section>
  );
}
