// Promote and roll back: asked once more, and a refusal is shown in words.

import { json } from "./http.js";

const status = document.getElementById("status");
const dialog = document.getElementById("sure");
const words = dialog.querySelector("p");

function confirmed(question) {
  words.textContent = question;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

for (const button of document.querySelectorAll("[data-act]")) {
  button.addEventListener("click", async () => {
    if (!(await confirmed(button.dataset.question))) return;
    button.disabled = true;
    try {
      await json("POST", button.dataset.act, {});
      window.location.reload();
    } catch (error) {
      status.textContent = error.message;
      status.hidden = false;
      status.focus();
      button.disabled = false;
    }
  });
}
