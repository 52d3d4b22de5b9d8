// Requests to the server: the API key, errors as one line, an answer as a stream of events.

const KEY = "graphkv-api-key";

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
};

/** What the server refused, in one line. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** POST, or GET without a body. Throws Refused; an abort goes through as it is. */
export async function call(path, body, signal) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  let response;
  try {
    response = await fetch(path, { method: body === undefined ? "GET" : "POST", headers, body: body === undefined ? undefined : JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server cannot be reached. Is it still running?", 0);
  }
  if (response.ok) return response;
  throw new Refused(await reason(response), response.status);
}

async function reason(response) {
  const text = await response.text();
  let message = "";
  try {
    message = JSON.parse(text)?.error?.message ?? "";
  } catch {
    message = ""; // a proxy's page, for example: its status says more than its text
  }
  const wait = response.headers.get("Retry-After");
  return message || `The server answered ${response.status} ${response.statusText}`.trim() + (wait ? `; try again in ${wait} s` : "");
}

/** The data of each server-sent event as an object, until [DONE] or the end. Throws Refused on an error event. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  let data = [];
  try {
    for (;;) {
      const { done, value } = await next(reader);
      if (done) throw new Refused("The answer broke off: the server closed the connection.", 0);
      const lines = (pending + value).split("\n");
      pending = lines.pop();
      for (const line of lines.map((line) => line.replace(/\r$/, ""))) {
        if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
        if (line || !data.length) continue;
        const text = data.join("\n");
        data = [];
        if (text === "[DONE]") return;
        const event = JSON.parse(text);
        if (event.error) throw new Refused(event.error.message ?? "The server broke off", 500);
        yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // of a stream that has failed already: that error is on its way
  }
}

async function next(reader) {
  try {
    return await reader.read();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The answer broke off: the connection was lost.", 0);
  }
}
