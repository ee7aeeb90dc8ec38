// Line charts as plain SVG. A figure that is not finite is a gap with a red mark, never a smoothed line.

const NS = "http://www.w3.org/2000/svg";
const MARGIN = { left: 46, right: 10, top: 8, bottom: 22 };

/** A logged value as a number, "nan"/"inf" as what they are, anything else as missing. */
export function figure(value) {
  if (typeof value === "number") return value;
  if (value === true || value === false) return Number(value);
  if (typeof value !== "string") return undefined;
  const word = value.toLowerCase();
  if (word === "nan") return NaN;
  if (word === "inf" || word === "infinity") return Infinity;
  if (word === "-inf" || word === "-infinity") return -Infinity;
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

function node(name, attributes, text) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function html(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export class Chart {
  /**
   * @param {{title: string, meaning: string, keys: string[], names: string[]}} panel
   * @param {(step: number|null) => void} onRead called when the reader points at a step
   */
  constructor(panel, onRead) {
    Object.assign(this, { panel, onRead, steps: [], values: panel.keys.map(() => []), at: null });
    this.host = html("figure", "chart");
    const head = html("header");
    head.append(html("h3", "", panel.title), (this.readout = html("p", "readout")));
    this.plot = html("div", "plot");
    this.plot.tabIndex = 0;
    this.plot.setAttribute("role", "slider");
    this.plot.setAttribute("aria-label", `${panel.title} by step; arrow keys read the figures`);
    this.host.append(head, html("p", "meaning", panel.meaning), this.plot);
    this.plot.addEventListener("pointermove", (event) => this.point(event));
    this.plot.addEventListener("pointerdown", (event) => this.point(event));
    this.plot.addEventListener("pointerleave", () => this.onRead(null));
    this.plot.addEventListener("blur", () => this.onRead(null));
    this.plot.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  /** Takes all log lines of the run; every chart of a run has the same first and last step. */
  show(lines) {
    const all = lines.map((line) => line.step);
    this.ends = [Math.min(...all), Math.max(...all, Math.min(...all) + 1)];
    const known = lines.filter((line) => this.panel.keys.some((key) => figure(line[key]) !== undefined));
    this.steps = known.map((line) => line.step);
    this.values = this.panel.keys.map((key) => known.map((line) => figure(line[key])));
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
    let best = 0;
    this.steps.forEach((step, i) => {
      if (Math.abs(this.scale.x(step) - x) < Math.abs(this.scale.x(this.steps[best]) - x)) best = i;
    });
    this.onRead(this.steps[best]);
  }

  /** Moves the readout of this chart to a step, or to nothing. */
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
    const said = this.values.map((series) => series[at]);
    const named = this.panel.names.map((name, i) => (name ? `${name} ${words(said[i])}` : words(said[i])));
    this.readout.replaceChildren(html("span", "soft", `step ${this.steps[at]}`));
    said.forEach((value, i) => {
      const broken = value !== undefined && !Number.isFinite(value);
      const several = said.length > 1 ? `key${i ? " second" : ""}` : "";
      this.readout.append(" ", html("strong", `${several}${broken ? " bad" : ""}`, named[i]));
    });
    this.plot.setAttribute("aria-valuemin", this.steps[0]);
    this.plot.setAttribute("aria-valuemax", this.steps[last]);
    this.plot.setAttribute("aria-valuenow", this.steps[at]);
    this.plot.setAttribute("aria-valuetext", `step ${this.steps[at]}: ${named.join(", ")}`);
  }

  draw() {
    const { width, height } = this.plot.getBoundingClientRect();
    if (!width || !this.steps.length) return;
    const finite = this.values.flat().filter((value) => Number.isFinite(value));
    const low = finite.length ? Math.min(...finite) : 0;
    const high = finite.length ? Math.max(...finite) : 1;
    const rows = ticks(low, high, 4);
    const ends = this.ends;
    const columns = ticks(...ends, Math.max(2, Math.floor(width / 70)), true);
    const scale = (from, to, start, stop) => (v) => start + ((v - from) / (to - from)) * (stop - start);
    this.scale = {
      x: scale(ends[0], ends[1], MARGIN.left, width - MARGIN.right),
      y: scale(rows[0], rows.at(-1), height - MARGIN.bottom, MARGIN.top),
    };
    const svg = node("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    this.axes(svg, rows, columns.filter((step) => step >= ends[0] && step <= ends[1]), width, height);
    this.values.forEach((series, i) => svg.append(this.series(series, i, height)));
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
  }

  series(values, index, height) {
    const group = node("g", index ? { class: "second" } : {});
    let path = "";
    let run = 0; // finite points since the last gap
    values.forEach((value, i) => {
      const x = this.scale.x(this.steps[i]);
      if (Number.isFinite(value)) {
        path += `${run ? "L" : "M"}${x.toFixed(1)} ${this.scale.y(value).toFixed(1)}`;
        run += 1;
        const alone = run === 1 && !Number.isFinite(values[i + 1]);
        if (alone || values.length <= 24) {
          group.append(node("circle", { class: "point", cx: x, cy: this.scale.y(value), r: alone ? 3 : 2 }));
        }
      } else if (value !== undefined) {
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
