// The engine page: what the server is doing, second by second, while somebody looks.
import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";

import { ApiError, json } from "../api/client";
import type { Stats } from "../api/types";
import { info } from "../models/models";
import { bytes, count, significant } from "../shell/format";
import { Chart } from "./chart";
import { chosen, LENGTH, type Point, pointOf } from "./history";

/** Readings of the last minutes, newest last; they stay while other views are looked at. */
const readings = signal<{ at: number; stats: Stats }[]>([]);
const PERIOD = 1000;
/** After a longer pause the charts begin anew. */
const MAX_GAP = 10_000;

async function read(): Promise<void> {
  try {
    const stats = await json<Stats>("GET", "api/stats");
    const at = performance.now();
    const last = readings.value.at(-1);
    const before = last && at - last.at < MAX_GAP ? readings.value : [];
    readings.value = [...before, { at, stats }].slice(-LENGTH - 1);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
}

export function EngineView() {
  const [only, setOnly] = useState<string | null>(null);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout>;
    let over = false;
    const next = async () => {
      if (!document.hidden) await read();
      if (!over) timer = setTimeout(next, PERIOD);
    };
    void next();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, []);
  const history = readings.value;
  const stats = history.at(-1)?.stats;
  const points: Point[] = history.slice(1).map(({ at, stats }, i) => {
    const before = history[i]!;
    return pointOf(before.stats, stats, (at - before.at) / 1000, only);
  });
  const of = (name: keyof Point) => points.map((point) => point[name]);
  const blocks = points.at(-1) && points.at(-1)!.used + points.at(-1)!.cached + points.at(-1)!.free;
  const rate = (n: number) => `${significant(n)} tok/s`;
  return (
    <div class="scroll">
      <div class="column wide">
        <div class="engine-head">
          <h1>Engine</h1>
          {info.value && <p class="quiet">{info.value.device} · {info.value.threads} threads</p>}
          {stats && stats.models.length > 1 && (
            <select aria-label="Model" value={only ?? ""} onChange={(event) => setOnly(event.currentTarget.value || null)}>
              <option value="">All models</option>
              {stats.models.map(({ id }) => <option key={id} value={id}>{id}</option>)}
            </select>
          )}
        </div>
        <div class="charts">
          <Chart title="Decode" series={[{ name: "written", colour: "c1", values: of("decode") }]} format={rate} least={10} />
          <Chart title="Prefill" series={[{ name: "read", colour: "c2", values: of("prefill") }]} format={rate} least={10} />
          <Chart
            title="Requests"
            stacked
            series={[
              { name: "running", colour: "c1", values: of("running") },
              { name: "waiting", colour: "c3", values: of("waiting") },
            ]}
            format={(n) => count(n)}
            least={4}
          />
          <Chart
            title="KV cache blocks"
            stacked
            series={[
              { name: "used", colour: "c1", values: of("used") },
              { name: "cached", colour: "c2", values: of("cached") },
              { name: "free", colour: "c0", values: of("free") },
            ]}
            format={(n) => count(n)}
            full={blocks}
          />
          <Chart title={only === null ? "Memory of the process" : "Memory of the model"} series={[{ name: "in use", colour: "c2", values: of("memory") }]} format={bytes} />
        </div>
        {stats && <Totals stats={stats} only={only} />}
      </div>
    </div>
  );
}

/** What was counted since the server started. */
function Totals({ stats, only }: { stats: Stats; only: string | null }) {
  const rows = chosen(stats, only);
  if (rows.length === 0) return <p class="quiet">No model is loaded.</p>;
  return (
    <section class="card">
      <h2>Since the server started</h2>
      <div class="table" tabIndex={0} role="region" aria-label="Totals">
        <table>
          <thead>
            <tr>
              <th scope="col">Model</th>
              {["Requests", "Failed", "Read", "From cache", "Written", "Memory"].map((name) => <th key={name} scope="col" class="to-right">{name}</th>)}
            </tr>
          </thead>
          <tbody>
            {rows.map((model) => {
              const prompt = model.prefill_tokens + model.cached_tokens;
              return (
                <tr key={model.id}>
                  <th scope="row">{model.id}</th>
                  <td class="to-right">{count(model.requests)}</td>
                  <td class={model.failed > 0 ? "to-right bad" : "to-right"}>{count(model.failed)}</td>
                  <td class="to-right">{count(model.prefill_tokens)}</td>
                  <td class="to-right">{prompt > 0 ? `${Math.round((model.cached_tokens / prompt) * 100)} %` : "–"}</td>
                  <td class="to-right">{count(model.decode_tokens)}</td>
                  <td class="to-right">{bytes(model.memory_bytes)}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </section>
  );
}
