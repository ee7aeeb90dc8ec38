// What the answers to the dev prompts gained against the distance that the policy went for it: by the reward that it is
// paid, and by the second reward model that only watches. Where the two part, the reward is being gamed.

import { figure, html, node, swatch, ticks, words } from "./charts.js";

const MARGIN = { left: 48, right: 12, top: 20, bottom: 36 };
const SERIES = [
  { key: "dev_gain", name: "reward paid", slot: 0 },
  { key: "dev_held_out_gain", name: "second reward model", slot: 1 },
];
const MEANING =
  "Reward gained on dev prompts, look by look, with 95 % intervals over prompts. " +
  "Where one line bends down while the other rises, the reward no longer means what it did.";

export class OverKl {
  constructor(place) {
    this.host = html("figure", "chart");
    this.plot = html("div", "plot");
    this.legend = html("ul", "legend");
    this.host.append(html("h3", "", "Gain over distance"), html("p", "meaning", MEANING), this.plot, this.legend);
    this.plot.setAttribute("role", "img");
    place.append(this.host);
    this.series = [];
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  /** Draws the looks among a run's lines; returns whether there are any. */
  show(lines) {
    this.series = SERIES.map((one) => ({
      ...one,
      points: lines
        .map((line) => ({
          step: line.step,
          x: figure(line.dev_kl),
          y: figure(line[one.key]),
          low: figure(line[`${one.key}_low`]),
          high: figure(line[`${one.key}_high`]),
        }))
        .filter((point) => Number.isFinite(point.x) && Number.isFinite(point.y)),
    })).filter((one) => one.points.length);
    this.legend.replaceChildren();
    for (const one of this.series) {
      const item = html("li");
      item.append(swatch(one.slot), html("span", "name", one.name), html("strong", "", words(one.points.at(-1).y)));
      this.legend.append(item);
    }
    const told = this.series.map(
      (one) => `${one.name}: ${one.points.map((point) => `${words(point.y)} at KL ${words(point.x)}`).join(", ")}`,
    );
    this.plot.setAttribute("aria-label", told.join("; "));
    this.draw();
    return this.series.length > 0;
  }

  draw() {
    const { width, height } = this.plot.getBoundingClientRect();
    const points = this.series.flatMap((one) => one.points);
    if (!width || !points.length) return;
    const ends = (values) => [Math.min(...values), Math.max(...values)];
    const columns = ticks(...ends(points.map((point) => point.x)), Math.max(2, Math.floor(width / 90)));
    const rows = ticks(...ends(points.flatMap(({ y, low, high }) => [y, low ?? y, high ?? y])), 4);
    const foot = height - MARGIN.bottom;
    const scale = (marks, start, stop) => (v) => start + ((v - marks[0]) / (marks.at(-1) - marks[0])) * (stop - start);
    const x = scale(columns, MARGIN.left, width - MARGIN.right);
    const y = scale(rows, foot, MARGIN.top);
    const svg = node("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    for (const row of rows) {
      svg.append(node("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(row), y2: y(row) }));
      svg.append(node("text", { x: MARGIN.left - 6, y: y(row) + 4, "text-anchor": "end" }, words(row)));
    }
    svg.append(node("line", { class: "axis", x1: MARGIN.left, x2: width - MARGIN.right, y1: foot, y2: foot }));
    for (const column of columns) {
      svg.append(node("text", { x: x(column), y: foot + 16, "text-anchor": "middle" }, words(column)));
    }
    svg.append(node("text", { class: "unit", x: 0, y: 10 }, "reward"));
    const unit = { class: "unit", x: width - MARGIN.right, y: foot + 31, "text-anchor": "end" };
    svg.append(node("text", unit, "KL, nats a token"));
    for (const one of this.series) svg.append(this.line(one, x, y));
    this.plot.replaceChildren(svg);
  }

  line({ name, slot, points }, x, y) {
    const group = node("g", { class: `run-${slot}`, "data-name": name });
    const path = points.map((p, i) => `${i ? "L" : "M"}${x(p.x).toFixed(1)} ${y(p.y).toFixed(1)}`).join("");
    group.append(node("path", { class: "line", d: path }));
    for (const p of points) {
      if (p.low !== undefined && p.high !== undefined) {
        group.append(node("line", { class: "whisker", x1: x(p.x), x2: x(p.x), y1: y(p.low), y2: y(p.high) }));
      }
      group.append(node("circle", { class: "point", cx: x(p.x), cy: y(p.y), r: 2.5 }));
    }
    return group;
  }
}
