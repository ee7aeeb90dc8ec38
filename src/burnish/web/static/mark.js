// Marking: select a piece of the answer, press the key of its error, store.

import { folded, paragraph } from "./asked.js";
import { json } from "./http.js";
import { askRater } from "./rater.js";

const at = (id) => document.getElementById(id);
const desk = at("desk");
const answer = at("answer");
const types = [...document.querySelectorAll("[data-type]")];
const skipped = [];
let item = null;
let marks = []; // {start, end, type}, in characters as the server counts them: code points
let caret = [0, 0]; // places among the words, for who selects by keyboard
let busy = false;
let last = null; // whether there is a vote of this visit to take back
let undoKey = crypto.randomUUID();

function say(text, bad = false) {
  at("status").textContent = text;
  at("status").classList.toggle("bad-text", bad);
}

/** How many characters the first UTF-16 units of the answer hold. */
const characters = (units) => [...item.answer.slice(0, units)].length;

/** Where a place of the document lies in the answer, in UTF-16 units. */
function units(node, offset) {
  const range = document.createRange();
  range.selectNodeContents(answer);
  range.setEnd(node, offset);
  return range.toString().length;
}

/** The selected piece of the answer without white space around it, in UTF-16 units; null where nothing is selected. */
function selected() {
  const selection = window.getSelection();
  if (!selection.rangeCount || selection.isCollapsed) return null;
  const range = selection.getRangeAt(0);
  if (!answer.contains(range.startContainer) || !answer.contains(range.endContainer)) return null;
  const [start, end] = [units(range.startContainer, range.startOffset), units(range.endContainer, range.endOffset)];
  const piece = item.answer.slice(start, end);
  const found = [start + piece.length - piece.trimStart().length, start + piece.trimEnd().length];
  return found[0] < found[1] ? found : null;
}

/** Selects the answer from one UTF-16 unit to another. */
function select(start, end) {
  const range = document.createRange();
  let done = 0;
  const walker = document.createTreeWalker(answer, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const inside = (place) => place >= done && place <= done + node.length;
    if (inside(start)) range.setStart(node, start - done);
    if (inside(end)) {
      range.setEnd(node, end - done);
      break;
    }
    done += node.length;
  }
  const selection = window.getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
}

/** The answer again, its marked pieces underlined, each by the number of the first type that lies on it. */
function draw() {
  const text = [...item.answer];
  const borders = [...new Set([0, text.length, ...marks.flatMap(({ start, end }) => [start, end])])].sort((a, b) => a - b);
  answer.replaceChildren(...borders.slice(0, -1).map((start, i) => {
    const piece = text.slice(start, borders[i + 1]).join("");
    const on = marks.filter((mark) => mark.start <= start && start < mark.end).map((mark) => number(mark.type));
    if (!on.length) return document.createTextNode(piece);
    const marked = document.createElement("mark");
    marked.className = `error-${Math.min(...on) % 5}`;
    marked.textContent = piece;
    return marked;
  }));
  at("marks").replaceChildren(...marks.map(listed));
  const words = marks.length ? `Store: ${marks.length} ${marks.length === 1 ? "error" : "errors"}` : "Store: no error";
  at("store").querySelector("span").textContent = words;
}

const number = (type) => types.findIndex((button) => button.dataset.type === type);

function listed(mark) {
  const line = document.createElement("li");
  line.className = "row";
  const [kind, said, remove] = ["strong", "q", "button"].map((name) => document.createElement(name));
  kind.textContent = mark.type;
  said.textContent = quote(mark);
  remove.type = "button";
  remove.className = "quiet";
  remove.textContent = "Remove";
  remove.setAttribute("aria-label", `Remove ${mark.type}: ${quote(mark)}`);
  remove.addEventListener("click", () => {
    marks = marks.filter((other) => other !== mark);
    draw();
    answer.focus();
  });
  line.append(kind, said, remove);
  return line;
}

const quote = ({ start, end }) => [...item.answer].slice(start, end).join("");

