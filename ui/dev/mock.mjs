// A server with the API of `autarky serve`, for working on the page and for its tests: nothing it says is true.
//
//   node dev/mock.mjs [--port 8080] [--empty] [--key SECRET] [--busy] [--runs] [--pace 8]
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { ANSWER, CODE, SHORT } from "./answers.mjs";
import * as training from "./runs.mjs";

const PAGE = fileURLToPath(new URL("../../crates/server/page", import.meta.url));
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const MAX_DOCUMENT = 8 << 20;

const MODELS = [
  { id: "qwen3-4b-q4_k_m", family: "Qwen3", parameters: 4.02e9, bytes: 2_497_280_256, context: 40_960, chat: true, state: "ready" },
  { id: "llama-3.2-1b-q4_0", family: "Llama", parameters: 1.24e9, bytes: 773_025_920, context: 131_072, chat: true, state: "unloaded" },
  { id: "stories260k", family: "Llama", parameters: 260_032, bytes: 1_185_376, context: 512, chat: false, state: "unloaded" },
];

/**
 * Starts a server on a free port, or on `port`.
 * @param {{port?: number, empty?: boolean, key?: string, busy?: boolean, runs?: object[], pace?: number, ready?: Promise<void>}} options
 *   `runs`: of training, as in `runs.mjs`. `empty`: without models. `busy`: the first request for an answer is refused. `pace`: milliseconds for each token.
 *   `ready`: the server says no more than its page before.
 */
export async function startMock(options = {}) {
  const state = {
    ...options,
    models: options.empty ? [] : MODELS.map((model) => modelAt(model)),
    conversations: options.conversations ?? new Map(),
    refusals: options.busy ? 1 : 0,
    next: 1,
    requests: [],
  };
  const server = createServer((request, response) => {
    handle(state, request, response).catch((error) => {
      if (!response.headersSent) send(response, error.status ?? 500, { error: { message: error.message, type: "error", param: null, code: null } }, error.headers);
      else response.end();
    });
  });
  await new Promise((resolve) => server.listen(options.port ?? 0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    state,
    stop: () => new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    }),
  };
}

function modelAt(model) {
  const counters = { running: 0, waiting: 0, prefill_tokens: 0, decode_tokens: 0, cached_tokens: 0, requests: 0, failed: 0 };
  return { path: `${model.id}.gguf`, progress: model.state === "ready" ? 1 : 0, error: null, ...model, counters };
}

class Refusal extends Error {
  constructor(status, message, headers = {}) {
    super(message);
    this.status = status;
    this.headers = headers;
  }
}

async function handle(state, request, response) {
  const { pathname, searchParams } = new URL(request.url, "http://mock");
  if (!pathname.startsWith("/api/") && !pathname.startsWith("/v1/")) return page(pathname, response);
  state.requests.push(`${request.method} ${pathname}`);
  await state.ready;
  if (state.key && request.headers.authorization !== `Bearer ${state.key}`) throw new Refusal(401, "this server needs an API key");
  const body = await read(request);
  const route = `${request.method} ${pathname}`;
  const id = /^\/api\/conversations\/([^/]+)$/.exec(pathname)?.[1];
  if (id !== undefined) return send(response, 200, conversation(state, request.method, id, body));
  const run = /^\/api\/runs\/([^/]+)$/.exec(pathname)?.[1];
  if (run !== undefined) return send(response, 200, training.curve(findRun(state, decodeURIComponent(run)), Number(searchParams.get("after"))));
  switch (route) {
    case "GET /api/info":
      return send(response, 200, { version: "0.0.0-mock", models_folder: "/srv/models", needs_key: Boolean(state.key), device: "x86-64 AVX-512", threads: 8 });
    case "GET /api/models":
      return send(response, 200, { models: state.models.map(({ counters: _, ...model }) => model) });
    case "POST /api/models/load":
      return send(response, 200, load(find(state, body.id)));
    case "POST /api/models/unload":
      Object.assign(find(state, body.id), { state: "unloaded", progress: 0 });
      return send(response, 200, {});
    case "POST /api/models/add":
      return send(response, 200, addModel(state, body.path));
    case "GET /api/files":
      return send(response, 200, { folder: "/srv/models", files: [
        ...MODELS.map(({ id, bytes }) => ({ path: `${id}.gguf`, bytes, kind: "gguf" })),
        { path: "Mistral-7B-Instruct-v0.3", bytes: 14_496_078_512, kind: "hugging_face" },
      ] });
    case "GET /api/conversations":
      return send(response, 200, { conversations: [...state.conversations.values()].map(({ document: _, revision: __, ...summary }) => summary) });
    case "POST /api/conversations":
      return send(response, 201, create(state, body));
    case "DELETE /api/conversations":
      state.conversations.clear();
      return send(response, 200, {});
    case "GET /api/runs":
      return send(response, 200, { folder: "runs", runs: (state.runs ?? []).map(training.summary) });
    case "GET /api/stats":
      return send(response, 200, stats(state));
    case "POST /v1/chat/completions":
      return complete(state, body, response);
    default:
      throw new Refusal(404, `there is no ${route}`);
  }
}

