// The run page: draws every figure of the log, and reads on while the stage runs.

import { Chart, figure, words } from "./charts.js";
import { json } from "./http.js";

const host = document.getElementById("charts");
const table = document.getElementById("figures");
const samples = document.getElementById("samples");
const state = document.getElementById("state");
const url = host.dataset.url;
const charts = new Map();
const lines = [];
const columns = [];

const readAll = (step) => charts.forEach((chart) => chart.read(step));

function draw(panels) {
  for (const panel of panels) {
    if (charts.has(panel.title)) continue;
    const chart = new Chart(panel, readAll);
    charts.set(panel.title, chart);
    host.append(chart.host);
  }
  charts.forEach((chart) => chart.show(lines));
}

function cell(tag, text, className = "number") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  if (tag === "th") made.scope = "col";
  return made;
}

/** The raw figures, as they were logged. */
function list(fresh) {
  const names = new Set(fresh.flatMap((line) => Object.keys(line).filter((key) => figure(line[key]) !== undefined)));
  const added = [...names].filter((name) => !columns.includes(name));
  if (added.length) {
    columns.push(...added);
    table.tHead.replaceChildren(document.createElement("tr"));
    table.tHead.rows[0].append(...columns.map((name) => cell("th", name.replaceAll("_", " "))));
    table.tBodies[0].replaceChildren();
    fresh = lines;
  }
  for (const line of fresh) {
    const row = document.createElement("tr");
    for (const name of columns) {
      const value = figure(line[name]);
      const broken = value !== undefined && !Number.isFinite(value);
      row.append(cell("td", words(value), broken ? "number bad-text" : "number"));
    }
    table.tBodies[0].append(row);
  }
}

function showSamples(found) {
  for (const sample of found) {
    const card = document.getElementById("sample").content.firstElementChild.cloneNode(true);
    card.querySelector(".step").textContent = `step ${sample.step}`;
    card.querySelector(".asked").textContent = sample.prompt;
    card.querySelector("[data-answer]").textContent = sample.answer;
    samples.prepend(card);
  }
  while (samples.children.length > 24) samples.lastElementChild.remove();
  document.getElementById("samples-part").hidden = !samples.children.length;
}

async function poll() {
  let wait = 2000;
  try {
    const found = await json("GET", `${url}?after=${lines.length}`);
    lines.push(...found.lines);
    if (found.lines.length) {
      draw(found.panels);
      list(found.lines);
      showSamples(found.samples);
    }
    document.getElementById("nothing").hidden = lines.length > 0;
    document.getElementById("raw").hidden = !lines.length;
    state.textContent = found.state;
    if (found.finished) return;
  } catch (error) {
    state.textContent = error.message;
    wait = 8000;
  }
  setTimeout(poll, document.hidden ? 10000 : wait);
}

poll();
