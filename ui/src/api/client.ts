// Calls of the server: the API key, and errors that say what to do. Addresses are relative to the page, so that it
// also works behind a proxy that puts it in a folder.
import { signal } from "@preact/signals";

import { remember, remembered } from "../shell/memory";

/** Whether the last call reached the server. */
export const reachable = signal(true);

/** The question for the API key that is on the page. */
export const keyQuestion = signal<{ refused: boolean; answer(key: string | null): void } | null>(null);

/** Whether the person closed that question. Nobody is asked twice; a button brings the question back. */
export const keyDeclined = signal(false);

/** Whether an API key is stored in this browser. */
export const hasKey = signal(remembered("key") !== null);

export class ApiError extends Error {
  constructor(
    message: string,
    /** HTTP status; 0 where the server was not reached. */
    readonly status: number,
    /** Seconds after which another try makes sense, where the server said so. */
    readonly retryAfter: number | null = null,
  ) {
    super(message);
  }
}

/** Forgets the API key of this browser. */
export function forgetKey(): void {
  remember("key", null);
  hasKey.value = false;
}

let asking: Promise<string | null> | null = null;

/** Asks for the API key, once for all calls that wait for it; null where the person closes the question. */
function askKey(refused: boolean): Promise<string | null> {
  asking ??= new Promise<string | null>((resolve) => {
    keyQuestion.value = { refused, answer: resolve };
  }).then((key) => {
    asking = null;
    keyQuestion.value = null;
    if (key !== null) {
      remember("key", key);
      hasKey.value = true;
    }
    keyDeclined.value = key === null;
    return key;
  });
  return asking;
}

/** Sends a request; a 401 asks for the key and tries again. Fails with `ApiError`, or `AbortError` when aborted. */
export async function call(path: string, init: RequestInit = {}): Promise<Response> {
  for (;;) {
    const key = remembered("key");
    const headers = new Headers(init.headers);
    if (key) headers.set("Authorization", `Bearer ${key}`);
    let response: Response;
    try {
      response = await fetch(path, { ...init, headers, cache: "no-store" });
    } catch (error) {
      if (init.signal?.aborted) throw error;
      reachable.value = false;
      throw new ApiError("The server cannot be reached.", 0);
    }
    reachable.value = true;
    if (response.ok) return response;
    if (response.status === 401) {
      // Another call may have been given a new key meanwhile.
      if (remembered("key") !== key) continue;
      if (!keyDeclined.value && (await askKey(key !== null)) !== null) continue;
    }
    throw await errorOf(response);
  }
}

/** A call with JSON in both directions. */
export async function json<T>(method: string, path: string, body?: unknown, init: RequestInit = {}): Promise<T> {
  const content = body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  const response = await call(path, { ...init, method, ...content });
  const text = await response.text();
  if (text === "") return {} as T;
  try {
    return JSON.parse(text) as T;
  } catch {
    throw new ApiError(`The answer to ${method} ${path} is not JSON. Is another server at this address?`, 502);
  }
}

async function errorOf(response: Response): Promise<ApiError> {
  const after = Number(response.headers.get("Retry-After"));
  const retryAfter = Number.isFinite(after) && after > 0 ? Math.min(Math.ceil(after), 3600) : null;
  let said = "";
  try {
    said = messageIn(await response.json());
  } catch {
    // No JSON: the status has to do.
  }
  return new ApiError(said || meaning(response.status), response.status, retryAfter);
}

/** The message of an error as the API words it; empty for anything else. */
export function messageIn(body: unknown): string {
  const error = (body as { error?: unknown } | null)?.error;
  if (typeof error === "string") return error;
  const message = (error as { message?: unknown } | undefined)?.message;
  return typeof message === "string" ? message : "";
}

function meaning(status: number): string {
  switch (status) {
    case 401:
      return "The server asks for an API key.";
    case 404:
      return "The server does not know what was asked for.";
    case 413:
      return "This is larger than the server takes. Start a new conversation, and export this one to keep it.";
    case 429:
      return "The server has as many requests as it takes.";
    case 503:
      return "The server is busy, or still loading the model.";
    default:
      return `The server answered with status ${status}. Its log says more.`;
  }
}
