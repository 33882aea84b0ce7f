// Server-sent events of a POST, which EventSource cannot do, and JSON of everything else.

/** What the server answered, or an Error with what it said. */
export async function ask(method, path, body) {
  const answer = await fetch(path, {
    method,
    headers: body === undefined ? {} : { "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw told(said, answer);
  return said;
}

/** Calls `on(name, data)` for every event of the stream, until it ends. */
export async function follow(path, body, on, signal) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  if (!answer.ok) throw told(await answer.json().catch(() => ({})), answer);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (text + value).split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const fields = {};
      for (const line of part.split("\n")) {
        const colon = line.indexOf(":");
        if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 1).trimStart();
      }
      if (fields.data !== undefined) on(fields.event ?? "message", JSON.parse(fields.data));
    }
  }
}

function told(said, answer) {
  const error = new Error(said.error?.message ?? `the server answered ${answer.status}`);
  error.diagnostics = said.error?.diagnostics ?? [];
  return error;
}
