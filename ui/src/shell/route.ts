// Which view the address asks for. Addresses live after `#`, so the server needs to know of one page only.
import { signal } from "@preact/signals";

export type Route = { view: "chat"; id: string | null } | { view: "engine" } | { view: "models" } | { view: "training"; run: string | null };

function read(): Route {
  const [view, name] = location.hash.replace(/^#\/?/, "").split("/");
  const id = name ? decodeURIComponent(name) : null;
  if (view === "engine" || view === "models") return { view };
  if (view === "training") return { view, run: id };
  return { view: "chat", id: view === "chat" ? id : null };
}

export const route = signal<Route>(read());

/** The address of a view. */
export function hrefOf(to: Route): string {
  if (to.view === "training" && to.run !== null) return `#/training/${encodeURIComponent(to.run)}`;
  if (to.view !== "chat") return `#/${to.view}`;
  return to.id === null ? "#/" : `#/chat/${encodeURIComponent(to.id)}`;
}

/** Goes to a view; with `replace`, the way back skips the present one. */
export function go(to: Route, replace = false): void {
  if (replace) history.replaceState(null, "", hrefOf(to));
  else if (location.hash !== hrefOf(to)) history.pushState(null, "", hrefOf(to));
  route.value = read();
}

addEventListener("hashchange", () => (route.value = read()));
addEventListener("popstate", () => (route.value = read()));
