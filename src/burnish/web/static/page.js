// On every page: times in the reader's own zone.

const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const near = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

function ago(then) {
  const seconds = (then - Date.now()) / 1000;
  for (const [unit, size] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (Math.abs(seconds) >= size) return near.format(Math.round(seconds / size), unit);
  }
  return "just now";
}

for (const time of document.querySelectorAll("time[datetime]")) {
  const then = new Date(time.dateTime);
  if (Number.isNaN(then.getTime())) continue;
  time.title = full.format(then);
  time.textContent = "ago" in time.dataset ? `${full.format(then)} (${ago(then)})` : full.format(then);
}
