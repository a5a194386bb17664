/** Times in an answer, which lead to that moment in the player. */

import { el } from "./dom.js";

const TIME = /\b(?:(?:(\d+):)?(\d{1,2}):(\d{2}(?:\.\d+)?)|(\d+(?:\.\d+)?) ?(?:s|sec|seconds?))\b/g;

/** Return the text as nodes, with a button for each time up to `end` that calls `seek`. */
export function linked(text, end, seek) {
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(TIME)) {
    const time = secondsOf(match);
    if (time > end) continue;
    const button = el("button", { type: "button", class: "link" }, match[0]);
    button.addEventListener("click", () => seek(time));
    nodes.push(text.slice(from, match.index), button);
    from = match.index + match[0].length;
  }
  return [...nodes, text.slice(from)];
}

function secondsOf([, hours = 0, minutes = 0, rest = 0, plain]) {
  if (plain !== undefined) return Number(plain);
  return Number(hours) * 3600 + Number(minutes) * 60 + Number(rest);
}
