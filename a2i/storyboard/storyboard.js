"use strict";
// The player, the timeline and the scenes show the same moment. Without this script the sound plays, and all scenes are there.
const EARLY = 0.05; // seconds: browsers seek to a little before the moment that they are asked for
const sound = document.getElementById("sound"); // null where the recording could not be read again
const timeline = document.getElementById("timeline");
const seconds = Number(timeline.dataset.seconds);
const stretches = [...timeline.querySelectorAll(".stretch")];
const head = document.getElementById("head");
const cards = [...document.querySelectorAll(".card")];
const starts = cards.map((card) => Number(card.dataset.start));
const picture = document.getElementById("picture");
const status = document.getElementById("status");
const announce = document.getElementById("announce");
const follow = document.getElementById("follow");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let current = -1;

function sceneAt(time) {
  const after = starts.findIndex((start) => start > time + EARLY);
  return after < 0 ? starts.length - 1 : Math.max(after - 1, 0);
}

function show(index) {
  if (index === current) return false;
  cards[current]?.removeAttribute("aria-current");
  stretches[current]?.classList.remove("on");
  current = index;
  const card = cards[index];
  card.setAttribute("aria-current", "true");
  stretches[index].classList.add("on");
  const image = card.querySelector("img");
  picture.hidden = !image;
  picture.src = image ? image.src : "";
  picture.alt = card.dataset.caption;
  document.getElementById("when").textContent = card.dataset.time;
  document.getElementById("what").textContent = card.dataset.caption;
  return true;
}

// One scene can be reached with Tab, the others from it with arrow keys: a recording may have hundreds.
function reach(index) {
  for (const [other, card] of cards.entries()) card.tabIndex = other === index ? 0 : -1;
}

function move() {
  head.style.left = `${(100 * sound.currentTime) / seconds}%`;
  const isNew = show(sceneAt(sound.currentTime));
  if (!isNew || sound.paused) return;
  const focused = document.activeElement?.closest(".card");
  if (announce.checked && focused !== cards[current]) status.textContent = cards[current].dataset.caption;
  if (follow.checked && !focused) {
    cards[current].scrollIntoView({ block: "nearest", behavior: calm.matches ? "auto" : "smooth" });
  }
  if (!focused) reach(current);
}

function playFrom(time) {
  sound.currentTime = time;
  move();
  sound.play();
}

function toggle() {
  if (sound.paused) sound.play();
  else sound.pause();
}

function choose(index) {
  if (sound) playFrom(starts[index]);
  else show(index);
}

// The card in the row above or below that stands nearest.
function across(index, down) {
  const own = cards[index].getBoundingClientRect();
  const rest = cards.slice(down ? index + 1 : 0, down ? undefined : index);
  if (!down) rest.reverse();
  const row = rest.find((card) => Math.abs(card.getBoundingClientRect().top - own.top) > own.height / 4);
  if (!row) return index;
  const top = row.getBoundingClientRect().top;
  const away = (card) => Math.abs(card.getBoundingClientRect().left - own.left);
  const inRow = rest.filter((card) => Math.abs(card.getBoundingClientRect().top - top) < 2);
  return cards.indexOf(inRow.reduce((best, card) => (away(card) < away(best) ? card : best)));
}

function next(key, index) {
  if (key === "ArrowRight") return Math.min(index + 1, cards.length - 1);
  if (key === "ArrowLeft") return Math.max(index - 1, 0);
  if (key === "ArrowDown" || key === "ArrowUp") return across(index, key === "ArrowDown");
  if (key === "Home") return 0;
  return key === "End" ? cards.length - 1 : null;
}

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const card = event.target.closest?.(".card");
  const onPage = event.target === document.body;
  if (event.key === " " && sound && (card || onPage)) {
    event.preventDefault();
    if (card && cards.indexOf(card) !== current) choose(cards.indexOf(card));
    else toggle();
    return;
  }
  const goes = card ? next(event.key, cards.indexOf(card)) : null;
  if (goes === null) return;
  event.preventDefault();
  reach(goes);
  cards[goes].focus();
});
document.addEventListener("keyup", (event) => {
  if (event.key === " " && sound && event.target.closest?.(".card")) event.preventDefault(); // no click besides
});
for (const [index, card] of cards.entries()) {
  card.addEventListener("click", () => {
    reach(index);
    choose(index);
  });
}
timeline.addEventListener("click", (event) => {
  const { left, width } = timeline.getBoundingClientRect();
  const time = (seconds * (event.clientX - left)) / width;
  if (sound) playFrom(time);
  else show(sceneAt(time));
});
if (sound) {
  for (const kind of ["timeupdate", "seeked"]) sound.addEventListener(kind, move);
  for (const kind of ["play", "pause", "ended"]) {
    sound.addEventListener(kind, () => document.body.classList.toggle("playing", !sound.paused));
  }
  head.hidden = false;
}

document.getElementById("now").hidden = false;
document.getElementById("choices").hidden = false;
reach(0);
show(0);
