// Who votes: asked once, kept in this browser, sent with every vote.

const KEY = "burnish.rater";
const dialog = document.getElementById("rater");
const shown = document.getElementById("rater-name");

export function rater() {
  return localStorage.getItem(KEY);
}

function show() {
  shown.textContent = rater() ?? "";
  shown.parentElement.hidden = !rater();
}

/** The rater's name; asks for it where there is none. Resolves to null if the question is dismissed. */
export function askRater(again = false) {
  if (rater() && !again) return Promise.resolve(rater());
  const field = dialog.querySelector("input");
  field.value = rater() ?? "";
  dialog.showModal();
  field.focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const name = field.value.trim();
      const changed = dialog.returnValue === "keep" && name && name !== rater();
      if (changed) localStorage.setItem(KEY, name);
      dialog.returnValue = "";
      show();
      if (changed && again) document.dispatchEvent(new CustomEvent("rater"));
      resolve(rater());
    }, { once: true });
  });
}

document.getElementById("rater-change").addEventListener("click", () => askRater(true));
show();
