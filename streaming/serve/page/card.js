/** One question about one clip: its answer, its budget, and what the model was given for it. */

import { ask, needsKey } from "./api.js";
import { curl, python } from "./copies.js";
import { Dial } from "./dial.js";
import { announce, byId, count, el, say } from "./dom.js";
import { Encoding } from "./encoding.js";
import { read } from "./evidence.js";
import { showMeters } from "./meters.js";
import { showFrame } from "./patches.js";
import { Strip } from "./strip.js";
import { linked } from "./times.js";

const PAUSE_MS = 120;

export class Card {
  #part;
  #dial;
  #encoding;
  #strip;
  #running = null;
  #waiting = 0;
  #text = "";

  /**
   * @param {object} asked `clip`, `question`, `model`, `options` for the server's `mr_stream`, and
   *   `warmBudget`, up to which an encoded clip is not encoded again
   * @param {object} page what the card may do there: `seek(clip, time)`, `remove(card)`
   */
  constructor(asked, page) {
    this.asked = asked;
    this.page = page;
    this.element = byId("card").content.cloneNode(true).firstElementChild;
    this.#part = (selector) => this.element.querySelector(selector);
    this.#dial = new Dial(this.#part(".dial"), asked.warmBudget, (budget) => this.#turn(budget));
    this.#encoding = new Encoding(this.#part(".encoding"));
    this.#strip = new Strip(this.#part(".strip"), (frame) => this.#showPatches(frame));
    this.#part(".question").textContent = asked.question;
    this.#part(".source").textContent = this.#source();
    this.element.setAttribute("aria-label", asked.question);
    this.#listen();
    this.answer();
  }

  get running() {
    return this.#running !== null;
  }

  /** Ask, or ask anew with the budget that is set; an answer on its way is given up. */
  async answer() {
    this.stop();
    const controller = (this.#running = new AbortController());
    const started = performance.now();
    const since = () => (performance.now() - started) / 1000;
    this.element.setAttribute("aria-busy", "true");
    this.#say();
    this.#text = "";
    try {
      let first = null;
      const request = await this.#request({ evidence: true, progress: true });
      for await (const { choices, mr_stream: said } of ask(request, controller.signal)) {
        if (controller.signal.aborted) return;
        const piece = choices?.[0]?.delta?.content;
        if (piece) {
          first ??= since();
          this.#append(piece);
        }
        if (said?.progress) this.#encoding.show(said.progress, since);
        else if (said) this.#finish(read(said), first ?? since(), since());
      }
    } catch (error) {
      if (this.#running === controller) this.#say(error.message);
    } finally {
      if (this.#running === controller) this.#end();
    }
  }

  /** Give up the answer that is on its way, and say so. */
  giveUp() {
    this.stop();
    this.#say("Stopped.");
  }

  /** Give up the answer that is on its way. */
  stop() {
    clearTimeout(this.#waiting);
    this.#running?.abort();
    this.#end();
  }

  /** Mark the frame that the player shows of a clip. */
  playing(clip, time) {
    if (clip === this.asked.clip) this.#strip.playing(time);
  }

  #end() {
    this.#running = null;
    this.#encoding.hide();
    this.element.removeAttribute("aria-busy");
  }

  /** Return the request that asks this; `more` is what the server is to tell beside the answer. */
  async #request(more = {}) {
    const { clip, question, model, options } = this.asked;
    const url = await clip.id;
    const content = [
      { type: "video_url", video_url: { url } },
      { type: "text", text: question },
    ];
    return {
      model,
      messages: [{ role: "user", content }],
      mr_stream: { ...options, ...more },
    };
  }

  #source(...more) {
    return [this.asked.clip.name, this.asked.options.pruner, ...more].join(" · ");
  }

  #say(text) {
    say(this.#part(".answer + .error"), text);
  }

  #append(piece) {
    this.#encoding.hide();
    this.#text += piece;
    this.#part(".answer").textContent = this.#text;
  }

  #finish(result, first, whole) {
    const { clip, options } = this.asked;
    const text = this.#text || "(The model gave no text.)";
    const nodes = linked(text, clip.duration(), (time) => this.page.seek(clip, time));
    this.#part(".answer").replaceChildren(...nodes);
    this.#showWarnings(result.warnings);
    this.#part(".source").textContent = this.#source(`${result.frames.length} frames`);
    this.#dial.show(result, whole, { isFixed: options.pruner === "none" });
    this.#strip.show(result.frames);
    this.#part(".frames").hidden = !result.frames.length;
    showMeters(this.#part("footer"), result, first);
    this.#part(".code").hidden = true;
    announce(`${options.budget ? `${count(options.budget)} tokens: ` : ""}${this.#text}`);
  }

  #showWarnings(warnings) {
    this.#part(".warnings").replaceChildren(...warnings.map((text) => el("li", {}, text)));
    this.#part(".warnings").hidden = !warnings.length;
  }

  #turn(budget) {
    this.asked.options.budget = budget;
    this.stop();
    this.#waiting = setTimeout(() => this.answer(), PAUSE_MS);
  }

  #showPatches(frame) {
    this.#part(".patches").hidden = !frame;
    this.#part(".invite").hidden = Boolean(frame);
    if (frame) showFrame(this.#part(".patches"), frame);
  }

  async #copy(button, write) {
    const text = write(await this.#request(), await needsKey().catch(() => false));
    const code = this.#part(".code");
    try {
      await navigator.clipboard.writeText(text);
      code.hidden = true;
      button.classList.add("done");
      announce("Copied");
      setTimeout(() => button.classList.remove("done"), 2000);
    } catch {
      say(code, text);
      getSelection().selectAllChildren(code);
    }
  }

  #listen() {
    const listen = (selector, event, action) =>
      this.#part(selector).addEventListener(event, action);
    listen(".close", "click", () => this.page.remove(this));
    listen(".stop", "click", () => {
      this.giveUp();
      this.#part(".close").focus();
    });
    listen(".time", "click", ({ target }) => this.page.seek(this.asked.clip, Number(target.value)));
    listen(".curl", "click", ({ target }) => this.#copy(target, curl));
    listen(".python", "click", ({ target }) => this.#copy(target, python));
    listen(".patches", "keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.#strip.clear();
    });
  }
}
