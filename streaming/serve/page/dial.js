/** The dial of a budget: logarithmic, from a token a frame to what warm tokens are made for. */

import { count, percent, seconds } from "./dom.js";

const LEAST = 8;
const LAST_PLACE = 100;

export class Dial {
  #element;
  #input;
  #least = LEAST;
  #most;
  #seen = 0;

  /** `most` is the largest budget that needs no new encoding; `turned` is told each on the way. */
  constructor(element, most, turned) {
    this.#element = element;
    this.#most = most;
    this.#input = element.querySelector("input");
    this.#input.max = LAST_PLACE;
    this.#input.addEventListener("input", () => {
      const budget = this.#budgetAt(Number(this.#input.value));
      this.#tell(budget);
      this.#read(count(budget), `of ${count(this.#seen)} tokens`, "");
      turned(budget);
    });
  }

  /** Show what was kept of what was seen, and how many seconds that took. */
  show({ kept, seen, budget, frames }, took, { isFixed }) {
    this.#seen = seen;
    this.#least = Math.min(Math.max(frames.length, LEAST), seen);
    this.#most = Math.min(Math.max(this.#most, budget), Math.max(seen, budget));
    if (document.activeElement !== this.#input) this.#input.value = this.#placeOf(budget);
    this.#tell(budget);
    this.#read(count(kept), `of ${count(seen)} tokens (${percent(kept, seen)})`, seconds(took));
    this.#input.parentElement.hidden = isFixed;
    this.#element.hidden = false;
  }

  #tell(budget) {
    this.#input.setAttribute("aria-valuetext", `${count(budget)} tokens`);
  }

  #read(kept, seen, took) {
    this.#element.querySelector(".kept").textContent = kept;
    this.#element.querySelector(".seen").textContent = seen;
    this.#element.querySelector(".took").textContent = took;
  }

  #placeOf(budget) {
    const span = Math.log(this.#most / this.#least) || 1;
    return Math.round((LAST_PLACE * Math.log(budget / this.#least)) / span);
  }

  /** Return the budget at a place, in two digits so that it can be read, but for the ends. */
  #budgetAt(place) {
    const exact = this.#least * (this.#most / this.#least) ** (place / LAST_PLACE);
    const step = exact < 100 ? 1 : 10 ** (Math.floor(Math.log10(exact)) - 1);
    return Math.min(Math.max(Math.round(exact / step) * step, this.#least), this.#most);
  }
}
