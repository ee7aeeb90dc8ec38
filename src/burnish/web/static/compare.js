// Blind comparison: two answers, no names, one key press.

import { folded, paragraph } from "./asked.js";
import { json } from "./http.js";
import { askRater } from "./rater.js";

const at = (id) => document.getElementById(id);
const desk = at("desk");
const status = at("status");
const sides = { left: at("left"), right: at("right") };
const buttons = [...desk.querySelectorAll("[data-choice]")];
const criteria = [...desk.querySelectorAll("[data-criterion]")]; // none where the recipe asks about none
const CYCLE = ["left", "right", "tie"]; // what a criterion's key goes through, and then none again
const skipped = [];
let item = null;
let busy = false;
let undoKey = crypto.randomUUID();
let takenBack = false; // one vote back, not two

function say(text, bad = false) {
  status.textContent = text;
  status.classList.toggle("bad-text", bad);
}

function lock(on) {
  busy = on;
  for (const button of [...buttons, at("skip"), at("undo")]) button.disabled = on;
}

function show(state) {
  item = state.item;
  at("start").hidden = at("intro").hidden = true;
  desk.hidden = false;
  at("question").hidden = !item;
  at("finished").hidden = Boolean(item);
  at("progress").max = Math.max(state.total, 1);
  at("progress").value = state.done;
  at("count").textContent = `${state.done} of ${state.total}`;
  at("undo").hidden = state.done === 0 || takenBack;
  foreseen(state.foreseen);
  if (!item) return;
  const asked = at("asked");
  asked.replaceChildren(...item.prompt.map(said), ...item.documents.map(folded));
  for (const side of ["left", "right"]) sides[side].textContent = item[side];
  for (const group of criteria) choose(group, null);
  item.key = crypto.randomUUID();
}

const said = ({ role, content }) => paragraph(content, role === "user" ? "said" : "said soft");

function foreseen(found) {
  at("foreseen").hidden = !found;
  if (found) at("foreseen").textContent = found;
}

async function next(words) {
  const name = await askRater();
  const state = await json("POST", "/pages-api/compare/next", { rater: name, skipped });
  show(state);
  if (item) item.rater = name; // which side stands left was drawn for this rater
  say(words(state));
  (item ? at("asked") : at("finished")).focus({ preventScroll: true });
  window.scrollTo({ top: 0 });
}

async function attempt(work) {
  if (busy) return;
  lock(true);
  try {
    await work();
  } catch (error) {
    say(`${error.message} Press again to try once more.`, true);
  } finally {
    lock(false);
  }
}

const sidesOf = (group) => [...group.querySelectorAll("[data-side]")];
const chosen = (group) => sidesOf(group).find((button) => button.getAttribute("aria-pressed") === "true")?.dataset.side;

function choose(group, side) {
  for (const button of sidesOf(group)) button.setAttribute("aria-pressed", button.dataset.side === side);
}

const cycle = (group) => choose(group, CYCLE[CYCLE.indexOf(chosen(group)) + 1] ?? null);

const vote = (choice) => attempt(async () => {
  if (!item) return;
  const body = { kind: "compare", comparison: item.comparison, choice, rater: item.rater, key: item.key };
  const said = criteria.filter(chosen).map((group) => [group.dataset.criterion, chosen(group)]);
  if (said.length) body.criteria = Object.fromEntries(said);
  await json("POST", "/v1/feedback", body);
  takenBack = false;
  await next((state) => `Thank you, ${state.done} of ${state.total}.`);
});

const skip = () => attempt(async () => {
  if (!item) return;
  skipped.push(item.comparison);
  await next(() => "Skipped. It comes back at the end.");
});

const undo = () => attempt(async () => {
  if (at("undo").hidden) return;
  await json("POST", "/v1/feedback/undo", { rater: await askRater(), key: undoKey });
  [undoKey, takenBack] = [crypto.randomUUID(), true];
  await next(() => "Your last vote is taken back.");
});

const keys = { 1: () => vote("left"), 2: () => vote("right"), 0: () => vote("tie"), s: skip, u: undo };
criteria.forEach((group, place) => {
  keys[place + 3] = () => item && cycle(group);
  for (const button of sidesOf(group)) {
    button.addEventListener("click", () => choose(group, chosen(group) === button.dataset.side ? null : button.dataset.side));
  }
});

for (const button of buttons) button.addEventListener("click", () => vote(button.dataset.choice));
at("skip").addEventListener("click", skip);
at("undo").addEventListener("click", undo);
at("begin").addEventListener("click", async () => {
  if (await askRater()) attempt(() => next(() => ""));
});
document.addEventListener("rater", () => desk.hidden || attempt(() => next(() => "")));
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, dialog");
  if (typing || event.repeat || event.ctrlKey || event.metaKey || event.altKey || desk.hidden) return;
  const action = keys[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
});
