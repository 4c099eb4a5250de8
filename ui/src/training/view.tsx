// The training page: the runs that the server knows, and how their numbers go, step by step, while they go on.
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import type { Curve, Run, Series } from "../api/types";
import { ago, count, duration, significant } from "../shell/format";
import { hrefOf, route } from "../shell/route";
import { middles, smoothed, stateOf, type XY } from "./curve";
import { Plot, type PlotLine } from "./plot";
import { compared, curves, MOST, refreshCurve, refreshRuns, runs } from "./runs";

const PERIOD = 3000;

/** Which steps are shown: all, or the last part of them. */
const PARTS: [number, string][] = [[1, "All steps"], [0.5, "Last half"], [0.1, "Last tenth"]];
const part = signal(1);

/** Each run keeps its colour while it is shown. */
const colours = new Map<string, number>();

function colourOf(name: string, shown: string[]): number {
  for (const old of colours.keys()) {
    if (!shown.includes(old)) colours.delete(old);
  }
  if (!colours.has(name)) {
    const taken = new Set(colours.values());
    colours.set(name, [...Array(MOST).keys()].find((colour) => !taken.has(colour)) ?? 0);
  }
  return colours.get(name)!;
}

export function TrainingView() {
  const { value: at } = route;
  const all = runs.value ?? [];
  const asked = at.view === "training" ? at.run : null;
  const main = asked === null ? all[0] : all.find(({ name }) => name === asked);
  const shown = [...new Set([main?.name, ...compared.value])].filter((name) => name !== undefined && all.some((run) => run.name === name)) as string[];
  const key = shown.join("\n");
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout>;
    let over = false;
    const next = async () => {
      if (!document.hidden) {
        await refreshRuns();
        if (!over) await Promise.all(shown.map(refreshCurve));
      }
      if (!over) timer = setTimeout(next, PERIOD);
    };
    void next();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [key]);
  const known = shown.map((name) => ({ name, curve: curves.value.get(name)?.curve }));
  const curve = main && known.find(({ name }) => name === main.name)?.curve;
  return (
    <div class="scroll">
      <div class="column wide">
        <h1>Training</h1>
        {runs.value === null && <p class="quiet">The server has not answered yet.</p>}
        {runs.value !== null && all.length === 0 && (
          <p class="quiet">No runs yet. <code>autarky train</code> writes them; the server looks in <code>runs</code>, or where <code>--runs</code> says.</p>
        )}
        {all.length > 0 && <RunList all={all} main={main} shown={shown} />}
        {asked !== null && runs.value !== null && !main && <p class="problem" role="alert">There is no run {asked}.</p>}
        {main && <Heading run={main} curve={curve} />}
        {known.some(({ curve }) => curve) && <Plots known={known.filter((one): one is Shown => one.curve !== undefined)} shown={shown} />}
        {curve && <Samples curve={curve} />}
        {main && curve && <Numbers run={main} curve={curve} />}
      </div>
    </div>
  );
}

const loss = (value: number | null) => (value === null ? "–" : value.toFixed(3));
const speed = (value: number | null) => (value === null ? "–" : count(value));

