// The run page: draws every figure of one run's log and of those chosen beside it, and reads on while they run.

import { Chart, html, swatch } from "./charts.js";
import { Figures } from "./figures.js";
import { json } from "./http.js";
import { OverKl } from "./over.js";
import { SideBySide } from "./beside.js";

const host = document.getElementById("charts");
const state = document.getElementById("state");
const samples = document.getElementById("samples");
const boxes = [...document.querySelectorAll("#beside input")];
const full = document.getElementById("full");
const figures = new Figures(document.getElementById("raw"));
const over = new OverKl(document.getElementById("over"));
const beside = new SideBySide(document.getElementById("beside-part"));
const charts = new Map();
const runs = new Map(); // by key, this page's own first
const SLOTS = 6; // as many as there are dashes and colours

const readAll = (step) => charts.forEach((chart) => chart.read(step));

class Run {
  constructor(key, label) {
    const taken = new Set([...runs.values()].map((run) => run.slot));
    const slot = Array.from({ length: SLOTS }, (_, i) => i).find((i) => !taken.has(i));
    Object.assign(this, { key, label, slot, read: 0, updates: new Map(), panels: [], finished: false });
  }

  /** One line for each update, in order: what was logged again after a resume stands. */
  get lines() {
    return [...this.updates.values()].sort((a, b) => a.step - b.step);
  }

  /** Reads what is new; returns the reply where anything is. */
  async more() {
    const found = await json("GET", `/pages-api/runs/${encodeURIComponent(this.key)}?after=${this.read}`);
    this.read += found.lines.length;
    for (const line of found.lines) this.updates.set(line.step, { ...this.updates.get(line.step), ...line });
    Object.assign(this, { panels: found.panels, finished: found.finished });
    return found;
  }
}

function draw() {
  const shown = [...runs.values()].map((run) => ({ label: run.label, slot: run.slot, panels: run.panels, lines: run.lines }));
  const steps = shown.flatMap((run) => run.lines.map((line) => line.step));
  const first = steps.reduce((a, b) => Math.min(a, b), Infinity);
  const ends = [first, steps.reduce((a, b) => Math.max(a, b), first + 1)];
  const panels = new Map();
  for (const panel of shown.flatMap((run) => run.panels)) {
    const known = panels.get(panel.title) ?? { ...panel, keys: [], names: [] };
    panel.keys.forEach((key, i) => {
      const at = known.keys.includes(key) ? known.keys.indexOf(key) : known.keys.length;
      known.keys[at] = key;
      known.names[at] ||= panel.names[i];
    });
    panels.set(panel.title, known);
  }
  for (const [title, panel] of panels) {
    if (!charts.has(title)) charts.set(title, put(new Chart(title, readAll), panel.place));
    charts.get(title).show(panel, shown, ends);
  }
  charts.forEach((chart, title) => (chart.host.hidden ||= !panels.has(title)));
  figures.show(shown);
  document.getElementById("over-part").hidden = !over.show(runs.values().next().value.lines);
  document.getElementById("nothing").hidden = steps.length > 0;
}

/** Puts a new chart where it belongs, and leaves the others, one of which may have the focus, where they are. */
function put(chart, place) {
  chart.place = place;
  const next = [...charts.values()].filter((other) => other.place > place).sort((a, b) => a.place - b.place)[0];
  host.insertBefore(chart.host, next?.host ?? null);
  return chart;
}

function showSamples(found) {
  for (const sample of found) {
    const card = document.getElementById("sample").content.firstElementChild.cloneNode(true);
    card.querySelector(".step").textContent = `update ${sample.step}`;
    card.querySelector(".asked").textContent = sample.prompt;
    card.querySelector("[data-answer]").textContent = sample.answer;
    samples.prepend(card);
  }
  while (samples.children.length > 24) samples.lastElementChild.remove();
  document.getElementById("samples-part").hidden = !samples.children.length;
}

/** Marks the chosen boxes with their run's line, and writes the choice into the address. */
function mark() {
  const chosen = boxes.filter((box) => box.checked);
  for (const box of boxes) {
    const place = box.parentElement.querySelector(".swatch-place");
    place.replaceChildren(...(runs.has(box.value) ? [swatch(runs.get(box.value).slot)] : []));
    box.disabled = !box.checked && chosen.length >= SLOTS - 1;
  }
  full.hidden = chosen.length < SLOTS - 1;
  const own = document.getElementById("own-swatch");
  own?.replaceChildren(swatch(0));
  const query = new URLSearchParams(chosen.map((box) => ["with", box.dataset.name]));
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
}

async function choose(box) {
  if (box.checked) {
    const run = new Run(box.value, box.dataset.label);
    runs.set(box.value, run);
    mark();
    await run.more();
    poll(run);
  } else {
    runs.delete(box.value);
    mark();
  }
  draw();
}

async function poll(run) {
  let wait = 2000;
  for (; runs.get(run.key) === run && !run.finished; ) {
    await new Promise((later) => setTimeout(later, document.hidden ? 10000 : wait));
    wait = (await look(run)) ? 2000 : 8000;
  }
}

/** Reads on; returns whether the server answered. */
async function look(run) {
  try {
    const found = await run.more();
    if (run.key === host.dataset.key) {
      state.textContent = found.state;
      showSamples(found.samples);
      beside.add(found.dev_samples);
    }
    if (found.lines.length || !charts.size) draw();
    return true;
  } catch (error) {
    state.textContent = error.message;
    return false;
  }
}

async function start() {
  const own = new Run(host.dataset.key, host.dataset.label);
  runs.set(own.key, own);
  for (const box of boxes.filter((box) => box.checked)) runs.set(box.value, new Run(box.value, box.dataset.label));
  if (boxes.length) mark();
  await Promise.all([...runs.values()].map(look));
  draw();
  runs.forEach((run) => poll(run));
}

boxes.forEach((box) => box.addEventListener("change", () => choose(box).catch((error) => (state.textContent = error.message))));
start();
