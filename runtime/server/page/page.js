// The page: what its buttons do, and what is asked of the server again and again.

import { drawCache } from "./cache.js";
import { chart, counter } from "./chart.js";
import { ask, follow } from "./events.js";
import { EXAMPLES } from "./examples.js";
import { draw, element } from "./run.js";

const SECOND = 1000;
const get = (id) => document.getElementById(id);
const say = (text) => (get("said").textContent = text);
let running = null;

function program() {
  const text = get("arguments").value.trim() || "{}";
  let given;
  try {
    given = JSON.parse(text);
  } catch (error) {
    throw new Error(`the arguments are no JSON: ${error.message}`);
  }
  const seed = get("seed").value;
  const body = { source: get("source").value, arguments: given, stream: true };
  return seed === "" ? body : { ...body, seed: Number(seed) };
}

function showMistakes(error) {
  const places = (error?.diagnostics ?? []).filter((each) => each.line);
  const lines = places.map((each) => {
    const caret = " ".repeat(each.column - 1) + "^";
    return `line ${each.line}: ${each.message}\n  ${each.source}\n  ${caret}`;
  });
  get("mistakes").textContent = error ? lines.join("\n") || error.message : "";
}

async function run() {
  showMistakes(null);
  const stop = new AbortController();
  const began = performance.now();
  const seen = { begun: false, ended: false, error: null };
  running = stop;
  enable("stop", "start");
  get("usage").replaceChildren();
  try {
    const body = program();
    const drawn = draw(get("states"), say);
    say("running");
    try {
      await follow("v1/programs", body, on(drawn, seen), stop.signal);
    } finally {
      drawn.end();
    }
    const seconds = ((performance.now() - began) / SECOND).toFixed(1);
    if (seen.error) say(`failed: ${seen.error.message}`);
    else if (seen.ended) say(`done in ${seconds} s`);
    else say("broken off: the server sent no end of it");
  } catch (error) {
    if (stop.signal.aborted) {
      say("cancelled");
    } else if (seen.begun) {
      say(`broken off: ${error.message}`);
    } else {
      showMistakes(error);
      say("not run");
    }
  } finally {
    running = null;
    enable("start", "stop");
    await refreshCache();
  }
}

/** One button instead of the other; the focus, if it was there, goes along. */
function enable(one, other) {
  get(one).disabled = false;
  if (document.activeElement === get(other)) get(one).focus();
  get(other).disabled = true;
}

function on(drawn, seen) {
  return (name, data) => {
    seen.begun = true;
    if (drawn[name]) drawn[name](data);
    else if (name === "usage") showUsage(data.usage);
    else if (name === "error") seen.error = data.error;
    else if (name === "done") seen.ended = true;
  };
}

function showUsage(usage) {
  const numbers = {
    "prompt tokens computed": usage.prompt_computed,
    "prompt tokens reused": usage.prompt_reused,
    "tokens generated": usage.generated,
    "of those forced": usage.forced,
    "blocks copied": usage.copied_blocks,
  };
  get("usage").replaceChildren(
    ...Object.entries(numbers).map(([name, value]) =>
      element("div", "", element("dt", "", name), element("dd", "", String(value))),
    ),
  );
}

async function check() {
  showMistakes(null);
  try {
    const found = await ask("POST", "v1/programs/check", { source: get("source").value });
    if (!found.ok) showMistakes({ diagnostics: found.mistakes });
    say(found.ok ? "the program has no mistakes" : "the program has mistakes");
  } catch (error) {
    showMistakes(error);
  }
}

async function refreshCache() {
  try {
    drawCache(get("spans"), get("cache-said"), await ask("GET", "v1/cache"));
  } catch (error) {
    get("cache-said").textContent = `cannot be shown: ${error.message}`;
  }
}

async function forget() {
  try {
    await ask("DELETE", "v1/cache");
    await refreshCache();
  } catch (error) {
    get("cache-said").textContent = `not forgotten: ${error.message}`;
  }
}

async function refreshSpeed(take) {
  const answer = await fetch("metrics");
  if (!answer.ok) return;
  const text = await answer.text();
  const rate = take(text, performance.now());
  const held = counter(text, "ramet_kv_cache_usage_ratio");
  get("engine").textContent =
    `${Math.round(rate)} tokens/s · ${counter(text, "ramet_num_runs_running")} running · ` +
    `${counter(text, "ramet_num_runs_waiting")} waiting · ${(100 * held).toFixed(1)} % of blocks held`;
  if (rate > 0) await refreshCache();
}

function choose(name) {
  get("source").value = EXAMPLES[name].source;
  get("arguments").value = JSON.stringify(EXAMPLES[name].arguments, null, 1);
  showMistakes(null);
}

get("example").append(...Object.keys(EXAMPLES).map((name) => new Option(name)));
get("example").addEventListener("change", (event) => choose(event.target.value));
get("form").addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
get("source").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) get("form").requestSubmit();
});
get("stop").addEventListener("click", () => running?.abort());
get("check").addEventListener("click", check);
get("forget").addEventListener("click", forget);
choose(Object.keys(EXAMPLES)[0]);
refreshCache();
const take = chart(get("chart"), get("chart-said"));

/** Once a second, unless nobody looks; the next time only when this one is over. */
async function watch() {
  if (!document.hidden) {
    await refreshSpeed(take).catch(() => (get("engine").textContent = "no answer"));
  }
  setTimeout(watch, SECOND);
}
watch();
