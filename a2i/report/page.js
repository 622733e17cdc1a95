"use strict";
// Orders, filters and shows the clips of one table. Values lie in data attributes; without this script all rows are there.
const STEP = 50; // clips shown at once: a thousand players would be slow to lay out
const table = document.getElementById("table");
const body = table.tBodies[0];
const heads = [...table.tHead.rows[0].cells];
const given = [...body.rows];
const texts = given.map((row) =>
  [...row.querySelectorAll(".file, .text")].map((cell) => cell.textContent).join(" ").toLowerCase());
const search = document.getElementById("search");
const embedded = document.getElementById("embedded");
const message = document.getElementById("message");
const more = document.getElementById("more");
const boxes = [...document.querySelectorAll(".columns input")];
const hiding = document.head.appendChild(document.createElement("style"));
const state = { column: -1, descending: false, limit: STEP };

function compare(a, b) {
  const x = a.cells[state.column].dataset.value;
  const y = b.cells[state.column].dataset.value;
  if (x === "" || y === "") return (x === "") - (y === ""); // what is missing comes last either way
  const order = heads[state.column].dataset.kind === "number" ? x - y : x.localeCompare(y, "en", { numeric: true });
  return state.descending ? -order : order;
}

function show() {
  const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = given.filter((row, index) =>
    wanted.every((word) => texts[index].includes(word)) && (!embedded.checked || "embedded" in row.dataset));
  if (state.column >= 0) found.sort(compare);
  const visible = new Set(found.slice(0, state.limit));
  for (const row of given) row.hidden = !visible.has(row);
  body.append(...found);
  for (const [index, head] of heads.entries()) {
    if (index === state.column) head.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  const order = state.column < 0 ? "" :
    `, ordered by ${heads[state.column].textContent.trim()}, ${state.descending ? "descending" : "ascending"}`;
  const [all, some, here] = [given, found, [...visible]].map((clips) => clips.length.toLocaleString("en"));
  const of = some === all ? `${all} clips` : `${some} clips found of ${all}`;
  message.textContent = `Showing ${here} of ${of}${order}.`;
  more.hidden = visible.size === found.length;
}

function chooseColumns() {
  const off = boxes.filter((box) => !box.checked).map((box) => heads.findIndex((head) => head.dataset.name === box.value));
  hiding.textContent = off.map((index) => `#table tr > :nth-child(${index + 1}) { display: none; }`).join("\n");
}

function sortBy(column, descending) {
  Object.assign(state, { column, descending, limit: STEP });
  const box = boxes.find((one) => one.value === heads[column].dataset.name);
  if (box && !box.checked) {
    box.checked = true;
    chooseColumns();
  }
  for (const button of document.querySelectorAll("[data-sort]")) {
    const head = heads[column];
    const downwards = (button.dataset.order === "best") !== (head.dataset.better === "lower");
    button.setAttribute("aria-pressed", String(button.dataset.sort === head.dataset.name && downwards === descending));
  }
  show();
}

for (const [index, head] of heads.entries()) {
  const button = head.querySelector("button");
  if (!button) continue;
  button.addEventListener("click", () => {
    // Scores from the greatest, names from A; again turns it round.
    const descending = state.column === index ? !state.descending : head.dataset.kind === "number";
    sortBy(index, descending);
  });
}
for (const button of document.querySelectorAll("[data-sort]")) {
  button.addEventListener("click", () => {
    const column = heads.findIndex((head) => head.dataset.name === button.dataset.sort);
    sortBy(column, (button.dataset.order === "best") !== (heads[column].dataset.better === "lower"));
    document.getElementById("clips").scrollIntoView();
  });
}
for (const input of [search, embedded]) {
  input.addEventListener("input", () => {
    state.limit = STEP;
    show();
  });
}
for (const box of boxes) box.addEventListener("input", chooseColumns);
document.getElementById("more-some").addEventListener("click", () => {
  state.limit += STEP;
  show();
});
document.getElementById("more-all").addEventListener("click", () => {
  state.limit = Infinity;
  show();
});

// One sound at a time, and a line in its spectrogram.
document.addEventListener("play", ({ target }) => {
  for (const audio of document.querySelectorAll("audio")) if (audio !== target) audio.pause();
}, true);
document.addEventListener("timeupdate", ({ target }) => {
  const plot = target.closest(".sound").querySelector(".plot");
  plot.style.setProperty("--at", `${(100 * target.currentTime) / plot.dataset.seconds}%`);
}, true);
body.addEventListener("click", ({ target, clientX }) => {
  const plot = target.closest(".plot");
  const audio = plot?.parentElement.querySelector("audio");
  if (!audio) return;
  const { left, width } = plot.getBoundingClientRect();
  audio.currentTime = ((clientX - left) / width) * plot.dataset.seconds;
  audio.play();
});

document.getElementById("controls").hidden = false;
chooseColumns();
show();
table.classList.add("ready");
