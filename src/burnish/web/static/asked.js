// What a rater is shown of a question: its messages, and its documents behind their titles.

export function paragraph(text, how = "said") {
  const line = document.createElement("p");
  line.className = how;
  line.textContent = text;
  return line;
}

export function folded({ title, text }) {
  const details = document.createElement("details");
  const summary = document.createElement("summary");
  summary.textContent = title || "Document";
  details.append(summary, paragraph(text));
  return details;
}
