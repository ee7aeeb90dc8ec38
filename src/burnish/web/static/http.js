// JSON to and from the server, with every failure as a sentence.

/** Sends a request and returns the parsed answer; throws an Error whose message a person can read. */
export async function send(method, url, body, signal) {
  let response;
  try {
    response = await fetch(url, {
      method,
      signal,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is burnish serve still running?");
  }
  if (response.ok) return response;
  throw new Error(await reason(response));
}

export async function json(method, url, body) {
  return (await send(method, url, body)).json();
}

async function reason(response) {
  const said = await response.json().catch(() => null);
  const found = said?.error?.message ?? said?.detail ?? said?.message;
  if (typeof found === "string") return found;
  if (response.status === 401 || response.status === 403) {
    return "This browser has no access any more. Open the address that burnish serve printed.";
  }
  return `The server answered ${response.status}.`;
}

/** The events of a streamed completion, one parsed object at a time. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    rest += value ?? "";
    const parts = rest.split(/\r?\n\r?\n/);
    rest = parts.pop();
    for (const part of parts) {
      const data = part.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim());
      if (!data.length) continue;
      if (data[0] === "[DONE]") return;
      yield JSON.parse(data.join("\n"));
    }
    if (done) return;
  }
}
