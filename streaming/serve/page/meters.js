/** Where the time of an answer went, and how much of the budget was used. */

import { el, percent, seconds } from "./dom.js";

/** Show the server's seconds by stage, and those to the first token as seen from here. */
export function showMeters(footer, { seconds: stages, kept, budget, warm }, first) {
  const entries = Object.entries(stages);
  const whole = entries.reduce((sum, [, value]) => sum + value, 0);
  footer.querySelector(".bar").replaceChildren(...entries.map((entry) => bar(entry, whole)));
  footer
    .querySelector(".meters")
    .replaceChildren(
      ...(warm ? [meter("clip", "warm")] : []),
      ...entries.map(([stage, value]) => meter(stage, seconds(value), { "data-stage": stage })),
      meter("first token", seconds(first)),
      meter("budget used", percent(kept, budget)),
    );
  footer.hidden = false;
}

function bar([stage, value], whole) {
  const part = el("i", { "data-stage": stage });
  part.style.width = `${(100 * value) / (whole || 1)}%`;
  return part;
}

function meter(name, value, attributes = {}) {
  return el("div", {}, el("dt", attributes, name), el("dd", {}, value));
}
