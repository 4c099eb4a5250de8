// A small chart of lines or stacked areas over the last minutes, in SVG.
import { useState } from "preact/hooks";

import { ceiling, LENGTH } from "./history";

export interface Series {
  name: string;
  /** One of the colours of the style sheet; `c0` is for what is not there. */
  colour: "c0" | "c1" | "c2" | "c3";
  /** Oldest first, at most `LENGTH`. */
  values: number[];
}

interface Props {
  title: string;
  series: Series[];
  /** Areas on top of each other rather than lines. */
  stacked?: boolean;
  format(value: number): string;
  /** The least that the top of the chart stands for. */
  least?: number;
  /** What the top of the chart stands for, where it is known. */
  full?: number;
}

const WIDTH = 600;
const HEIGHT = 150;

export function Chart({ title, series, stacked = false, format, least = 1, full }: Props) {
  const [hover, setHover] = useState<number | null>(null);
  const length = series[0]?.values.length ?? 0;
  const tops = stacked ? stack(series) : series.map(({ values }) => values);
  const top = full || Math.max(ceiling(Math.max(0, ...tops.flat())), least);
  const x = (i: number) => ((LENGTH - length + i) / (LENGTH - 1)) * WIDTH;
  const y = (value: number) => HEIGHT - (value / top) * HEIGHT;
  const at = hover === null || hover >= length || hover < 0 ? length - 1 : hover;
  const line = (values: number[]) => values.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`);
  const now = series.map(({ name, values }) => `${name} ${format(values.at(-1) ?? 0)}`).join(", ");
  const onMove = (event: PointerEvent) => {
    const box = (event.currentTarget as Element).getBoundingClientRect();
    setHover(Math.round(((event.clientX - box.left) / box.width) * (LENGTH - 1)) - (LENGTH - length));
  };
  return (
    <figure class="chart card">
      <figcaption>
        <h2>{title}</h2>
        <ul>
          {series.map(({ name, colour, values }) => (
            <li key={name} class={colour}>
              <span class="key" aria-hidden="true" />
              {name} <b>{format(values[at] ?? 0)}</b>
            </li>
          ))}
        </ul>
      </figcaption>
      <div class="plot">
        <svg
          viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
          preserveAspectRatio="none"
          role="img"
          aria-label={`${title}: ${now}`}
          onPointerMove={onMove}
          onPointerLeave={() => setHover(null)}
        >
          {[0, 0.5, 1].map((share) => (
            <line key={share} class="grid" x1={0} x2={WIDTH} y1={share * HEIGHT} y2={share * HEIGHT} />
          ))}
          {length > 1 &&
            [...series.keys()].reverse().map((n) => {
              const over = line(tops[n]!);
              const under = stacked && n > 0 ? line(tops[n - 1]!).reverse() : [`${WIDTH},${HEIGHT}`, `${x(0).toFixed(1)},${HEIGHT}`];
              return (
                <g key={n} class={series[n]!.colour}>
                  <polygon class={stacked ? "area solid" : "area"} points={[...over, ...under].join(" ")} />
                  <polyline class="line" points={over.join(" ")} />
                </g>
              );
            })}
          {hover !== null && at >= 0 && <line class="cursor" x1={x(at)} x2={x(at)} y1={0} y2={HEIGHT} />}
        </svg>
        <span class="top">{format(top)}</span>
        <div class="axis">
          <span>{LENGTH / 60} minutes ago</span>
          <span>{hover === null || at < 0 ? "now" : `${length - 1 - at} s ago`}</span>
        </div>
      </div>
    </figure>
  );
}

/** Each series on top of those before it. */
function stack(series: Series[]): number[][] {
  const out: number[][] = [];
  for (const { values } of series) {
    const below = out.at(-1);
    out.push(values.map((value, i) => value + (below?.[i] ?? 0)));
  }
  return out;
}
