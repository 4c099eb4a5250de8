// The side bar: the conversations, and the way to everything else.
import { signal } from "@preact/signals";
import { useState } from "preact/hooks";

import type { Summary } from "../api/types";
import { answering, current, exportAs, newChat, remove, removeAll, rename, summaries } from "../chat/library";
import { runs } from "../training/runs";
import { confirmFirst } from "./dialog";
import { dayOf } from "./format";
import { Icon, type IconName, Mark } from "./icons";
import { keyName } from "./keys";
import { drawer, focusComposer, helpOpen, toggleSidebar } from "./layout";
import { Menu, MenuItem } from "./menu";
import { hrefOf, type Route, route } from "./route";
import { type Theme, theme } from "./theme";

/** So many conversations are listed at first. */
const PAGE = 100;

/** The conversation whose menu is open. */
const chosen = signal<Summary | null>(null);
/** The conversation whose title is being changed. */
const renaming = signal<string | null>(null);

export function Sidebar() {
  const begin = () => {
    drawer.value = false;
    newChat();
    focusComposer();
  };
  return (
    <nav class="sidebar" aria-label="Side bar">
      <header>
        <a class="brand" href={hrefOf({ view: "chat", id: null })} onClick={() => (drawer.value = false)}>
          <Mark size={22} />
          Autarky
        </a>
        <button type="button" class="tool" aria-label="Hide the side bar" title={`Hide (${keyName("Ctrl")} B)`} onClick={toggleSidebar}>
          <Icon name="sidebar" />
        </button>
      </header>
      <button type="button" class="nav-item" onClick={begin}>
        <Icon name="compose" />
        New chat
        <kbd>{keyName("Ctrl")} K</kbd>
      </button>
      <NavLink to={{ view: "models" }} icon="cube" label="Models" />
      <NavLink to={{ view: "engine" }} icon="pulse" label="Engine" />
      {(runs.value?.length ?? 0) > 0 && <NavLink to={{ view: "training", run: null }} icon="chart" label="Training" />}
      <Conversations />
      <footer>
        <ThemeSwitch />
        <button type="button" class="tool" aria-label="Help" title="Help (?)" onClick={() => (helpOpen.value = true)}>
          <Icon name="help" />
        </button>
      </footer>
    </nav>
  );
}

function NavLink({ to, icon, label }: { to: Route; icon: IconName; label: string }) {
  const here = route.value.view === to.view;
  return (
    <a class="nav-item" href={hrefOf(to)} aria-current={here ? "page" : undefined} onClick={() => (drawer.value = false)}>
      <Icon name={icon} />
      {label}
    </a>
  );
}

function Conversations() {
  const [query, setQuery] = useState("");
  const [limit, setLimit] = useState(PAGE);
  const all = summaries.value ?? [];
  const words = query.trim().toLowerCase();
  const found = words === "" ? all : all.filter(({ title }) => title.toLowerCase().includes(words));
  const groups: [string, Summary[]][] = [];
  for (const summary of found.slice(0, limit)) {
    const day = dayOf(summary.updated);
    if (groups.at(-1)?.[0] === day) groups.at(-1)![1].push(summary);
    else groups.push([day, [summary]]);
  }
  const move = (event: KeyboardEvent) => {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    const area = (event.currentTarget as Element).closest(".chats")!;
    const stops = [...area.querySelectorAll<HTMLElement>("input[type=search], .chat-link")];
    const next = stops[stops.indexOf(document.activeElement as HTMLElement) + (event.key === "ArrowDown" ? 1 : -1)];
    if (!next) return;
    event.preventDefault();
    next.focus();
  };
  return (
    <div class="chats" onKeyDown={move}>
      {all.length > 0 && (
        <div class="search">
          <Icon name="search" size={16} />
          <input type="search" placeholder="Search chats" aria-label="Search chats" value={query} onInput={(event) => setQuery(event.currentTarget.value)} />
          <button type="button" class="tool" popovertarget="chats-menu" aria-haspopup="menu" aria-expanded="false" aria-label="All chats">
            <Icon name="more" size={16} />
          </button>
        </div>
      )}
      <div class="chat-list">
        {summaries.value !== null && found.length === 0 && (
          <p class="quiet empty">{all.length === 0 ? "Your chats will be here." : "No title has that."}</p>
        )}
        {groups.map(([day, entries]) => (
          <section key={day} aria-label={day}>
            <h2>{day}</h2>
            <ul>{entries.map((summary) => <Entry key={summary.id} summary={summary} />)}</ul>
          </section>
        ))}
        {found.length > limit && (
          <button type="button" class="nav-item quiet" onClick={() => setLimit(limit + PAGE)}>Show more</button>
        )}
      </div>
      <ChatMenus />
    </div>
  );
}

