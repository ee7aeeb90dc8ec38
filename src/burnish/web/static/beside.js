// Answers to the same prompts after two numbers of updates, chosen by the reader: the first and the newest to begin with.

import { html } from "./charts.js";

export class SideBySide {
  constructor(part) {
    this.part = part;
    this.selects = ["#left-step", "#right-step"].map((name) => part.querySelector(name));
    this.table = part.querySelector("table");
    this.answers = new Map(); // by update, then by prompt
    this.follows = true; // the right side shows the newest answers until the reader chooses
    this.selects[0].addEventListener("change", () => this.draw());
    this.selects[1].addEventListener("change", () => {
      this.follows = false;
      this.draw();
    });
  }

  add(samples) {
    for (const { step, prompt, answer } of samples) {
      if (!this.answers.has(step)) this.answers.set(step, new Map());
      this.answers.get(step).set(prompt, answer);
    }
    if (!samples.length) return;
    const steps = [...this.answers.keys()].sort((a, b) => a - b);
    this.selects.forEach((select, side) => {
      const chosen = side === 1 && this.follows ? String(steps.at(-1)) : select.value || String(steps[0]);
      select.replaceChildren(...steps.map((step) => new Option(`${step} updates`, step)));
      select.value = chosen;
    });
    this.part.hidden = false;
    this.draw();
  }

  draw() {
    const steps = this.selects.map((select) => Number(select.value));
    const sides = steps.map((step) => this.answers.get(step));
    const heads = this.table.tHead.querySelectorAll("th");
    steps.forEach((step, side) => (heads[side + 1].textContent = `After ${step} updates`));
    this.table.tBodies[0].replaceChildren(
      ...[...sides[0].keys()].map((prompt) => {
        const row = html("tr");
        const answers = sides.map((side) => html("td", "said", side.get(prompt) ?? "\u2013"));
        answers.forEach((cell, side) => (cell.dataset.after = heads[side + 1].textContent)); // said by the narrow page
        row.append(html("td", "small soft said", prompt), ...answers);
        return row;
      }),
    );
  }
}