function RunList({ all, main, shown }: { all: Run[]; main: Run | undefined; shown: string[] }) {
  const toggle = (name: string) => {
    const next = new Set(compared.value);
    if (!next.delete(name)) next.add(name);
    compared.value = next;
  };
  return (
    <section class="card runs" aria-label="Runs">
      <div class="table" tabIndex={0} role="region" aria-label="List of runs">
        <table>
          <thead>
            <tr>
              {all.length > 1 && <th scope="col" class="pick"><span class="offscreen">Compare</span></th>}
              <th scope="col">Run</th>
              {["Steps", "Loss", "Held out", "Tokens/s", "Written"].map((name) => <th key={name} scope="col" class="to-right">{name}</th>)}
            </tr>
          </thead>
          <tbody>
            {all.map((run) => {
              const { name, planned, steps } = run;
              const here = name === main?.name;
              const on = shown.includes(name);
              return (
                <tr key={name} class={on ? `r${colourOf(name, shown)}` : undefined}>
                  {all.length > 1 && (
                    <td>
                      <input
                        type="checkbox"
                        aria-label={`Compare ${name}`}
                        title={here ? "This run is shown" : undefined}
                        checked={on}
                        disabled={here || (!on && shown.length >= MOST)}
                        onChange={() => toggle(name)}
                      />
                    </td>
                  )}
                  <th scope="row">
                    <a href={hrefOf({ view: "training", run: name })} aria-current={here ? "true" : undefined}>
                      {on && shown.length > 1 && <span class="key" aria-hidden="true" />}
                      {name}
                    </a>
                    <span class="hint">{run.going && <span class="pulse" aria-hidden="true" />}{stateOf(run)}</span>
                  </th>
                  <td class="to-right">
                    {count(steps)}{planned !== null && <span class="quiet of"> of {count(planned)}</span>}
                    {planned !== null && steps < planned && <progress max={planned} value={steps} aria-label={`Steps of ${name}`} />}
                  </td>
                  <td class="to-right">{loss(run.loss)}</td>
                  <td class="to-right">{loss(run.held_out)}</td>
                  <td class="to-right">{speed(run.tokens_per_second)}</td>
                  <td class="to-right quiet">{run.written === null ? "–" : ago(Date.now() / 1000 - run.written)}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Heading({ run, curve }: { run: Run; curve: Curve | undefined }) {
  const facts: [string, string][] = [
    ["Step", run.planned === null ? count(run.steps) : `${count(run.steps)} of ${count(run.planned)}`],
    ["Loss", loss(run.loss)],
    ["Held out", loss(run.held_out)],
  ];
  if (run.bits_per_byte !== null) facts.push(["Bits per byte", run.bits_per_byte.toFixed(3)]);
  if (run.reward !== null) facts.push(["Reward", run.reward.toFixed(3)]);
  facts.push(["Tokens a second", speed(run.tokens_per_second)]);
  if (run.seconds_left !== null) facts.push(["Time left", `about ${duration(run.seconds_left)}`]);
  const dropped = curve?.dropped_steps ?? [];
  return (
    <>
      <div class="engine-head run-head">
        <h2>{run.name}</h2>
        <p class="quiet" role="status">{stateOf(run)}</p>
        <select aria-label="Steps that are shown" value={String(part.value)} onChange={(event) => (part.value = Number(event.currentTarget.value))}>
          {PARTS.map(([value, name]) => <option key={value} value={String(value)}>{name}</option>)}
        </select>
      </div>
      <dl class="facts">{facts.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>
      {run.dropped > 0 && (
        <p class="quiet">
          {run.dropped === 1 ? "One step was dropped" : `${count(run.dropped)} steps were dropped`} and changed nothing
          {dropped.length > 0 && `: ${run.dropped > 10 ? "the last at " : ""}${dropped.slice(-10).map(count).join(", ")}`}.
        </p>
      )}
      {run.skipped > 0 && <p class="quiet">{run.skipped === 1 ? "One line of its file" : `${count(run.skipped)} lines of its file`} could not be read.</p>}
    </>
  );
}

interface Shown {
  name: string;
  curve: Curve;
}

function Plots({ known, shown }: { known: Shown[]; shown: string[] }) {
  const last = Math.max(1, ...known.flatMap(({ curve }) => curve.learning_rate.points.at(-1)?.[0] ?? 1));
  const steps: XY = [part.value === 1 ? 0 : Math.floor(last * (1 - part.value)), last];
  const lines = (of: (curve: Curve) => Omit<PlotLine, "name" | "colour"> | null) =>
    known.flatMap(({ name, curve }): PlotLine[] => {
      const line = of(curve);
      return line ? [{ name, colour: colourOf(name, shown), ...line }] : [];
    });
  const noisy = (learned: Series, heldOut?: Series) => ({ points: learned.points, line: smoothed(middles(learned)), marks: heldOut?.points ?? [] });
  const accuracy = lines(({ accuracy }) => accuracy && noisy(accuracy.learned, accuracy.held_out));
  const reward = lines(({ reward }) => reward && noisy(reward.learned, reward.held_out));
  const percent = (n: number) => `${significant(n * 100)} %`;
  return (
    <>
      <p class="hint plot-key">
        <span class="some-dots" aria-hidden="true" /> steps
        <span class="some-line" aria-hidden="true" /> smoothed
        <span class="some-mark" aria-hidden="true" /> held out
      </p>
      {reward.length > 0 && <Plot title="Reward" lines={reward} steps={steps} height={260} format={significant} />}
      {accuracy.length > 0 && <Plot title="Pairs the right way round" lines={accuracy} steps={steps} height={260} format={percent} />}
      <Plot
        title="Loss"
        unit="nats a token"
        lines={lines((curve) => noisy(curve.loss, curve.held_out))}
        steps={steps}
        height={320}
        format={(value) => value.toFixed(4)}
        axis={(value) => String(Number(value.toFixed(4)))}
      />
      <div class="plot-pair">
        <Plot title="Learning rate" lines={lines((curve) => ({ line: curve.learning_rate.points }))} steps={steps} height={170} format={rate} />
        <Plot title="Tokens a second" lines={lines((curve) => noisy(curve.tokens_per_second))} steps={steps} height={170} format={count} />
      </div>
    </>
  );
}

/** `0.002`, `4e-5`. */
function rate(value: number): string {
  return value === 0 || Math.abs(value) >= 1e-3 ? String(Number(value.toPrecision(3))) : value.toExponential(2).replace(/\.?0+e/, "e");
}

/** What the model wrote, the newest first. */
function Samples({ curve: { samples } }: { curve: Curve }) {
  if (samples.length === 0) return null;
  const steps = [...new Set(samples.map(({ step }) => step))].reverse();
  const of = (step: number) => samples.filter((sample) => sample.step === step).map(({ prompt, text }, at) => (
    <p key={at} class="sample"><span class="quiet">{prompt}</span>{text}</p>
  ));
  return (
    <section class="card">
      <h3>What it writes after {count(steps[0]!)} steps</h3>
      {of(steps[0]!)}
      {steps.length > 1 && (
        <details>
          <summary>Earlier</summary>
          {steps.slice(1).map((step) => <div key={step}><h4>After {count(step)} steps</h4>{of(step)}</div>)}
        </details>
      )}
    </section>
  );
}

/** Everything that is drawn of a run, as numbers. */
function Numbers({ run, curve }: { run: Run; curve: Curve }) {
  const at = (series: Series) => new Map(series.means.map(([first, , mean]) => [first, mean]));
  const [rates, speeds] = [at(curve.learning_rate), at(curve.tokens_per_second)];
  const value = (n: number | undefined, format: (n: number) => string) => (n === undefined ? "–" : format(n));
  return (
    <section class="card">
      <details>
        <summary>The numbers of {run.name}</summary>
        <div class="table numbers" tabIndex={0} role="region" aria-label="Numbers">
          <table>
            <thead><tr>{["Steps", "Loss", "Held out", "Learning rate", "Tokens/s"].map((name) => <th key={name} scope="col" class="to-right">{name}</th>)}</tr></thead>
            <tbody>
              {[...curve.loss.means].reverse().map(([first, last, mean]) => {
                const held = curve.held_out.points.filter(([step]) => step >= first && step <= last).at(-1);
                return (
                  <tr key={first}>
                    <th scope="row" class="to-right">{first === last ? count(first) : `${count(first)}–${count(last)}`}</th>
                    <td class="to-right">{mean.toFixed(4)}</td>
                    <td class="to-right">{value(held?.[1], (n) => n.toFixed(4))}</td>
                    <td class="to-right">{value(rates.get(first), rate)}</td>
                    <td class="to-right">{value(speeds.get(first), count)}</td>
                  </tr>
                );
              })}
            </tbody>
          </table>
        </div>
      </details>
    </section>
  );
}
