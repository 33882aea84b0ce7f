// Draws one run from its events: a list of states, each with its nodes, branches inside.

const MARKUP = { root: true, branch: true, keep: true };

export function draw(place, say) {
  place.replaceChildren();
  const states = new Map();

  function state(path) {
    const known = states.get(path);
    if (known) return known;
    const above = path === "" ? null : state(path.slice(0, path.lastIndexOf("/")));
    const item = element(above ? "li" : "div", "state");
    const index = path.slice(path.lastIndexOf(".") + 1);
    item.append(element("h3", "", path === "" ? "program" : `branch ${index}`));
    (above ? part(above, "ul", "") : place).append(item);
    const made = { item, nodes: new Map() };
    states.set(path, made);
    return made;
  }

  /** Where the next step, or branch, of a state goes: they stand in the order in which they came. */
  function part({ item }, tag, kind) {
    const last = item.lastChild;
    if (last.localName === tag) return last;
    const made = element(tag, kind);
    item.append(made);
    return made;
  }

  function step(path, node, title) {
    const at = state(path);
    let made = at.nodes.get(node);
    if (!made) {
      made = { text: element("dd", ""), samples: new Map() };
      part(at, "dl", "steps").append(element("dt", "", title), made.text);
      at.nodes.set(node, made);
    }
    return made;
  }

  return {
    node({ path, node, kind, name }) {
      if (!MARKUP[kind] && name) step(path, node, name);
    },
    text({ path, node, name, sample, text }) {
      const made = step(path, node, name);
      let line = made.samples.get(sample);
      if (!line) {
        line = sample || made.samples.size ? element("div", "") : made.text;
        if (line !== made.text) made.text.append(line);
        made.samples.set(sample, line);
      }
      line.append(line.childNodes.length ? text : text.trimStart());
      made.text.classList.add("writing");
    },
    value({ path, node, name, value, details }) {
      const made = step(path, node, name);
      made.text.classList.remove("writing");
      const shown = typeof value === "string" ? value.trim() : JSON.stringify(value, null, 1);
      made.text.replaceChildren(shown, element("small", "", why(details)));
      if (path === "") say(`${name} is there`);
    },
    branch_opened({ path }) {
      state(path);
    },
    branch_kept({ path }) {
      const kept = state(path);
      kept.item.classList.add("kept");
      kept.item.firstChild.append(" (kept)");
    },
    branch_released({ path }) {
      const released = state(path);
      released.item.classList.add("released");
      released.item.firstChild.append(" (released)");
    },
    end() {
      for (const each of place.querySelectorAll(".writing")) each.classList.remove("writing");
    },
  };
}

/** A line for what is known of a value: the likelihood of options, or why a text ended. */
function why(details) {
  if (!details) return "";
  if (details.probs) {
    const likely = Object.entries(details.probs).sort((a, b) => b[1] - a[1]).slice(0, 4);
    return "  " + likely.map(([option, p]) => `${option.trim()} ${(100 * p).toFixed(1)} %`).join(", ");
  }
  return details.finish_reason ? `  ${details.tokens} tokens, ${details.finish_reason}` : "";
}

export function element(tag, kind, ...content) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  made.append(...content);
  return made;
}
