// Menus that open at a button. The browser's popovers bring them to the top, and close them by Escape or a click
// elsewhere.
import type { ComponentChildren } from "preact";
import { useRef } from "preact/hooks";

let opener: Element | null = null;
addEventListener("click", (event) => {
  const button = (event.target as Element | null)?.closest?.("[popovertarget]");
  if (button) opener = button;
}, true);

/** A menu that buttons with its id as `popovertarget` open. */
export function Menu(props: { id: string; label: string; class?: string; children: ComponentChildren }) {
  const self = useRef<HTMLDivElement>(null);
  const place = (event: { newState: string }) => {
    const menu = self.current!;
    opener?.setAttribute("aria-expanded", String(event.newState === "open"));
    if (event.newState !== "open" || !opener) return;
    const at = opener.getBoundingClientRect();
    const below = at.bottom < innerHeight * 0.62;
    const toLeft = at.left > innerWidth * 0.5;
    const { style } = menu;
    style.top = below ? `${at.bottom + 6}px` : "auto";
    style.bottom = below ? "auto" : `${innerHeight - at.top + 6}px`;
    style.left = toLeft ? "auto" : `${Math.max(8, at.left)}px`;
    style.right = toLeft ? `${Math.max(8, innerWidth - at.right)}px` : "auto";
    style.maxHeight = `${(below ? innerHeight - at.bottom : at.top) - 20}px`;
  };
  const focusFirst = (event: { newState: string }) => {
    if (event.newState !== "open") return;
    const items = itemsOf(self.current!);
    (items.find((item) => item.getAttribute("aria-checked") === "true") ?? items[0])?.focus();
  };
  const move = (event: KeyboardEvent) => {
    const items = itemsOf(self.current!);
    const at = items.indexOf(document.activeElement as HTMLElement);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
    if (next === undefined || items.length === 0) return;
    event.preventDefault();
    items[(next + items.length) % items.length]!.focus();
  };
  return (
    <div
      ref={self}
      id={props.id}
      popover="auto"
      role="menu"
      aria-label={props.label}
      class={`menu ${props.class ?? ""}`}
      onBeforeToggle={place}
      onToggle={focusFirst}
      onKeyDown={move}
    >
      {props.children}
    </div>
  );
}

function itemsOf(menu: HTMLElement): HTMLElement[] {
  return [...menu.querySelectorAll<HTMLElement>("[role^=menuitem]")];
}

/** An entry of a menu; choosing it closes the menu. */
export function MenuItem(props: { onChoose(): void; danger?: boolean; children: ComponentChildren }) {
  const choose = (event: MouseEvent) => {
    (event.currentTarget as Element).closest<HTMLElement>("[popover]")?.hidePopover();
    props.onChoose();
  };
  return (
    <button type="button" role="menuitem" class={props.danger ? "item danger" : "item"} onClick={choose}>
      {props.children}
    </button>
  );
}
