/**
 * The server: its requests, and the one clear line of what went wrong.
 *
 * Where it needs a key the browser has asked for it before this page came, and shows it by itself.
 */

const SILENT = "The server does not answer. Is it still running?";
const CUT = "The connection ended before the answer did.";

export class ApiError extends Error {}

/** Return the model that this server serves, with what it says of its options. */
export async function model() {
  const { data } = await (await request("v1/models")).json();
  return data[0];
}

/** Return the content of a file that belongs to this page. */
export async function part(name) {
  return (await request(`page/${name}`)).blob();
}

/** Return whether who shows no key is refused. */
export async function needsKey() {
  return (await reached(fetch("v1/models", { credentials: "omit" }))).status === 401;
}

/** Send a file and return its id. `show` is told the fraction that has gone out. */
export function upload(file, show, signal) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    sending.open("POST", "v1/files");
    sending.upload.onprogress = (event) => show(event.loaded / (event.total || 1));
    sending.onerror = () => reject(new ApiError(SILENT));
    sending.onabort = () => reject(signal.reason);
    sending.onload = () => {
      if (sending.status < 300) resolve(JSON.parse(sending.responseText).id);
      else reject(errorOf(sending.status, sending.responseText));
    };
    signal.addEventListener("abort", () => sending.abort());
    const form = new FormData();
    form.append("purpose", "user_data");
    form.append("file", file);
    sending.send(form);
  });
}

/** Ask, and yield the chunks of the answer as they come. */
export async function* ask(body, signal) {
  const response = await request("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  for await (const data of events(response)) {
    if (data.error) throw new ApiError(data.error.message);
    yield data;
  }
}

async function request(path, options = {}) {
  const response = await reached(fetch(path, options));
  if (!response.ok) throw errorOf(response.status, await response.text());
  return response;
}

async function reached(promise, message = SILENT) {
  try {
    return await promise;
  } catch (error) {
    throw error.name === "AbortError" ? error : new ApiError(message);
  }
}

function errorOf(status, text) {
  try {
    return new ApiError(JSON.parse(text).error.message);
  } catch {
    return new ApiError(`The server answered ${status}.`);
  }
}

/** Yield the values of a stream of server-sent events, up to [DONE]. */
async function* events(response) {
  for await (const line of lines(response.body)) {
    if (!line.startsWith("data:")) continue;
    const data = line.slice(5).trim();
    if (data === "[DONE]") return;
    yield JSON.parse(data);
  }
  throw new ApiError(CUT);
}

/** Yield lines; one of many pieces, as evidence is, is put together once. */
async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let pieces = [];
  for (;;) {
    const { value, done } = await reached(reader.read(), CUT);
    if (done) return;
    const [first, ...others] = value.split("\n");
    pieces.push(first);
    for (const next of others) {
      yield pieces.join("");
      pieces = [next];
    }
  }
}
