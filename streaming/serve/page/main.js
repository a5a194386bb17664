/** The page: who asks, about which clip, and the answers side by side. */

import { model, part } from "./api.js";
import { Card } from "./card.js";
import { Clip, play } from "./clip.js";
import { announce, byId, el, say } from "./dom.js";

const EXAMPLE = "example.mp4";
const cards = [];
let clip = null;
let shown = null;
let sending = null;
let serving = null;

const actions = {
  seek: (of, time) => {
    if (isAsked(clip)) clip = of; // a new clip is still to be asked about while others are shown
    show(of, time);
    byId("player").scrollIntoView({ block: "nearest" });
  },
  remove: (card) => {
    card.stop();
    card.element.remove();
    cards.splice(cards.indexOf(card), 1);
    (cards[0]?.element.querySelector(".close") ?? byId("question")).focus();
  },
};

const isAsked = (of) => cards.some((card) => card.asked.clip === of);

/** Show a clip in the player, at a time of it if one is given. */
function show(of, time) {
  shown = of;
  play(of, time);
}

async function connect() {
  try {
    serving = await model();
    say(byId("trouble"));
    offer(serving.mr_stream);
  } catch (error) {
    say(byId("trouble"), error.message);
  }
}

/** Show which model answers, and the settings that this server begins with and allows. */
function offer({ note, budget, num_frames, pruner, pruners, max_num_frames }) {
  byId("model").textContent = note ? `${serving.id}: ${note}` : serving.id;
  byId("budget").value = budget ?? "";
  byId("frames").value = num_frames ?? "";
  byId("frames").max = max_num_frames;
  const options = pruners.map((name) => el("option", { selected: name === pruner }, name));
  byId("pruner").replaceChildren(...options);
}

function take(file, { isExample = false } = {}) {
  if (clip && !isAsked(clip)) clip.drop();
  say(byId("trouble"));
  const sent = byId("sent");
  const taken = new Clip(file, (part) => taken === sending && (sent.value = part));
  clip = sending = taken;
  sent.value = 0;
  sent.hidden = false;
  byId("ideas").hidden = !isExample;
  show(taken);
  (isExample ? byId("ideas").firstElementChild : byId("question")).focus();
  taken.id
    .then(
      () => announce(`${file.name} is ready`),
      (error) =>
        taken === sending && error.name !== "AbortError" && say(byId("trouble"), error.message),
    )
    .finally(() => taken === sending && (sent.hidden = true));
}

async function takeExample() {
  try {
    const content = await part(EXAMPLE);
    take(new File([content], EXAMPLE, { type: "video/mp4" }), { isExample: true });
  } catch (error) {
    say(byId("trouble"), error.message);
  }
}

/** Return what is set in the form; what is not is the server's to choose. */
function settings() {
  const [budget, frames, pruner] = ["budget", "frames", "pruner"].map((id) => byId(id).value);
  return {
    ...(budget && pruner !== "none" ? { budget: Number(budget) } : {}),
    ...(frames ? { num_frames: Number(frames) } : {}),
    pruner,
  };
}

async function ask() {
  if (!clip) {
    say(byId("trouble"), "Choose a clip first.");
    byId("choose").focus();
    return;
  }
  if (!serving) await connect();
  if (!serving) return;
  if (shown !== clip) show(clip);
  const question = byId("question").value.trim();
  const warmBudget = serving.mr_stream.budget ?? Infinity;
  const asked = { clip, question, model: serving.id, options: settings(), warmBudget };
  const card = new Card(asked, actions);
  cards.unshift(card);
  byId("cards").prepend(card.element);
  card.element.scrollIntoView({ block: "nearest" });
  if (document.activeElement === byId("question")) byId("question").select();
}

function listen() {
  const [file, question, form] = [byId("file"), byId("question"), byId("ask")];
  for (const id of ["choose", "other"]) byId(id).addEventListener("click", () => file.click());
  byId("example").addEventListener("click", takeExample);
  file.addEventListener("change", () => {
    if (file.files[0]) take(file.files[0]);
    file.value = "";
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  question.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  byId("ideas").addEventListener("click", (event) => {
    if (!event.target.matches("button")) return;
    question.value = event.target.textContent;
    form.requestSubmit();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") cards.find((card) => card.running)?.giveUp();
  });
  byId("player").addEventListener("timeupdate", (event) => {
    for (const card of cards) card.playing(shown, event.target.currentTime);
  });
}

function listenToDrops() {
  const drop = byId("screen");
  const over = (isOver) => drop.classList.toggle("over", isOver);
  addEventListener("dragover", (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    over(true);
  });
  addEventListener("dragleave", (event) => event.relatedTarget === null && over(false));
  addEventListener("drop", (event) => {
    over(false);
    if (!event.dataTransfer.files[0]) return;
    event.preventDefault();
    take(event.dataTransfer.files[0]);
  });
}

listen();
listenToDrops();
connect();