function mark(type) {
  if (!item || busy) return;
  const found = selected();
  if (!found) return say("Select a piece of the answer first.", true);
  const [start, end] = found.map(characters);
  const other = marks.find((known) => known.type === type && known.start < end && start < known.end);
  if (other) return say(`A piece of that is marked as ${type} already: remove that mark first.`, true);
  marks = [...marks, { start, end, type }].sort((a, b) => a.start - b.start || a.end - b.end);
  draw();
  say(`Marked as ${type}.`);
  answer.focus({ preventScroll: true });
}

/** Where words begin and end, in UTF-16 units. */
function words() {
  return [...item.answer.matchAll(/\S+/gu)].map((found) => [found.index, found.index + found[0].length]);
}

function move(step, extend) {
  const places = words();
  if (!places.length) return;
  const clamp = (place) => Math.max(0, Math.min(place, places.length - 1));
  const [from, to] = caret;
  caret = extend ? [from, clamp(to + step)] : [clamp(to + step), clamp(to + step)];
  const [first, final] = [Math.min(...caret), Math.max(...caret)];
  select(places[first][0], places[final][1]);
}

async function attempt(work) {
  if (busy) return;
  busy = true;
  const buttons = [...desk.querySelectorAll("button")];
  for (const button of buttons) button.disabled = true;
  try {
    await work();
  } catch (error) {
    say(`${error.message} Press again to try once more.`, true);
  } finally {
    busy = false;
    for (const button of buttons) button.disabled = false;
  }
}

async function next(words) {
  const name = await askRater();
  const state = await json("POST", "/pages-api/mark/next", { rater: name, skipped });
  item = state.item && { ...state.item, rater: name, key: crypto.randomUUID() };
  [marks, caret] = [[], [0, -1]];
  at("start").hidden = at("intro").hidden = true;
  desk.hidden = false;
  at("question").hidden = at("skip").hidden = !item;
  at("finished").hidden = Boolean(item);
  at("undo").hidden = !last;
  at("count").textContent = item ? `${state.left} left` : "";
  say(words);
  if (!item) return at("finished").focus();
  at("asked").replaceChildren(...item.prompt.map(({ content }) => paragraph(content)), ...item.documents.map(folded));
  draw();
  answer.focus({ preventScroll: true });
  window.scrollTo({ top: 0 });
}

const store = () => attempt(async () => {
  if (!item) return;
  const spans = marks.map((found) => ({ ...found, quote: quote(found) }));
  await json("POST", "/v1/feedback", { kind: "span", id: item.id, spans, rater: item.rater, key: item.key });
  last = true;
  await next("Stored. Thank you.");
});

const skip = () => attempt(async () => {
  if (!item) return;
  skipped.push(item.id);
  await next("Skipped. It comes back at the end.");
});

const undo = () => attempt(async () => {
  if (!last) return;
  await json("POST", "/v1/feedback/undo", { rater: await askRater(), key: undoKey });
  [undoKey, last] = [crypto.randomUUID(), null];
  await next("Your last vote is taken back.");
});

for (const button of types) {
  button.addEventListener("mousedown", (event) => event.preventDefault()); // what is selected stays selected
  button.addEventListener("click", () => mark(button.dataset.type));
}
at("store")?.addEventListener("click", store);
at("skip")?.addEventListener("click", skip);
at("undo")?.addEventListener("click", undo);
at("begin")?.addEventListener("click", async () => {
  if (await askRater()) attempt(() => next(""));
});
document.addEventListener("rater", () => !desk || desk.hidden || attempt(() => next("")));
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, dialog");
  if (!desk || typing || event.ctrlKey || event.metaKey || event.altKey || desk.hidden || !item) return;
  const onButton = event.target.closest?.("button, summary, a");
  const acts = {
    enter: () => onButton || store(),
    s: skip,
    u: undo,
    a: () => select(0, item.answer.length),
  };
  const arrows = { ArrowLeft: -1, ArrowRight: 1 };
  const type = types[Number(event.key) - 1];
  const action = event.key in arrows && event.target === answer
    ? () => move(arrows[event.key], event.shiftKey)
    : type ? () => mark(type.dataset.type) : acts[event.key.toLowerCase()];
  if (!action || (event.repeat && !(event.key in arrows)) || (event.key === "Enter" && onButton)) return;
  event.preventDefault();
  action();
});
