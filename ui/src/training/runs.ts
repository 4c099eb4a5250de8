// The runs of training that the server knows, and the curves of those that are looked at.
import { effect, signal } from "@preact/signals";

import { ApiError, json } from "../api/client";
import type { Curve, Run } from "../api/types";
import { models } from "../models/models";
import { joined } from "./curve";

/** The one that was written last first; null until the server has answered. */
export const runs = signal<Run[] | null>(null);

/** A curve, and the run as it was then. */
interface Known {
  run: Run;
  curve: Curve;
}

export const curves = signal<ReadonlyMap<string, Known>>(new Map());

/** So many runs can be compared: as many colours there are. */
export const MOST = 6;

/** The runs that are drawn beside the one that is looked at. */
export const compared = signal<ReadonlySet<string>>(new Set());

/** Asks for the list of runs. */
export async function refreshRuns(): Promise<void> {
  try {
    runs.value = (await json<{ runs: Run[] }>("GET", "api/runs")).runs;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    // Else the page tries again later; whether the server is there, a banner says.
    runs.value ??= [];
  }
}

/** Asks for what is new of a run's curve, if its file has changed. */
export async function refreshCurve(name: string): Promise<void> {
  const listed = runs.peek()?.find((run) => run.name === name);
  const known = curves.peek().get(name);
  if (!listed || (known && known.run.written === listed.written && known.run.steps === listed.steps)) return;
  // What belongs to the last step, such as an evaluation, may have been written after it. Steps that went back are of a run
  // that goes on from a checkpoint.
  const after = known && listed.steps >= known.run.steps ? Math.max(0, known.run.steps - 1) : 0;
  try {
    const fresh = await ask(name, after);
    const curve = known && after > 0 ? joined(known.curve, fresh.curve, after) : fresh.curve;
    const now = curve ? { run: fresh.run, curve } : await ask(name, 0);
    curves.value = new Map(curves.peek()).set(name, now);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
}

function ask(name: string, after: number): Promise<Known> {
  return json<Known>("GET", `api/runs/${encodeURIComponent(name)}${after > 0 ? `?after=${after}` : ""}`);
}

// The list comes when the server is there, and anew when somebody comes back to the page: with a run begun elsewhere, say.
effect(() => {
  if (models.value !== null && runs.peek() === null) void refreshRuns();
});
addEventListener("focus", () => {
  if (runs.peek() !== null) void refreshRuns();
});
