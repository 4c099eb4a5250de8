// Numbers and dates for people.

/** `1.2 GB`; decimal units, as disks are sold. */
export function bytes(n: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  let value = n;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : significant(value)} ${units[unit]}`;
}

/** `7.6B`, `494M`: as the names of models count their weights. */
export function weights(n: number): string {
  if (n >= 1e12) return `${significant(n / 1e12)}T`;
  if (n >= 1e9) return `${significant(n / 1e9)}B`;
  if (n >= 1e6) return `${significant(n / 1e6)}M`;
  return n >= 1e3 ? `${significant(n / 1e3)}K` : String(n);
}

/** `32k`, `512`: tokens of a context. */
export function tokens(n: number): string {
  return n >= 1024 ? `${significant(n / 1024)}k` : String(n);
}

/** `12,345`. */
export function count(n: number): string {
  return Math.round(n).toLocaleString("en");
}

/** Three digits that matter: `0.42`, `38.2`, `512`. */
export function significant(n: number): string {
  const size = Math.abs(n);
  return n.toFixed(size >= 99.95 || n === 0 ? 0 : size >= 9.995 ? 1 : 2).replace(/\.0+$/, "");
}

/** `0.42 s`, `75 s`, `3 min`. */
export function seconds(n: number): string {
  if (n >= 180) return `${Math.round(n / 60)} min`;
  return `${n < 10 ? n.toFixed(2) : n < 60 ? n.toFixed(1) : Math.round(n)} s`;
}

/** `45 s`, `12 min`, `3 h 20 min`, `2 d 5 h`: how long something takes, about. */
export function duration(n: number): string {
  const two = (size: number, unit: string, part: number, of: string) => {
    const parts = Math.round(n / part);
    const rest = parts % (size / part);
    return `${Math.floor(parts / (size / part))} ${unit}${rest > 0 ? ` ${rest} ${of}` : ""}`;
  };
  if (n < 59.5) return `${Math.max(0, Math.round(n))} s`;
  if (n < 3570) return `${Math.round(n / 60)} min`;
  return n < 84_600 ? two(3600, "h", 60, "min") : two(86_400, "d", 3600, "h");
}

/** `just now`, `12 min ago`. */
export function ago(seconds: number): string {
  return seconds < 10 ? "just now" : `${duration(seconds)} ago`;
}

/** In which part of the list a time (Unix seconds) belongs. */
export function dayOf(time: number, now = new Date()): string {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate()).getTime() / 1000;
  if (time >= midnight) return "Today";
  if (time >= midnight - 86_400) return "Yesterday";
  if (time >= midnight - 7 * 86_400) return "Last 7 days";
  if (time >= midnight - 30 * 86_400) return "Last 30 days";
  return "Older";
}
