// Line charts as plain SVG, one or several runs on the same updates. A figure that is not finite is a gap with a red
// mark, never a smoothed line; runs are told apart by their names and dashes, not by colour alone.

const NS = "http://www.w3.org/2000/svg";
const MARGIN = { left: 48, right: 10, top: 20, bottom: 36 };
const SECOND = /^(held_out_|dev_(?!gain|win_share$|votes_human))|rejected|^chosen$/; // drawn thin, with rings, beside the first figure of a chart
const FEW = 24; // so many points are marked one by one

/** A logged value as a number, "nan"/"inf" as what they are, anything else as missing. */
export function figure(value) {
  if (typeof value === "number") return value;
  if (value === "nan") return NaN;
  if (value === "inf") return Infinity;
  if (value === "-inf") return -Infinity;
  return undefined;
}

export function words(value) {
  if (value === undefined) return "–";
  if (Number.isNaN(value)) return "not a number";
  if (!Number.isFinite(value)) return value > 0 ? "infinite" : "minus infinite";
  const size = Math.abs(value);
  const small = size !== 0 && (size < 1e-3 || size >= 1e6);
  if (small) return Number(value.toPrecision(3)).toExponential().replaceAll("-", "−").replace("+", "");
  const digits = Math.abs(size - 1) < 0.01 ? 6 : 4; // a ratio near 1 is told by its last digits
  return String(Number(value.toPrecision(digits))).replace("-", "−");
}

