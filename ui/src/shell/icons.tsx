// The icons of the page, drawn on a grid of 20, in the colour of the text around them.

const PATHS = {
  menu: "M3.5 5.5h13M3.5 10h13M3.5 14.5h13",
  sidebar: "M4.5 3.5h11a2 2 0 0 1 2 2v9a2 2 0 0 1-2 2h-11a2 2 0 0 1-2-2v-9a2 2 0 0 1 2-2zM7.5 3.5v13",
  compose: "M16.5 11v4a1.75 1.75 0 0 1-1.75 1.75H5A1.75 1.75 0 0 1 3.25 15V5.25A1.75 1.75 0 0 1 5 3.5h4M8 12l.4-2.4 6.7-6.7a1.4 1.4 0 0 1 2 2l-6.7 6.7z",
  search: "M9 14.5a5.5 5.5 0 1 0 0-11 5.5 5.5 0 0 0 0 11zM13 13l3.75 3.75",
  more: "M5 10h.01M10 10h.01M15 10h.01",
  sliders: "M3 6h8M15 6h2M3 14h2M9 14h8M13 4v4M7 12v4",
  send: "M10 16V4.5M5 9.25l5-5 5 5",
  stop: "M6.5 6.5h7v7h-7z",
  copy: "M7.5 7.5h7a1.5 1.5 0 0 1 1.5 1.5v6a1.5 1.5 0 0 1-1.5 1.5h-6A1.5 1.5 0 0 1 7 15V8zM4.5 12.5A1.5 1.5 0 0 1 3.5 11V5A1.5 1.5 0 0 1 5 3.5h6a1.5 1.5 0 0 1 1.4 1",
  check: "M4 10.5l4 4 8-9",
  edit: "M4 16l.6-3.2L13.2 4.2a1.5 1.5 0 0 1 2.1 0l.5.5a1.5 1.5 0 0 1 0 2.1L7.2 15.4zM11.8 5.6l2.6 2.6",
  redo: "M16 4v4h-4M16 8a6.5 6.5 0 1 0 .4 3.5",
  left: "M12 5l-5 5 5 5",
  right: "M8 5l5 5-5 5",
  down: "M5 8l5 5 5-5",
  end: "M10 4v11M5.5 10.5L10 15l4.5-4.5",
  close: "M5 5l10 10M15 5L5 15",
  sun: "M10 13.25a3.25 3.25 0 1 0 0-6.5 3.25 3.25 0 0 0 0 6.5zM10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.4 4.4l1 1M14.6 14.6l1 1M15.6 4.4l-1 1M5.4 14.6l-1 1",
  moon: "M16.5 11.7A6.75 6.75 0 0 1 8.3 3.5a6.75 6.75 0 1 0 8.2 8.2z",
  system: "M3.5 4h13a1 1 0 0 1 1 1v7.5a1 1 0 0 1-1 1h-13a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1zM7 16.5h6M10 13.5v3",
  cube: "M10 2.75l6.25 3.5v7.5L10 17.25l-6.25-3.5v-7.5zM3.75 6.25L10 9.75l6.25-3.5M10 9.75v7.5",
  pulse: "M2.5 10.5h3l2-5.5 4 10 2.25-6 1 1.5h2.75",
  chart: "M3.5 3.5v11a2 2 0 0 0 2 2h11M6.5 6c1 5.5 4 7 10 7.25",
  help: "M7.6 7.6a2.5 2.5 0 1 1 3.6 2.3c-.8.4-1.2.9-1.2 1.8M10 14.3h.01M10 17.5a7.5 7.5 0 1 0 0-15 7.5 7.5 0 0 0 0 15z",
  trash: "M4 5.5h12M8 5.5V4a.75.75 0 0 1 .75-.75h2.5A.75.75 0 0 1 12 4v1.5M5.5 5.5l.6 9.6a1.5 1.5 0 0 0 1.5 1.4h4.8a1.5 1.5 0 0 0 1.5-1.4l.6-9.6",
  download: "M10 3.5V12M6.5 8.75L10 12.25l3.5-3.5M4 15.5h12",
  plus: "M10 4.5v11M4.5 10h11",
  alert: "M10 6.5v4M10 13.4h.01M10 17.5a7.5 7.5 0 1 0 0-15 7.5 7.5 0 0 0 0 15z",
  tool: "M12.2 5.2a3.4 3.4 0 0 1 4.3-1.6l-2.3 2.3.3 1.6 1.6.3 2.1-2.1a3.4 3.4 0 0 1-4.6 4.1l-6.2 6.2a1.5 1.5 0 0 1-2.1-2.1l6.2-6.2a3.4 3.4 0 0 1 .7-2.5z",
  file: "M5.5 2.75h5.75L15 6.5v9.25a1.5 1.5 0 0 1-1.5 1.5h-8A1.5 1.5 0 0 1 4 15.75v-11.5a1.5 1.5 0 0 1 1.5-1.5zM11 3v4h4",
  folder: "M2.75 5.5A1.5 1.5 0 0 1 4.25 4h3.2l1.8 2h6.5a1.5 1.5 0 0 1 1.5 1.5v7a1.5 1.5 0 0 1-1.5 1.5H4.25a1.5 1.5 0 0 1-1.5-1.5z",
  power: "M10 3v6.5M6 5.4a6.25 6.25 0 1 0 8 0",
  key: "M12.75 10.75a3.75 3.75 0 1 0-3.6-2.7L3.5 13.7v2.8h2.8v-1.9h1.9v-1.9l1-1a3.7 3.7 0 0 0 3.55-.95zM13.2 6.8h.01",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 18 }: { name: IconName; size?: number }) {
  return (
    <svg class="icon" viewBox="0 0 20 20" width={size} height={size} aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** Autarky's mark: a ring that closes on itself, with its own source within. */
export function Mark({ size = 24 }: { size?: number }) {
  return (
    <svg class="mark" viewBox="0 0 24 24" width={size} height={size} aria-hidden="true">
      <path class="mark-ring" d="M19.4 7.2A9 9 0 1 1 14.6 3.4" />
      <circle class="mark-core" cx="12" cy="12" r="3.6" />
    </svg>
  );
}
