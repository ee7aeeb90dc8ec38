// The chat page: streams answers, and sends what the reader thinks of them.

import { events, send, json } from "./http.js";
import { askRater } from "./rater.js";

const thread = document.getElementById("thread");
const form = document.getElementById("composer");
const field = form.querySelector("textarea");
const button = form.querySelector("button");
const status = document.getElementById("status");
const model = thread.dataset.model;
let conversation = [];
let running = null;

function copy(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

function say(text, bad = false) {
  status.textContent = text;
  status.classList.toggle("bad-text", bad);
}

function follow(element) {
  const near = document.documentElement.scrollHeight - window.scrollY - window.innerHeight < 240;
  if (near) element.scrollIntoView({ block: "end" });
}

async function ask(text) {
  document.getElementById("empty").hidden = true;
  const question = copy("person");
  question.querySelector(".said").textContent = text;
  const turn = copy("model");
  thread.append(question, turn);
  turn.scrollIntoView({ block: "end" });
  const said = turn.querySelector(".said");
  running = new AbortController();
  button.textContent = "Stop";
  say("");
  let answer = "";
  let reply = null;
  let cut = false;
  try {
    const messages = [...conversation, { role: "user", content: text }];
    const body = { model, messages, stream: true };
    const response = await send("POST", "/v1/chat/completions", body, running.signal);
    const version = response.headers.get("X-Burnish-Version");
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      reply ??= { id: event.id, version: version ?? event.system_fingerprint };
      const choice = event.choices?.[0];
      answer += choice?.delta?.content ?? "";
      cut ||= choice?.finish_reason === "length";
      said.textContent = answer;
      follow(turn);
    }
    conversation = [...messages, { role: "assistant", content: answer }];
    finish(turn, reply, answer, cut);
  } catch (error) {
    const stopped = error.name === "AbortError";
    turn.removeAttribute("aria-busy");
    if (!answer) turn.remove();
    if (!answer && !field.value) field.value = text;
    say(stopped ? "Stopped. An answer that was cut off takes no votes." : error.message, !stopped);
  } finally {
    running = null;
    button.textContent = "Send";
  }
}

function finish(turn, reply, answer, cut) {
  turn.removeAttribute("aria-busy");
  if (!answer.trim()) turn.querySelector(".said").textContent = "(an empty answer)";
  const footer = turn.querySelector("footer");
  footer.hidden = false;
  footer.querySelector(".version").textContent = reply.version;
  footer.querySelector(".cut").hidden = !cut;
  new Feedback(turn, reply.id, answer);
  follow(turn);
}

let last = null; // the answer that got the reader's last vote: only that one can be taken back

/** The votes on one answer: a thumb, a correction, and the way back. */
class Feedback {
  constructor(turn, id, answer) {
    Object.assign(this, { turn, id, answer, pressed: null, before: null, pending: null, undoKey: null });
    this.note = turn.querySelector(".stored");
    this.undo = turn.querySelector(".undo");
    this.thumbs = [...turn.querySelectorAll("[data-value]")];
    for (const thumb of this.thumbs) thumb.addEventListener("click", () => this.thumb(thumb));
    turn.querySelector(".correct").addEventListener("click", () => this.open());
    this.undo.addEventListener("click", () => this.takeBack());
  }

  press(thumb) {
    this.pressed = thumb;
    this.thumbs.forEach((b) => b.setAttribute("aria-pressed", String(b === thumb)));
  }

  async store(body, done) {
    const name = await askRater();
    if (!name) return this.tell("Not stored: a vote needs a name.", true);
    const buttons = [...this.turn.querySelectorAll("button")];
    buttons.forEach((b) => (b.disabled = true));
    try {
      // one key for one intention: sent again after a lost reply, it is counted once
      const same = JSON.stringify([body, name]);
      if (this.pending?.same !== same) this.pending = { same, key: crypto.randomUUID() };
      await json("POST", "/v1/feedback", { ...body, rater: name, key: this.pending.key });
      this.pending = null;
      if (last) last.undo.hidden = true;
      last = this;
      this.undo.hidden = false;
      done();
    } catch (error) {
      this.tell(`Not stored: ${error.message}`, true);
    } finally {
      buttons.forEach((b) => (b.disabled = false));
    }
  }

  thumb(thumb) {
    return this.store({ kind: "thumb", id: this.id, value: Number(thumb.dataset.value) }, () => {
      this.before = this.pressed;
      this.press(thumb);
      this.tell("Stored.");
    });
  }

  open() {
    if (this.turn.querySelector(".correction")) return this.turn.querySelector("textarea").focus();
    const form = copy("correction");
    const field = form.querySelector("textarea");
    field.value = this.answer;
    form.querySelector(".cancel").addEventListener("click", () => this.close(form));
    form.addEventListener("keydown", (event) => event.key === "Escape" && this.close(form));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = field.value.trim();
      if (!text || text === this.answer.trim()) return this.tell("Change the text first.", true);
      this.store({ kind: "edit", id: this.id, text }, () => {
        this.before = this.pressed;
        this.close(form);
        this.tell("Correction stored.");
      });
    });
    this.turn.append(form);
    field.focus({ preventScroll: true });
    form.scrollIntoView({ block: "nearest" });
  }

  close(form) {
    form.remove();
    this.turn.querySelector(".correct").focus();
  }

  async takeBack() {
    try {
      this.undoKey ??= crypto.randomUUID();
      await json("POST", "/v1/feedback/undo", { rater: await askRater(), key: this.undoKey });
      this.undoKey = null;
      last = null;
      this.press(this.before);
      this.undo.hidden = true;
      this.tell("Taken back.");
      this.turn.querySelector(".correct").focus();
    } catch (error) {
      this.tell(`Not taken back: ${error.message}`, true);
    }
  }

  tell(text, bad = false) {
    this.note.textContent = text;
    this.note.classList.toggle("bad-text", bad);
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) return running.abort();
  const text = field.value.trim();
  if (!text) return field.focus();
  field.value = "";
  ask(text);
});
field.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    if (!running) form.requestSubmit();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running) running.abort();
});
document.getElementById("fresh").addEventListener("click", () => {
  running?.abort();
  conversation = [];
  thread.querySelectorAll(".turn").forEach((turn) => turn.remove());
  document.getElementById("empty").hidden = false;
  say("");
  field.focus();
});
