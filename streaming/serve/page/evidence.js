/** What the server says beside an answer, in this page's words. */

/** @param {object} said `mr_stream` of the last chunk */
export function read(said) {
  return {
    budget: said.budget,
    kept: said.num_visual_tokens,
    seen: said.num_unpruned_tokens,
    warm: said.warm,
    seconds: said.seconds,
    warnings: said.warnings,
    frames: said.frames.map((frame) => readFrame(frame, said.budget)),
  };
}

function readFrame(frame, budget) {
  const [base, grid] = [frame.base.kept.length, frame.grid.kept.length];
  return {
    budget,
    time: frame.pts_seconds,
    tokens: frame.num_visual_tokens,
    parts: { base, grid, other: frame.num_visual_tokens - base - grid },
    base: frame.base,
    grid: frame.grid,
    picture: { ...frame.thumbnail, url: frame.thumbnail.url.slice(1) }, // to the page's place
  };
}
