// Markdown on the page. Text becomes nodes, never HTML, so nothing that a model writes can run.
import { Component, type ComponentChildren, type VNode } from "preact";
import { useRef } from "preact/hooks";

import { CopyButton } from "../shell/copy";
import type { Block } from "./blocks";
import { Highlighter, type Token } from "./highlight";
import { type Inline, parseInline } from "./inline";
import { MarkdownStream, withoutLooseLine } from "./stream";

interface Props {
  text: string;
  /** The text is still being written. */
  growing?: boolean;
}

/** A text as Markdown. Blocks that have ended keep their elements while it grows, and all of them when it is done. */
export class Markdown extends Component<Props> {
  private readonly stream = new MarkdownStream();
  private views: VNode[] = [];

  override shouldComponentUpdate(next: Props): boolean {
    return next.text !== this.props.text || next.growing !== this.props.growing;
  }

  override render({ text, growing = false }: Props) {
    const { stream } = this;
    stream.update(growing ? withoutLooseLine(text) : text);
    if (this.views.length > stream.done.length) this.views = [];
    const views = [...this.views];
    for (let i = views.length; i < stream.done.length; i++) views.push(blockIn(i, stream.done[i]!, false));
    this.views = views;
    const tail = stream.tail.map((block, i) => {
      return blockIn(views.length + i, block, growing && i === stream.tail.length - 1);
    });
    return <div class={growing ? "prose growing" : "prose"}>{[...views, ...tail]}</div>;
  }
}

function blockIn(key: number, block: Block, open: boolean): VNode {
  return <div class="contents" key={key}>{blockView(block, open)}</div>;
}

function blockView(block: Block, open: boolean): VNode {
  switch (block.type) {
    case "paragraph":
      return <p>{inlineViews(block.text, open)}</p>;
    case "heading": {
      // The page has its own first heading.
      const Tag = `h${Math.min(block.level + 1, 6)}` as "h2";
      return <Tag class={`h${block.level}`}>{inlineViews(block.text, open)}</Tag>;
    }
    case "code":
      return <CodeBlock language={block.language} text={block.text} />;
    case "math":
      return <pre class="math">{block.text}</pre>;
    case "rule":
      return <hr />;
    case "quote":
      return <blockquote>{childViews(block.blocks, open)}</blockquote>;
    case "list":
      return listView(block, open);
    case "table":
      return tableView(block, open);
  }
}

function childViews(blocks: Block[], open: boolean): VNode[] {
  return blocks.map((block, i) => blockView(block, open && i === blocks.length - 1));
}

function listView(list: Block & { type: "list" }, open: boolean): VNode {
  const items = list.items.map((item, i) => {
    const growing = open && i === list.items.length - 1;
    const blocks = item.blocks.map((block, n) => {
      const last = growing && n === item.blocks.length - 1;
      return list.tight && block.type === "paragraph" ? inlineViews(block.text, last) : blockView(block, last);
    });
    if (item.task === undefined) return <li>{blocks}</li>;
    return (
      <li class="task">
        <input type="checkbox" disabled checked={item.task} aria-label={item.task ? "done" : "not done"} />
        {blocks}
      </li>
    );
  });
  if (list.start === null) return <ul class={list.tight ? "tight" : ""}>{items}</ul>;
  return <ol class={list.tight ? "tight" : ""} start={list.start}>{items}</ol>;
}

function tableView(table: Block & { type: "table" }, open: boolean): VNode {
  const alignOf = (column: number) => (table.align[column] ? `to-${table.align[column]}` : undefined);
  return (
    <div class="table" tabIndex={0} role="region" aria-label="Table">
      <table>
        <thead>
          <tr>{table.head.map((cell, i) => <th class={alignOf(i)} scope="col">{inlineViews(cell, false)}</th>)}</tr>
        </thead>
        <tbody>
          {table.rows.map((row, n) => (
            <tr>
              {row.map((cell, i) => (
                <td class={alignOf(i)}>{inlineViews(cell, open && n === table.rows.length - 1)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function inlineViews(text: string, open: boolean): ComponentChildren {
  return parseInline(text, open).map(inlineView);
}

function inlineView(node: Inline): ComponentChildren {
  switch (node.type) {
    case "text":
      return node.text;
    case "code":
      return <code>{node.text}</code>;
    case "math":
      return <span class="math">{node.text}</span>;
    case "break":
      return <br />;
    case "emphasis":
      return <em>{node.children.map(inlineView)}</em>;
    case "strong":
      return <strong>{node.children.map(inlineView)}</strong>;
    case "strike":
      return <del>{node.children.map(inlineView)}</del>;
    case "link":
      if (node.href === null) return <span title={node.title ?? undefined}>{node.children.map(inlineView)}</span>;
      return (
        <a href={node.href} title={node.title ?? undefined} target="_blank" rel="noopener noreferrer nofollow">
          {node.children.map(inlineView)}
        </a>
      );
    case "image":
      return imageView(node.source, node.alt);
  }
}

/** A picture within the text is shown; one elsewhere would call another host, so it becomes a link. */
function imageView(source: string, alt: string): VNode {
  if (/^data:image\/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+$/.test(source)) return <img src={source} alt={alt} />;
  const label = alt || "image";
  return /^https?:\/\//i.test(source) ? (
    <a href={source} target="_blank" rel="noopener noreferrer nofollow">{`🖼 ${label}`}</a>
  ) : (
    <span>{`🖼 ${label}`}</span>
  );
}

/** Lines of code in one element: those of a full one are never looked at again. */
const CHUNK = 40;

interface Coloured {
  highlighter: Highlighter;
  language: string;
  /** Complete lines so far, with their line breaks. */
  text: string;
  full: VNode[];
  open: Token[][];
}

function CodeBlock({ language, text }: { language: string; text: string }) {
  const cache = useRef<Coloured>(null);
  let state = cache.current;
  if (!state || state.language !== language || !text.startsWith(state.text)) {
    state = { highlighter: new Highlighter(language), language, text: "", full: [], open: [] };
    cache.current = state;
  }
  const fresh = text.slice(state.text.length).split("\n");
  const last = fresh.pop()!;
  for (const line of fresh) {
    state.text += `${line}\n`;
    state.open.push([...state.highlighter.line(line), ["", "\n"]]);
    if (state.open.length === CHUNK) {
      state.full.push(<span key={state.full.length}>{state.open.map(tokenViews)}</span>);
      state.open = [];
    }
  }
  return (
    <figure class="code">
      <figcaption>
        <span>{language || "text"}</span>
        <CopyButton text={() => text} label="Copy code" />
      </figcaption>
      <pre tabIndex={0}>
        <code>
          {state.full}
          <span key="open">
            {state.open.map(tokenViews)}
            {tokenViews(state.highlighter.peek(last))}
          </span>
        </code>
      </pre>
    </figure>
  );
}

function tokenViews(tokens: Token[]): ComponentChildren {
  return tokens.map(([kind, text]) => (kind === "" ? text : <i class={`t-${kind}`}>{text}</i>));
}
