"use strict";
(() => {
  const NS = "http://www.w3.org/2000/svg";
  const short = (x) => Math.abs(x) >= 100 ? Math.round(x).toLocaleString("en") : String(Number(x.toPrecision(3)));
  const tip = document.getElementById("tip");

  const node = (parent, name, attributes, text) => {
    const made = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    parent.appendChild(made);
    return made;
  };

  const says = (target, text) => {
    target.setAttribute("tabindex", "0");
    target.setAttribute("aria-label", text);
    const show = (x, y) => {
      tip.textContent = text;
      tip.hidden = false;
      const left = Math.min(x + 12, scrollX + document.documentElement.clientWidth - tip.offsetWidth - 8);
      tip.style.left = Math.max(8, left) + "px";
      tip.style.top = y + 12 + "px";
    };
    target.addEventListener("pointermove", (e) => show(e.pageX, e.pageY));
    target.addEventListener("pointerleave", () => { tip.hidden = true; });
    target.addEventListener("focus", () => {
      const box = target.getBoundingClientRect();
      show(box.left + scrollX, box.bottom + scrollY);
    });
    target.addEventListener("blur", () => { tip.hidden = true; });
  };

  const ticks = (most, least = 0) => {
    const span = most - least || 1;
    const raw = span / 4;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw);
    const found = [];
    for (let x = Math.ceil(least / step) * step; x <= most * (1 + 1e-9); x += step) found.push(x);
    return found;
  };

  const picture = (figure, width, height, title) => {
    const old = figure.querySelector("svg");
    if (old) old.remove();
    const svg = node(figure, "svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
    node(svg, "title", {}, title);
    return svg;
  };

  const cut = (text, most) => text.length > most ? text.slice(0, most - 1) + "\u2026" : text;

  const bars = (figure, data, width) => {
    const narrow = width < 560;
    const items = data.bars.filter((b) => b.value !== null);
    const row = narrow ? 44 : 28;
    const left = narrow ? 8 : Math.min(300, width * 0.38);
    const right = width - 64;
    const height = items.length * row + 34;
    const svg = picture(figure, width, height, data.title);
    const ends = items.flatMap((b) => [b.value, b.interval ? b.interval[1] : 0]);
    if (data.mark && Number.isFinite(data.mark[1])) ends.push(data.mark[1]);
    const most = Math.max(...ends, 1e-12) * 1.03;
    const at = (x) => left + (right - left) * Math.min(x, most) / most;
    for (const x of ticks(most)) {
      node(svg, "line", { x1: at(x), x2: at(x), y1: 0, y2: height - 22, class: "grid" });
      node(svg, "text", { x: at(x), y: height - 8, "text-anchor": "middle", class: "dim" }, short(x));
    }
    node(svg, "text", { x: width - 2, y: height - 8, "text-anchor": "end", class: "dim" }, data.unit);
    items.forEach((bar, i) => {
      const top = i * row + (narrow ? 18 : 4);
      const group = node(svg, "g", {});
      const label = cut(bar.label, Math.floor((narrow ? width : left) / 7));
      node(group, "text", narrow ? { x: left, y: top - 4 } : { x: left - 8, y: top + 14, "text-anchor": "end" }, label);
      node(group, "rect", { x: left, y: top, width: Math.max(1, at(bar.value) - left), height: 18, fill: "var(--c0)" });
      let end = at(bar.value);
      let words = `${bar.label}\n${short(bar.value)} ${data.unit}`;
      if (bar.interval) {
        const [low, high] = bar.interval;
        node(group, "line", { x1: at(low), x2: at(high), y1: top + 9, y2: top + 9, class: "whisker" });
        for (const x of [low, high]) node(group, "line", { x1: at(x), x2: at(x), y1: top + 4, y2: top + 14, class: "whisker" });
        end = Math.max(end, at(high));
        words += ` (80 %: ${short(low)} to ${short(high)})`;
      }
      node(group, "text", { x: end + 6, y: top + 14 }, short(bar.value));
      says(group, bar.note ? `${words}\n${bar.note}` : words);
    });
    if (data.mark) {
      const from = at(Math.max(0, data.mark[0] ?? 0));
      const to = at(data.mark[1] ?? most);
      const mark = node(svg, "rect", { x: from, y: 0, width: Math.max(3, to - from), height: height - 22, class: "mark" });
      says(mark, data.mark[2]);
    }
  };

  const curves = (figure, data, width) => {
    const height = Math.max(260, Math.min(420, width * 0.55));
    const legend = data.curves.length * 18;
    const svg = picture(figure, width, height + legend, data.title);
    const points = data.curves.flatMap((c) => c.points).filter((p) => p.x !== null && p.y !== null);
    if (!points.length) return;
    const [left, right, top, bottom] = [58, width - 16, 14, height - 44];
    const mostX = Math.max(...points.map((p) => p.x)) * 1.05 || 1;
    const mostY = Math.max(...points.map((p) => p.interval ? p.interval[1] : p.y)) * 1.05 || 1;
    const x = (v) => left + (right - left) * v / mostX;
    const y = (v) => bottom - (bottom - top) * v / mostY;
    for (const v of ticks(mostX)) {
      node(svg, "line", { x1: x(v), x2: x(v), y1: top, y2: bottom, class: "grid" });
      node(svg, "text", { x: x(v), y: bottom + 16, "text-anchor": "middle", class: "dim" }, short(v));
    }
    for (const v of ticks(mostY)) {
      node(svg, "line", { x1: left, x2: right, y1: y(v), y2: y(v), class: "grid" });
      node(svg, "text", { x: left - 6, y: y(v) + 4, "text-anchor": "end", class: "dim" }, short(v));
    }
    node(svg, "text", { x: right, y: bottom + 34, "text-anchor": "end", class: "dim" }, data.x);
    node(svg, "text", { x: 4, y: 11, class: "dim" }, data.y);
    data.curves.forEach((curve, i) => {
      const colour = `var(--c${i % 6})`;
      const own = curve.points.filter((p) => p.x !== null && p.y !== null);
      const banded = own.filter((p) => p.interval);
      if (banded.length > 1) {
        const up = banded.map((p) => `${x(p.x)},${y(p.interval[1])}`);
        const down = banded.map((p) => `${x(p.x)},${y(p.interval[0])}`).reverse();
        node(svg, "polygon", { points: up.concat(down).join(" "), fill: colour, opacity: 0.14 });
      }
      const path = own.map((p) => `${x(p.x)},${y(p.y)}`).join(" ");
      node(svg, "polyline", { points: path, fill: "none", stroke: colour, "stroke-width": 2 });
      for (const p of own) {
        const dot = node(svg, "circle", { cx: x(p.x), cy: y(p.y), r: 5, fill: colour });
        let words = `${curve.name}\n${data.x}: ${short(p.x)}\n${data.y}: ${short(p.y)}`;
        if (p.interval) words += ` (80 %: ${short(p.interval[0])} to ${short(p.interval[1])})`;
        says(dot, p.note ? `${words}\n${p.note}` : words);
      }
      node(svg, "rect", { x: left, y: height + i * 18 - 4, width: 12, height: 12, fill: colour });
      node(svg, "text", { x: left + 18, y: height + i * 18 + 6 }, cut(curve.name, Math.floor(width / 8)));
    });
  };

  const draw = () => {
    for (const figure of document.querySelectorAll("figure.chart")) {
      const text = figure.querySelector("script").textContent;
      if (!text) continue;
      const width = Math.max(280, figure.clientWidth);
      (figure.dataset.kind === "bars" ? bars : curves)(figure, JSON.parse(text), width);
    }
  };
  let waiting;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(draw, 100); });
  draw();

  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.firstChild.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending" || (head.className === "n" && head.getAttribute("aria-sort") === "none");
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => {
        const cell = row.cells[column];
        if (!cell || cell.className === "unknown") return null;
        return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
      };
      const order = (a, b) => {
        const [x, y] = [key(a), key(b)];
        // What is unknown stays last either way.
        if (x === null || y === null) return (x === null) - (y === null);
        const sign = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
        return down ? -sign : sign;
      };
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort(order));
    }));
  }
})();
