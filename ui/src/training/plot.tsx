// A chart of numbers against steps, in SVG: points as they were, a smoothed line, and what was measured now and then.
import { useLayoutEffect, useRef, useState } from "preact/hooks";

import { count } from "../shell/format";
import { nearest, range, ticks, type XY } from "./curve";

export interface PlotLine {
  name: string;
  /** Which of the colours of the style sheet. */
  colour: number;
  /** Drawn lightly. */
  points?: XY[];
  line: XY[];
  /** Drawn as circles: what was measured on held-out text. */
  marks?: XY[];
}

interface Props {
  title: string;
  /** What the numbers are, such as `nats a token`. */
  unit?: string;
  lines: PlotLine[];
  /** The first and the last step that is shown. */
  steps: XY;
  /** What the marks are. */
  marked?: string;
  height: number;
  format(value: number): string;
  /** The same for the marks of the axis; without it, `format`. */
  axis?(value: number): string;
}

const LEFT = 52;
const RIGHT = 12;
const TOP = 10;
const BOTTOM = 24;

export function Plot({ title, unit, lines, steps: [from, to], marked = "held out", height, format, axis = format }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  const [cursor, setCursor] = useState<number | null>(null);
  useLayoutEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry!.contentRect.width)));
    observer.observe(box.current!);
    return () => observer.disconnect();
  }, []);
  const within = (list: XY[] = []) => list.filter(([step]) => step >= from && step <= to);
  const seen = lines.map((one) => ({ ...one, points: within(one.points), line: within(one.line), marks: within(one.marks) }));
  const [low, high] = range(seen.flatMap(({ line, marks }) => [line, marks]), seen.map(({ points }) => points));
  const [wide, tall] = [Math.max(0, width - LEFT - RIGHT), height - TOP - BOTTOM];
  const x = (step: number) => ((step - from) / Math.max(1, to - from)) * wide;
  const y = (value: number) => (1 - (value - low) / (high - low)) * tall;
  const path = (list: XY[]) => list.map(([step, value], at) => `${at === 0 ? "M" : "L"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  // Lines of no length with round ends are dots: one element, however many there are.
  const dots = (list: XY[]) => list.map(([step, value]) => `M${x(step).toFixed(1)} ${y(value).toFixed(1)}h0`).join("");

  // Where the cursor can be: the steps whose numbers are known exactly, of the first line that has any.
  const exact = (one: (typeof seen)[number]) => (one.points.length > 0 ? one.points : one.line);
  const stops = seen.map(exact).find((list) => list.length > 0) ?? [];
  const at = cursor === null ? -1 : nearest(stops, cursor);
  const step = stops[at]?.[0] ?? null;
  const told = (one: (typeof seen)[number], step: number) => {
    const point = exact(one)[nearest(exact(one), step)];
    // Of an evaluation, the latest one: it says how the model was then.
    const before = one.marks.filter(([marked]) => marked <= step).at(-1);
    // Where a run ends or has not begun, it has nothing to say.
    const there = point && Math.abs(point[0] - step) <= Math.max(2, (to - from) / 50);
    const smooth = one.points.length > 0 ? one.line[nearest(one.line, step)] : undefined;
    return there ? { point, smooth, mark: before } : {};
  };
  const sentence = (step: number) =>
    seen.map((one) => {
      const { point, smooth, mark } = told(one, step);
      return point && `${one.name} ${format(point[1])}${smooth ? `, smoothed ${format(smooth[1])}` : ""}${mark ? `, ${marked} ${format(mark[1])} at step ${count(mark[0])}` : ""}`;
    }).filter(Boolean).join("; ");
  const latest = stops.at(-1)?.[0] ?? 0;
  const move = (event: PointerEvent) => {
    const left = (event.currentTarget as Element).getBoundingClientRect().left;
    setCursor(from + ((event.clientX - left - LEFT) / Math.max(1, wide)) * (to - from));
  };
  const onKey = (event: KeyboardEvent) => {
    const here = at < 0 ? stops.length - 1 : at;
    const by = Math.max(1, Math.round(stops.length / 20));
    const next = { ArrowLeft: here - 1, ArrowRight: here + 1, PageUp: here + by, PageDown: here - by, Home: 0, End: stops.length - 1 }[event.key];
    if (next === undefined || stops.length === 0) return;
    event.preventDefault();
    setCursor(stops[Math.min(stops.length - 1, Math.max(0, next))]![0]);
  };
  // Beside the cursor, or on a narrow chart over it, and never outside.
  const place = (step: number) => {
    const left = LEFT + x(step);
    if (width < 520) return { left: `${left}px`, transform: `translateX(${(-100 * left) / width}%)` };
    return x(step) > wide / 2 ? { right: `${width - left + 12}px` } : { left: `${left + 12}px` };
  };
  return (
    <figure class="card plot-card">
      <figcaption>
        <h3>{title}</h3>
        {unit && <span class="hint">{unit}</span>}
        {seen.length > 1 && (
          <ul>{seen.map(({ name, colour }) => <li key={name} class={`r${colour}`}><span class="key" aria-hidden="true" />{name}</li>)}</ul>
        )}
      </figcaption>
      <div
        ref={box}
        class="surface"
        tabIndex={0}
        role="slider"
        aria-label={`${title}, by step`}
        aria-valuemin={from}
        aria-valuemax={to}
        aria-valuenow={step ?? latest}
        aria-valuetext={stops.length > 0 ? `Step ${count(step ?? latest)}: ${sentence(step ?? latest)}` : "No numbers yet"}
        onPointerMove={move}
        onPointerDown={move}
        onPointerLeave={() => setCursor(null)}
        onKeyDown={onKey}
        onBlur={() => setCursor(null)}
      >
        <svg width={width} height={height} aria-hidden="true">
          {width > 0 && (
            <>
              {ticks(low, high, tall / 44).map((value) => (
                <g key={`y${value}`}>
                  <line class="grid" x1={LEFT} x2={width - RIGHT} y1={TOP + y(value)} y2={TOP + y(value)} />
                  <text x={LEFT - 8} y={TOP + y(value) + 4} class="tick end">{axis(value)}</text>
                </g>
              ))}
              {ticks(from, to, wide / 70).map((value) => (
                <text key={`x${value}`} x={LEFT + x(value)} y={height - 6} class={x(value) > wide - 24 ? "tick end" : "tick middle"}>{count(value)}</text>
              ))}
              <svg x={LEFT} y={TOP} width={wide} height={tall}>
                {seen.map((one) => <path key={one.name} class={`r${one.colour} dots`} d={dots(one.points)} />)}
              </svg>
              {seen.map((one) => (
                <g key={one.name} class={`r${one.colour}`} transform={`translate(${LEFT} ${TOP})`}>
                  <path class="held" d={path(one.marks)} />
                  <path class="mean" d={path(one.line)} />
                  {one.marks.map(([step, value]) => <circle key={step} class="mark" cx={x(step)} cy={y(value)} r={3.5} />)}
                </g>
              ))}
              {step !== null && (
                <g>
                  <line class="cursor" x1={LEFT + x(step)} x2={LEFT + x(step)} y1={TOP} y2={TOP + tall} />
                  {seen.map((one) => {
                    const { point } = told(one, step);
                    return point && y(point[1]) >= 0 && y(point[1]) <= tall && <circle key={one.name} class={`r${one.colour} spot`} cx={LEFT + x(point[0])} cy={TOP + y(point[1])} r={4} />;
                  })}
                </g>
              )}
            </>
          )}
        </svg>
        {step !== null && (
          <div class="tip" style={place(step)}>
            <p>Step {count(step)}</p>
            {seen.map((one) => {
              const { point, smooth, mark } = told(one, step);
              return point && (
                <p key={one.name} class={`r${one.colour}`}>
                  <span class="key" aria-hidden="true" />
                  {seen.length > 1 && `${one.name} `}<b>{format(point[1])}</b>
                  {smooth && <span class="quiet"> smoothed <b>{format(smooth[1])}</b></span>}
                  {mark && <span class="quiet"> {marked} <b>{format(mark[1])}</b></span>}
                </p>
              );
            })}
          </div>
        )}
      </div>
    </figure>
  );
}
