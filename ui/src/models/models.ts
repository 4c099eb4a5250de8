// The models that the server has, their states, and the one that new chats use.
import { computed, signal } from "@preact/signals";

import { ApiError, json, reachable } from "../api/client";
import type { Info, Model, ModelFile } from "../api/types";
import { report } from "../shell/notices";
import { remember, remembered } from "../shell/memory";

/** What the server says of itself; null until it has answered. */
export const info = signal<Info | null>(null);
/** Null until the server has answered. */
export const models = signal<Model[] | null>(null);

const preferred = signal(remembered("model"));

/** The model that a new chat starts with: the one chosen last, else one that is ready, else the first. */
export const usual = computed(() => {
  const all = models.value ?? [];
  const best =
    all.find(({ id }) => id === preferred.value) ??
    all.find(({ state, chat }) => state === "ready" && chat) ??
    all.find(({ state }) => state === "ready") ??
    all.find(({ chat }) => chat) ??
    all[0];
  return best?.id ?? null;
});

/** Remembers `id` for new chats. */
export function prefer(id: string): void {
  preferred.value = id;
  remember("model", id);
}

export function modelOf(id: string | null): Model | undefined {
  return models.value?.find((model) => model.id === id);
}

let timer: ReturnType<typeof setTimeout> | undefined;

/** Asks for the models now, and again: soon while one loads, else now and then while the page is looked at. */
export async function refreshModels(): Promise<void> {
  clearTimeout(timer);
  try {
    info.value ??= await json<Info>("GET", "api/info");
    models.value = (await json<{ models: Model[] }>("GET", "api/models")).models;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
  clearTimeout(timer);
  const loading = models.value?.some(({ state }) => state === "loading");
  const pause = loading ? 500 : models.value === null || !reachable.value ? 3000 : 15_000;
  timer = setTimeout(() => (document.hidden && !loading ? undefined : refreshModels()), pause);
}

addEventListener("focus", () => void refreshModels());
document.addEventListener("visibilitychange", () => document.hidden || void refreshModels());

/** Starts to load a model; its state says how that goes on. */
export async function load(id: string): Promise<void> {
  await json("POST", "api/models/load", { id });
  await refreshModels();
}

/** Loads a model, and shows why where that fails. */
export function loadNow(id: string): void {
  load(id).catch((error) => report("The model was not loaded", error));
}

export function unloadNow(id: string): void {
  json("POST", "api/models/unload", { id })
    .then(refreshModels)
    .catch((error) => report("The model was not unloaded", error));
}

/** Tells the server of a file or a folder. */
export async function addModel(path: string): Promise<void> {
  await json("POST", "api/models/add", { path });
  await refreshModels();
}

/** What lies in the server's models folder. */
export function listFiles(): Promise<{ folder: string; files: ModelFile[] }> {
  return json("GET", "api/files");
}

/** Waits until the server has said which models it has. Fails when aborted. */
export async function known(abort: AbortSignal): Promise<void> {
  while (models.value === null) await changed(abort);
}

/** Waits until a model is ready, loading it where it is not. Fails where the load fails, and when aborted. */
export async function ready(id: string, abort: AbortSignal): Promise<void> {
  if (!modelOf(id)) await refreshModels();
  const state = modelOf(id)?.state;
  // The server may know of more models than it lists; whether it has this one, it says when asked.
  if (state === undefined || state === "ready") return;
  if (state !== "loading") await load(id);
  for (;;) {
    abort.throwIfAborted();
    const model = modelOf(id);
    if (!model || model.state === "ready") return;
    if (model.state === "failed") throw new ApiError(model.error ?? "The model could not be loaded.", 500);
    if (model.state === "unloaded") throw new ApiError("The model was unloaded while it was waited for.", 503);
    await changed(abort);
  }
}

/** Resolves when the list of models was asked for anew. */
function changed(abort: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const before = models.peek();
    const stop = models.subscribe((now) => {
      if (now !== before) settle(resolve);
    });
    const onAbort = () => settle(() => reject(abort.reason));
    const settle = (done: () => void) => {
      abort.removeEventListener("abort", onAbort);
      queueMicrotask(() => stop());
      done();
    };
    abort.addEventListener("abort", onAbort);
  });
}
