// The raw figures of the runs as a table, as they were logged.

import { figure, html, words } from "./charts.js";

const MOST = 500; // rows; the downloads hold every one

export class Figures {
  constructor(details) {
    this.details = details;
    this.table = details.querySelector("table");
    this.runs = [];
    details.addEventListener("toggle", () => this.draw());
  }

  show(runs) {
    this.runs = runs;
    this.details.hidden = !runs.some((run) => run.lines.length);
    this.draw();
  }

  draw() {
    if (!this.details.open) return;
    const rows = this.runs.flatMap((run) => run.lines.map((line) => ({ run, line })));
    const names = [...new Set(rows.flatMap(({ line }) => Object.keys(line).filter((key) => figure(line[key]) !== undefined)))];
    const several = this.runs.length > 1;
    const head = html("tr");
    head.append(...(several ? ["run", ...names] : names).map((name) => this.cell("th", name.replaceAll("_", " "))));
    this.table.tHead.replaceChildren(head);
    const shown = several ? this.runs.flatMap((run) => rows.filter((row) => row.run === run).slice(-MOST)) : rows.slice(-MOST);
    this.table.tBodies[0].replaceChildren(...shown.map(({ run, line }) => {
      const row = html("tr");
      if (several) row.append(html("td", "", run.label));
      for (const name of names) {
        const value = figure(line[name]);
        const broken = value !== undefined && !Number.isFinite(value);
        row.append(this.cell("td", words(value), broken ? "number bad-text" : "number"));
      }
      return row;
    }));
    this.details.querySelector(".cut").hidden = shown.length === rows.length;
  }

  cell(tag, text, className = "number") {
    const made = html(tag, className, text);
    if (tag === "th") made.scope = "col";
    return made;
  }
}
