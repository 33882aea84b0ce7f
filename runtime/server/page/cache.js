// Draws the tree of what is cached: a span of blocks under the one that it goes on from.

import { element } from "./run.js";

export function drawCache(place, said, { spans, left_out, block_size }) {
  const lists = new Map();
  const roots = element("ul", "");
  let blocks = 0;
  let saved = 0;
  for (const span of spans) {
    const item = element("li", "span");
    const numbers = `${span.blocks} × ${block_size} tokens, found ${span.found}`;
    const text = span.text.length < span.tokens ? span.text + "…" : span.text;
    item.append(element("code", "", text || "(no text)"), " ");
    const maker = span.public ? ", public" : span.maker && `, by ${span.maker}`;
    item.append(element("small", "", numbers + maker));
    if (span.held) item.append(" ", element("small", "held", `in use: ${span.held}`));
    const below = element("ul", "");
    item.append(below);
    lists.set(span.id, below);
    (span.above === null ? roots : lists.get(span.above)).append(item);
    blocks += span.blocks;
    saved += span.found;
  }
  const more = left_out ? `, ${left_out} branches not shown` : "";
  said.textContent = `${blocks} blocks; ${saved} tokens were found here and not computed${more}`;
  place.replaceChildren(spans.length ? roots : element("p", "hint", "Nothing is cached."));
}
