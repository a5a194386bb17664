/** A frame's picture with the cells that the model was given lit, and the others dimmed. */

import { clock, count, el, percent, svg, tokens } from "./dom.js";

/** Show a frame in the part of the page for it, at low and at high resolution. */
export function showFrame(part, frame) {
  const time = part.querySelector(".time");
  time.textContent = `▸ ${clock(frame.time)}`;
  time.setAttribute("aria-label", `Show ${clock(frame.time)} in the player`);
  time.value = frame.time;
  part.querySelector(".tokens").textContent =
    `${tokens(frame.tokens)}, ${percent(frame.tokens, frame.budget)} of the budget`;
  showCells(part.querySelector(".base"), "Low resolution", frame, frame.base);
  showCells(part.querySelector(".grid"), "High resolution", frame, frame.grid);
}

function showCells(figure, name, { time, picture }, cells) {
  const [kept, all] = [count(cells.kept.length), count(cells.rows * cells.columns)];
  const text = `${name}: ${kept} of ${all} patches`;
  figure.hidden = !cells.rows;
  figure.querySelector("figcaption").textContent = text;
  const shown = figure.querySelector(".picture");
  shown.style.setProperty("--aspect", picture.width / picture.height || 16 / 9);
  shown.replaceChildren(...lit(picture, cells, `Frame at ${clock(time)}. ${text}`));
}

/**
 * Return the picture under a veil that leaves the kept cells clear.
 *
 * @param {{url: string, width: number, height: number}} picture url is "" where it is not to be had
 * @param {{rows: number, columns: number, kept: number[], seen: number[]}} cells `kept` ones
 *   ascending, row by row, on what is `seen`: left, top, width, height in parts of the picture
 * @param {string} label for those who cannot see it
 */
function lit(picture, cells, label) {
  const overlay = svg(
    "svg",
    { viewBox: pictureIn(cells).join(" "), preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { class: "veil", d: veil(cells) }),
    svg("path", { class: "border", d: border(cells) }),
  );
  return [pictureOf(picture, label), overlay];
}

/** Return a picture, or a blank in its place, also once the server has let go of it. */
export function pictureOf({ url, width, height }, alt = "") {
  const blank = el("span", { class: "blank", role: "img", "aria-label": alt });
  if (!url) return blank;
  const picture = el("img", { src: url, width, height, alt });
  picture.addEventListener("error", () => picture.replaceWith(blank));
  return picture;
}

/** Return the left, top, width and height of the picture, in cells. */
function pictureIn({ rows, columns, seen: [left, top, width, height] }) {
  const [across, down] = [columns / width, rows / height];
  return [-left * across, -top * down, across, down].map((side) => Number(side.toFixed(4)));
}

/** Return a rectangle around the picture and the runs of kept cells, clear by even-odd filling. */
export function veil(cells) {
  const [left, top, width, height] = pictureIn(cells);
  const hole = ([y, x, length]) => `M${x} ${y}h${length}v1h-${length}z`;
  const holes = runs(cells.columns, cells.kept).map(hole);
  return `M${left} ${top}h${width}v${height}h-${width}z${holes.join("")}`;
}

/** Return the kept cells' outer sides. */
export function border({ columns, kept }) {
  const cells = new Set(kept);
  const isKept = (y, x) => x >= 0 && x < columns && cells.has(y * columns + x);
  let path = "";
  for (const cell of kept) {
    const [y, x] = [Math.floor(cell / columns), cell % columns];
    if (!isKept(y - 1, x)) path += `M${x} ${y}h1`;
    if (!isKept(y + 1, x)) path += `M${x} ${y + 1}h1`;
    if (!isKept(y, x - 1)) path += `M${x} ${y}v1`;
    if (!isKept(y, x + 1)) path += `M${x + 1} ${y}v1`;
  }
  return path;
}

/** Return the runs of kept cells as [row, first column, length]. */
function runs(columns, kept) {
  const found = [];
  for (const cell of kept) {
    const [y, x] = [Math.floor(cell / columns), cell % columns];
    const last = found.at(-1);
    if (last && last[0] === y && last[1] + last[2] === x) last[2] += 1;
    else found.push([y, x, 1]);
  }
  return found;
}
