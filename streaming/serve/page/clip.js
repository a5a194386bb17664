/** The clip that is being asked about: shown in the player, and sent to the server. */

import { upload } from "./api.js";
import { byId, bytes, clock, say } from "./dom.js";

export class Clip {
  #sending = new AbortController();

  /** Begin to send a file; `id` resolves to what the server calls it. */
  constructor(file, show) {
    this.name = file.name;
    this.size = file.size;
    this.url = URL.createObjectURL(file);
    this.seconds = NaN;
    this.id = upload(file, show, this.#sending.signal);
    this.id.catch(() => {}); // told where it is awaited
  }

  /** Return its length in seconds as far as the player knows it. */
  duration() {
    return Number.isFinite(this.seconds) ? this.seconds : Infinity;
  }

  /** Give up sending it. */
  drop() {
    this.#sending.abort(new DOMException("another clip was chosen", "AbortError"));
  }
}

/** Show a clip in the player, at a time of it if one is given. */
export function play(clip, time = 0) {
  const player = byId("player");
  if (player.src !== clip.url) {
    player.src = clip.url;
    player.onloadedmetadata = () => {
      clip.seconds = player.duration;
      describe(clip);
    };
    player.onerror = () => describe(clip, "this browser cannot play it");
    describe(clip);
  }
  player.currentTime = time;
  player.hidden = false;
  byId("drop").hidden = true;
}

function describe(clip, remark = "") {
  const length = Number.isFinite(clip.seconds) ? clock(clip.seconds) : "";
  byId("clip").hidden = false;
  byId("name").textContent = clip.name;
  say(byId("facts"), [length, bytes(clip.size), remark].filter(Boolean).join(" · "));
}