/** About `count` round numbers that cover low to high. */
export function ticks(low, high, count, whole = false) {
  if (low === high) [low, high] = low === 0 ? [0, 1] : [low - Math.abs(low) / 2, high + Math.abs(high) / 2];
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  let step = power * [1, 2, 5, 10].find((m) => m * power >= rough * 0.999);
  if (whole) step = Math.max(1, Math.round(step));
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

export function node(name, attributes, text) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

export function html(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** A piece of a run's line, for legends. */
export function swatch(slot, second = false) {
  const svg = node("svg", { class: `swatch run-${slot}${second ? " second" : ""}`, viewBox: "0 0 28 8", "aria-hidden": "true" });
  svg.append(node("path", { class: "line", d: "M0 4L28 4" }));
  if (second) svg.append(node("circle", { class: "point", cx: 14, cy: 4, r: 2.5 }));
  return svg;
}

export class Chart {
  /**
   * @param {string} title
   * @param {(step: number|null) => void} onRead called when the reader points at an update
   */
  constructor(title, onRead) {
    Object.assign(this, { title, onRead, steps: [], series: [], several: false, ends: [0, 1], unit: "", at: null });
    this.host = html("figure", "chart");
    const head = html("header");
    head.append(html("h3", "", title), (this.readout = html("p", "readout")));
    this.meaning = html("p", "meaning");
    this.plot = html("div", "plot");
    this.plot.tabIndex = 0;
    this.plot.setAttribute("role", "slider");
    this.plot.setAttribute("aria-label", `${title} by update; arrow keys read the figures`);
    this.legend = html("ul", "legend");
    this.host.append(head, this.meaning, this.plot, this.legend);
    this.plot.addEventListener("pointermove", (event) => this.point(event));
    this.plot.addEventListener("pointerdown", (event) => this.point(event));
    this.plot.addEventListener("pointerleave", () => this.onRead(null));
    this.plot.addEventListener("blur", () => this.onRead(null));
    this.plot.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  /**
   * @param {{meaning: string, unit: string, keys: string[], names: string[]}} panel
   * @param {{label: string, slot: number, lines: object[]}[]} runs one line for each update, in order
   * @param {[number, number]} ends first and last update, the same in all charts
   */
  show(panel, runs, ends) {
    Object.assign(this, { ends, unit: panel.unit, several: runs.length > 1 || panel.keys.length > 1 });
    this.meaning.textContent = panel.meaning;
    this.series = [];
    for (const run of runs) {
      panel.keys.forEach((key, i) => {
        const known = run.lines.filter((line) => figure(line[key]) !== undefined);
        if (!known.length) return;
        const values = new Map(known.map((line) => [line.step, figure(line[key])]));
        const name = [runs.length > 1 ? run.label : "", panel.names[i] ?? ""].filter(Boolean).join(" ");
        this.series.push({ name, slot: run.slot, second: SECOND.test(key), values });
      });
    }
    this.steps = [...new Set(this.series.flatMap((one) => [...one.values.keys()]))].sort((a, b) => a - b);
    this.host.hidden = !this.series.length;
    this.draw();
  }

  key(event) {
    const last = this.steps.length - 1;
    const moves = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, Home: -Infinity, End: Infinity };
    if (event.key === "Escape") return this.onRead(null);
    if (!(event.key in moves) || last < 0) return;
    event.preventDefault();
    const from = this.at === null ? last + (moves[event.key] < 0 ? 1 : 0) : this.at;
    this.onRead(this.steps[Math.min(last, Math.max(0, from + moves[event.key]))]);
  }

  point(event) {
    if (!this.steps.length || !this.scale) return;
    const x = event.clientX - this.plot.getBoundingClientRect().left;
    const apart = (step) => Math.abs(this.scale.x(step) - x);
    this.onRead(this.steps.reduce((best, step) => (apart(step) < apart(best) ? step : best)));
  }

  /** Moves the readout of this chart to an update, or to nothing. */
  read(step) {
    const found = step === null ? -1 : this.steps.indexOf(step);
    this.at = found < 0 ? null : found;
    this.cursor?.setAttribute("visibility", this.at === null ? "hidden" : "visible");
    if (this.at !== null && this.cursor) {
      const x = this.scale.x(step);
      this.cursor.setAttribute("x1", x);
      this.cursor.setAttribute("x2", x);
    }
    this.tell();
  }

  tell() {
    const last = this.steps.length - 1;
    const at = this.at ?? last;
    if (at < 0) return;
    const step = this.steps[at];
    // without a cursor each line says its own last figure: a short run has none at the end of a longer one
    const value = (one) => (this.at === null ? [...one.values.values()].at(-1) : one.values.get(step));
    const said = this.series.map((one) => ({ ...one, value: value(one) }));
    this.readout.replaceChildren(html("span", "soft", this.at === null && this.several ? "last" : `update ${step}`));
    this.legend.replaceChildren();
    for (const one of said) {
      const broken = one.value !== undefined && !Number.isFinite(one.value);
      const shown = html("strong", broken ? "bad" : "", words(one.value));
      if (!this.several) {
        this.readout.append(" ", shown);
      } else {
        const item = html("li");
        item.append(swatch(one.slot, one.second), html("span", "name", one.name), shown);
        this.legend.append(item);
      }
    }
    const named = said.map((one) => `${one.name} ${words(one.value)}`.trim()).join(", ");
    this.plot.setAttribute("aria-valuemin", this.steps[0]);
    this.plot.setAttribute("aria-valuemax", this.steps[last]);
    this.plot.setAttribute("aria-valuenow", step);
    this.plot.setAttribute("aria-valuetext", `update ${step}: ${named}`);
  }

  draw() {
    const { width, height } = this.plot.getBoundingClientRect();
    if (!width || !this.steps.length) return;
    let [low, high] = [Infinity, -Infinity];
    for (const one of this.series) {
      for (const value of one.values.values()) {
        if (Number.isFinite(value)) [low, high] = [Math.min(low, value), Math.max(high, value)];
      }
    }
    const rows = low > high ? ticks(0, 1, 4) : ticks(low, high, 4);
    const ends = this.ends;
    const columns = ticks(...ends, Math.max(2, Math.floor(width / 70)), true);
    const scale = (from, to, start, stop) => (v) => start + ((v - from) / (to - from)) * (stop - start);
    this.scale = {
      x: scale(ends[0], ends[1], MARGIN.left, width - MARGIN.right),
      y: scale(rows[0], rows.at(-1), height - MARGIN.bottom, MARGIN.top),
    };
    const svg = node("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    this.axes(svg, rows, columns.filter((step) => step >= ends[0] && step <= ends[1]), width, height);
    for (const one of this.series) svg.append(this.line(one, height));
    this.cursor = node("line", { class: "cursor", y1: MARGIN.top, y2: height - MARGIN.bottom });
    svg.append(this.cursor);
    this.plot.replaceChildren(svg);
    this.read(this.at === null ? null : this.steps[this.at]);
  }

  axes(svg, rows, columns, width, height) {
    const foot = height - MARGIN.bottom;
    for (const row of rows) {
      const y = this.scale.y(row);
      svg.append(node("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y, y2: y }));
      svg.append(node("text", { x: MARGIN.left - 6, y: y + 4, "text-anchor": "end" }, words(row)));
    }
    svg.append(node("line", { class: "axis", x1: MARGIN.left, x2: width - MARGIN.right, y1: foot, y2: foot }));
    for (const column of columns) {
      const x = this.scale.x(column);
      svg.append(node("line", { class: "axis", x1: x, x2: x, y1: foot, y2: foot + 4 }));
      svg.append(node("text", { x, y: foot + 16, "text-anchor": "middle" }, String(column)));
    }
    svg.append(node("text", { class: "unit", x: 0, y: 10 }, this.unit));
    svg.append(node("text", { class: "unit", x: width - MARGIN.right, y: foot + 31, "text-anchor": "end" }, "update"));
  }

  line({ name, slot, second, values }, height) {
    const group = node("g", { class: `run-${slot}${second ? " second" : ""}`, "data-name": name });
    const points = [...values];
    let path = "";
    let run = 0; // finite points since the last gap
    points.forEach(([step, value], i) => {
      const x = this.scale.x(step);
      if (Number.isFinite(value)) {
        path += `${run ? "L" : "M"}${x.toFixed(1)} ${this.scale.y(value).toFixed(1)}`;
        run += 1;
        const alone = run === 1 && !Number.isFinite(points[i + 1]?.[1]);
        if (alone || points.length <= FEW) {
          group.append(node("circle", { class: "point", cx: x, cy: this.scale.y(value), r: alone ? 3 : 2 }));
        }
      } else {
        run = 0;
        group.append(this.broken(x, value, height));
      }
    });
    group.prepend(node("path", { class: "line", d: path || "M0 0" }));
    return group;
  }

  /** A red cross on the axis under a red band: here the figure was not a finite number. */
  broken(x, value, height) {
    const y = height - MARGIN.bottom;
    const mark = node("g", { class: "gap", "data-value": words(value) });
    mark.append(node("rect", { class: "broken-band", x: x - 3, y: MARGIN.top, width: 6, height: y - MARGIN.top }));
    mark.append(node("path", { class: "broken", d: `M${x - 4} ${y - 4}l8 8m0 -8l-8 8` }));
    return mark;
  }
}