async function page(pathname, response) {
  const path = normalize(join(PAGE, pathname === "/" ? "index.html" : pathname));
  const bytes = path.startsWith(PAGE) ? await readFile(path).catch(() => null) : null;
  if (!bytes) throw new Refusal(404, `there is no ${pathname}`);
  response.writeHead(200, { "Content-Type": TYPES[extname(path)] ?? "application/octet-stream", "Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff" });
  response.end(bytes);
}

async function read(request) {
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > MAX_DOCUMENT) throw new Refusal(413, "the document is larger than 8 MB");
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString();
  return text === "" ? {} : JSON.parse(text);
}

function send(response, status, body, headers = {}) {
  response.writeHead(status, { "Content-Type": "application/json", ...headers });
  response.end(JSON.stringify(body));
}

function find(state, id) {
  const model = state.models.find((model) => model.id === id);
  if (!model) throw new Refusal(404, `there is no model ${id}`);
  return model;
}

function findRun(state, name) {
  const run = (state.runs ?? []).find((run) => run.name === name);
  if (!run) throw new Refusal(404, `there is no run ${name}`);
  return run;
}

function load(model) {
  if (model.state === "loading" || model.state === "ready") return {};
  Object.assign(model, { state: "loading", progress: 0, error: null });
  const step = () => {
    if (model.state !== "loading") return;
    model.progress = Math.min(1, model.progress + 0.12);
    if (model.progress >= 1) model.state = "ready";
    else setTimeout(step, 120);
  };
  setTimeout(step, 120);
  return {};
}

function addModel(state, path) {
  const known = MODELS.find(({ id }) => path === `${id}.gguf`);
  if (!known) throw new Refusal(400, `${path}: there is no such file in the models folder`);
  if (!state.models.some(({ id }) => id === known.id)) state.models.push(modelAt({ ...known, state: "unloaded" }));
  return {};
}

function now() {
  return Math.floor(Date.now() / 1000);
}

function create(state, { title, model, document }) {
  const id = `c${state.next++}`;
  const entry = { id, title, model, created: now(), updated: now(), revision: 1, document };
  state.conversations.set(id, entry);
  return { id, revision: 1 };
}

function conversation(state, method, id, body) {
  const entry = state.conversations.get(id);
  if (!entry) throw new Refusal(404, `there is no conversation ${id}`);
  if (method === "GET") return entry;
  if (method === "DELETE") {
    state.conversations.delete(id);
    return {};
  }
  if (body.revision !== entry.revision) throw new Refusal(409, "another page has changed this conversation");
  const { title, model, document } = body;
  Object.assign(entry, { title, model, document, updated: now(), revision: entry.revision + 1 });
  return { id, revision: entry.revision };
}

