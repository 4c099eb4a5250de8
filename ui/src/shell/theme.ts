// Light and dark: what the system prefers, unless a person chose.
import { effect, signal } from "@preact/signals";

import { remember, remembered } from "./memory";

export type Theme = "system" | "light" | "dark";

const stored = remembered("theme");

export const theme = signal<Theme>(stored === "light" || stored === "dark" ? stored : "system");

effect(() => {
  const { value } = theme;
  if (value === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = value;
  remember("theme", value === "system" ? null : value);
});