function Entry({ summary }: { summary: Summary }) {
  const { id, title } = summary;
  const here = route.value.view === "chat" && current.value.id.value === id;
  if (renaming.value === id) return <li><TitleField summary={summary} /></li>;
  return (
    <li class={here ? "entry here" : "entry"}>
      <a class="chat-link" href={hrefOf({ view: "chat", id })} aria-current={here ? "page" : undefined} title={title} onClick={() => (drawer.value = false)}>
        {title || "Untitled"}
      </a>
      {answering.value.has(id) && <span class="pulse" role="img" aria-label="is being answered" />}
      <button
        type="button"
        class="tool"
        popovertarget="chat-menu"
        aria-haspopup="menu"
        aria-expanded="false"
        aria-label={`Actions for ${title}`}
        onClick={() => (chosen.value = summary)}
      >
        <Icon name="more" size={16} />
      </button>
    </li>
  );
}

function TitleField({ summary }: { summary: Summary }) {
  const done = (title: string | null) => {
    if (renaming.peek() !== summary.id) return;
    renaming.value = null;
    if (title !== null && title.trim() !== "" && title.trim() !== summary.title) void rename(summary.id, title.trim());
  };
  return (
    <input
      class="title-field"
      aria-label="Title"
      defaultValue={summary.title}
      maxLength={200}
      ref={(field) => {
        if (!field || document.activeElement === field) return;
        field.focus();
        field.select();
      }}
      onBlur={(event) => done(event.currentTarget.value)}
      onKeyDown={(event) => {
        if (event.isComposing) return;
        if (event.key === "Enter") done(event.currentTarget.value);
        if (event.key === "Escape") {
          event.preventDefault();
          done(null);
        }
      }}
    />
  );
}

function ChatMenus() {
  const of = (run: (id: string) => void) => () => chosen.value && run(chosen.value.id);
  const askRemove = () => {
    const summary = chosen.value;
    if (!summary) return;
    confirmFirst({
      title: "Delete this chat?",
      text: `“${summary.title}” and all its branches will be gone from the server.`,
      action: "Delete",
      run: () => void remove(summary.id),
    });
  };
  const askRemoveAll = () => {
    const count = summaries.value?.length ?? 0;
    confirmFirst({
      title: "Delete all chats?",
      text: `${count === 1 ? "One chat" : `All ${count} chats`} will be gone from the server, for everybody who uses it.`,
      action: "Delete all",
      run: () => void removeAll(),
    });
  };
  return (
    <>
      <Menu id="chat-menu" label="Chat">
        <MenuItem onChoose={of((id) => (renaming.value = id))}><Icon name="edit" size={16} />Rename</MenuItem>
        <MenuItem onChoose={of((id) => void exportAs("markdown", id))}><Icon name="download" size={16} />Export as Markdown</MenuItem>
        <MenuItem onChoose={of((id) => void exportAs("json", id))}><Icon name="download" size={16} />Export as JSON</MenuItem>
        <hr />
        <MenuItem danger onChoose={askRemove}><Icon name="trash" size={16} />Delete</MenuItem>
      </Menu>
      <Menu id="chats-menu" label="All chats">
        <MenuItem danger onChoose={askRemoveAll}><Icon name="trash" size={16} />Delete all chats</MenuItem>
      </Menu>
    </>
  );
}

const THEMES: [Theme, IconName, string][] = [
  ["system", "system", "As the system"],
  ["light", "sun", "Light"],
  ["dark", "moon", "Dark"],
];

function ThemeSwitch() {
  return (
    <div class="switch" role="radiogroup" aria-label="Colours">
      {THEMES.map(([value, icon, label]) => (
        <label key={value} title={label}>
          <input type="radio" name="theme" class="offscreen" checked={theme.value === value} aria-label={label} onChange={() => (theme.value = value)} />
          <Icon name={icon} size={16} />
        </label>
      ))}
    </div>
  );
}