function stats(state) {
  const models = state.models.filter((model) => model.state === "ready").map(({ id, bytes, counters }) => {
    const used = counters.running * 40 + Math.round(20 * (1 + Math.sin(Date.now() / 9000)));
    return { id, ...counters, blocks_total: 512, blocks_used: used, blocks_cached: 120 + Math.round(60 * Math.sin(Date.now() / 20_000)), memory_bytes: bytes * 1.1 };
  });
  return { time: Date.now() / 1000, models, process_bytes: 180e6 + models.reduce((sum, model) => sum + model.memory_bytes, 0) };
}

async function complete(state, body, response) {
  if (state.refusals-- > 0) throw new Refusal(503, "the engine has as many requests as it takes", { "Retry-After": "2" });
  const model = find(state, body.model);
  if (model.state !== "ready") throw new Refusal(503, `${model.id} is not loaded`, { "Retry-After": "1" });
  const last = body.messages.at(-1).content;
  const limit = body.max_tokens ?? Infinity;
  const pieces = answerTo(last).match(/\s*\S{1,6}|\s+$/g) ?? [];
  let open = true;
  response.on("close", () => (open = false));
  response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
  const event = (data) => response.write(`data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`);
  const delta = (delta, finish_reason = null) => event({ object: "chat.completion.chunk", choices: [{ index: 0, delta, finish_reason }] });
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const prompt = body.messages.reduce((sum, { content }) => sum + Math.ceil(content.length / 4), 8);
  const { counters } = model;
  counters.requests++;
  counters.running++;
  await pause(120);
  counters.prefill_tokens += prompt;
  const begin = Date.now();
  delta({ role: "assistant" });
  let count = 0;
  const tick = async () => {
    count++;
    counters.decode_tokens++;
    // Faster than the clock ticks: many tokens for each tick.
    const pace = state.pace ?? 8;
    if (pace > 0 || count % 20 === 0) await pause(pace);
  };
  if (/think/i.test(last)) {
    for (const word of SHORT.split(/(?<= )/)) {
      if (!open) break;
      delta({ reasoning_content: word });
      await tick();
    }
  }
  let finish = "stop";
  for (const piece of pieces) {
    if (!open) break;
    if (count >= limit) {
      finish = "length";
      break;
    }
    delta({ content: piece });
    await tick();
    if (/break/i.test(last) && count > 5) {
      event({ error: { message: "the device was lost", type: "server_error", param: null, code: null } });
      counters.running--;
      counters.failed++;
      return response.end();
    }
  }
  if (/weather/i.test(last)) {
    const call = { index: 0, id: "call_1", type: "function", function: { name: "get_weather", arguments: '{"city":' } };
    delta({ tool_calls: [call] });
    delta({ tool_calls: [{ index: 0, function: { arguments: '"Delft","unit":"celsius"}' } }] });
    finish = "tool_calls";
  }
  counters.running--;
  const decode_ms = Math.max(1, Date.now() - begin);
  delta({}, finish);
  event({
    object: "chat.completion.chunk", choices: [],
    usage: { prompt_tokens: prompt, completion_tokens: count, prompt_tokens_details: { cached_tokens: Math.floor(prompt / 2) } },
    timings: { queue_ms: 0.4, prefill_ms: 118, decode_ms, prefill_tokens_per_second: 1000 * prompt / 118, decode_tokens_per_second: 1000 * count / decode_ms },
  });
  event("[DONE]");
  response.end();
}

function answerTo(text) {
  if (/flood/i.test(text)) return `${ANSWER}\n\n`.repeat(100);
  if (/code/i.test(text)) return CODE;
  return text.length < 12 ? SHORT : ANSWER;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { port: { type: "string", default: "8080" }, empty: { type: "boolean" }, key: { type: "string" }, busy: { type: "boolean" }, runs: { type: "boolean" }, pace: { type: "string", default: "8" } } });
  const runs = values.runs ? [{ name: "book", steps: 400, planned: 1000, floor: 3.2, going: true }, { name: "deeper", steps: 1000, planned: 1000, floor: 2.9, dropped: [17] }] : [];
  const { url } = await startMock({ ...values, runs, port: Number(values.port), pace: Number(values.pace) });
  console.log(url);
}
