/** How far a clip is that is new to the server: a bar of its frames, and the seconds so far. */

import { count } from "./dom.js";

const TICK_MS = 250;

export class Encoding {
  #bar;
  #element;
  #frames = "";
  #since;
  #ticking = 0;

  constructor(element) {
    this.#element = element;
    this.#bar = element.querySelector("progress");
  }

  /** Show frames done of all, and from now on the seconds that `since` returns. */
  show({ frames_done, num_frames }, since) {
    this.#bar.max = num_frames;
    this.#bar.value = frames_done;
    this.#frames = `${count(frames_done)} of ${count(num_frames)} frames encoded`;
    this.#since = since;
    this.#ticking ||= setInterval(() => this.#tell(), TICK_MS);
    this.#tell();
    this.#element.hidden = false;
  }

  hide() {
    clearInterval(this.#ticking);
    this.#ticking = 0;
    this.#element.hidden = true;
  }

  #tell() {
    const text = `${this.#frames} · ${Math.floor(this.#since())} s`;
    this.#element.querySelector("p").textContent = text;
  }
}
