// Tokens a second over the last minute, from the counters that /metrics tells.

const KEPT = 60;
const GAP = 5000; // milliseconds after which the minute begins anew

export function chart(svg, caption) {
  const rates = [];
  let last = null;

  /** Takes a scrape; gives the rate since the one before. */
  return function take(text, now) {
    if (last && now - last.now > GAP) {
      rates.length = 0;
      last = null;
    }
    const tokens = counter(text, "ramet_engine_tokens_total");
    const rate = last && now > last.now ? (1000 * (tokens - last.tokens)) / (now - last.now) : 0;
    last = { tokens, now };
    rates.push(rate);
    if (rates.length > KEPT) rates.shift();
    const top = Math.max(1, ...rates);
    const points = rates.map((each, at) => {
      const x = 600 * ((KEPT - rates.length + at) / (KEPT - 1));
      return `${x.toFixed(1)},${(115 - (105 * each) / top).toFixed(1)}`;
    });
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    line.setAttribute("points", points.join(" "));
    svg.replaceChildren(line);
    caption.textContent =
      `Tokens a second run through the model, this last minute: ${Math.round(rate)} now, ` +
      `${Math.round(Math.max(0, ...rates))} at most.`;
    return rate;
  };
}

export function counter(text, name) {
  const line = text.split("\n").find((each) => each.startsWith(name + " "));
  return line ? Number(line.slice(name.length + 1)) : 0;
}
