/** The strip of frames: each with its picture and a bar of its share; one may be chosen. */

import { clock, el, percent, tokens } from "./dom.js";
import { pictureOf } from "./patches.js";

const MOVES = {
  ArrowLeft: -1,
  ArrowUp: -1,
  ArrowRight: 1,
  ArrowDown: 1,
  PageUp: -10,
  PageDown: 10,
  Home: -Infinity,
  End: Infinity,
};
/** Frames beyond which bars stand without pictures, so that all of them are seen at once. */
const MOST_PICTURES = 24;
const MOST_TIMES = 6;

export class Strip {
  #list;
  #frames = [];
  #chosen = -1;
  #choose;

  /** `choose` is told the frame that is chosen, or null. */
  constructor(list, choose) {
    this.#list = list;
    this.#choose = choose;
    list.addEventListener("click", (event) => this.#click(event));
    list.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Show frames; what is there already moves to its new height, and the chosen one stays so. */
  show(frames) {
    const areSame = times(frames) === times(this.#frames);
    this.#frames = frames;
    if (!areSame) this.#fill();
    const most = Math.max(...frames.map((frame) => frame.tokens), 1);
    frames.forEach((frame, place) => draw(this.#list.children[place], frame, most));
    this.#mark();
  }

  /** Mark the frame that the player shows: the last at or before a time. */
  playing(time) {
    const now = this.#frames.findLastIndex((frame) => frame.time <= time);
    [...this.#list.children].forEach((item, place) => {
      item.classList.toggle("playing", place === now);
    });
  }

  /** Choose none; the frame that was chosen has the focus. */
  clear() {
    const was = this.#chosen;
    this.#chosen = -1;
    this.#mark(was);
  }

  #fill() {
    const { length } = this.#frames;
    const step = Math.ceil(length / MOST_TIMES);
    const isTimed = (place) => place % step === 0 && place + step <= length;
    const isMany = length > MOST_PICTURES;
    const items = this.#frames.map((frame, place) => option(frame, isTimed(place), !isMany));
    this.#list.replaceChildren(...items);
    this.#list.classList.toggle("many", isMany);
    this.#chosen = -1;
  }

  #click(event) {
    const place = [...this.#list.children].indexOf(event.target.closest("[role=option]"));
    if (place < 0) return;
    this.#chosen = place === this.#chosen ? -1 : place;
    this.#mark(place);
  }

  #key(event) {
    const at = [...this.#list.children].indexOf(document.activeElement);
    if (event.key === "Escape" && this.#chosen >= 0) this.clear();
    else if (event.key in MOVES && at >= 0) {
      this.#chosen = Math.min(Math.max(at + MOVES[event.key], 0), this.#frames.length - 1);
      this.#mark(this.#chosen);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #mark(focus = -1) {
    const reached = Math.max(this.#chosen, focus, 0);
    [...this.#list.children].forEach((item, place) => {
      item.setAttribute("aria-selected", String(place === this.#chosen));
      item.tabIndex = place === reached ? 0 : -1;
    });
    if (focus >= 0) {
      this.#list.children[focus].focus({ preventScroll: true });
      this.#list.children[focus].scrollIntoView({ block: "nearest", inline: "nearest" });
    }
    this.#choose(this.#frames[this.#chosen] ?? null);
  }
}

const times = (frames) => frames.map((frame) => frame.time).join();

function option(frame, isTimed, isPictured) {
  const parts = ["other", "grid", "base"].map((kind) => el("i", { class: kind }));
  return el(
    "button",
    { type: "button", role: "option", class: isTimed ? "timed" : "" },
    el("span", { class: "share" }, ...parts),
    ...(isPictured ? [pictureOf(frame.picture)] : []),
    el("span", { class: "at" }, clock(frame.time)),
  );
}

function draw(item, frame, most) {
  const share = percent(frame.tokens, frame.budget);
  const text = `${clock(frame.time)}: ${tokens(frame.tokens)}, ${share} of the budget`;
  item.setAttribute("aria-label", text);
  item.title = text;
  for (const bar of item.querySelectorAll("i")) {
    bar.style.height = `${(100 * frame.parts[bar.className]) / most}%`;
  }
}
