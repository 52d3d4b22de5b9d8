// The page for trying graphkv: documents on the left, their graph and the questions on the right.

import { Ask } from "./ask.js";
import { Documents, readFile, readPasted } from "./documents.js";
import { $, count, make, say, shorten } from "./dom.js";
import { Graph } from "./graph.js";
import { call, key } from "./server.js";
import { Table } from "./table.js";

const LARGEST_FILE = 32 * 2 ** 20;

let lit = new Map();
let pending = null; // the request for the graph that is under way
let drawn = null; // the documents that the drawing shows, as they were sent
let again = null; // the question that was refused for want of a key
let model; // the served name

const documents = new Documents(changed);
const table = new Table(documents, { near, pick });
const graph = new Graph($("drawing"), { near, pick });
const ask = new Ask({ documents, model: () => model, layout: () => $("layout").value, light, refused });

function near(id) {
  graph.near(id);
}

function light(shares) {
  lit = shares;
  table.light(lit);
  graph.light(lit);
}

// --- the graph

function changed() {
  table.draw();
  table.light(lit);
  if (!$("detail").hidden && !documents.has($("detail").dataset.id)) $("detail").hidden = true;
  if (!$("detail").hidden) pick($("detail").dataset.id);
  refresh();
}

async function refresh() {
  pending?.abort();
  pending = new AbortController();
  const { signal } = pending;
  say($("graph-error"), "");
  if (!documents.size) {
    show(null, null);
    $("plan").textContent = "No documents: the model answers alone.";
    return;
  }
  $("plan").textContent = "Laying out …";
  try {
    await new Promise((done) => setTimeout(done, 100)); // several changes at once are one request
    if (signal.aborted) return;
    const sent = documents.forServer();
    const response = await call("v1/graph", { documents: sent, graph: { layout: $("layout").value } }, signal);
    show(await response.json(), JSON.stringify(sent));
  } catch (error) {
    if (error.name === "AbortError") return;
    $("plan").textContent = "";
    if (drawn !== JSON.stringify(documents.forServer())) show(null, null); // under another layout it would look the same
    say($("graph-error"), refused(error, null) ? "" : error.message);
  }
}

function show(answer, sent) {
  drawn = sent;
  graph.show(answer);
  graph.light(lit);
  table.count(new Map((answer?.nodes ?? []).map((node) => [node.id, node.tokens])));
  $("plan").textContent = answer ? planOf(answer) : "";
  $("legend").replaceChildren(...Object.entries(answer?.colours ?? {}).map(([name, colour]) => make("span", {}, dot(colour), name)));
}

function planOf({ nodes, edges, plan, note }) {
  const parts = [`${count(nodes.length, "document")}, ${count(edges.length, "arrow")} from source to reader`];
  parts.push(`${count(plan.tokens, "token")} in ${count(plan.blocks, "block")}`, `${plan.positions.toLocaleString("en")} of ${plan.window.toLocaleString("en")} positions`);
  return `${[...parts, ...(note ? [note] : [])].join(" · ")}.`;
}

function dot(colour) {
  const swatch = make("i");
  swatch.style.background = colour;
  return swatch;
}

function pick(id) {
  const doc = documents.get(id);
  if (!doc) return;
  const list = (ids) => (ids.length ? shorten(ids.join(", "), 160) : "none");
  $("detail").dataset.id = id;
  $("detail-title").textContent = doc.title || id;
  $("detail-facts").textContent = `${id} · reads: ${list(doc.sources.map((source) => source.id))} · read by: ${list(documents.readers(id))}`;
  $("detail-text").textContent = doc.text;
  $("detail").hidden = false;
}

function describe() {
  $("layout-note").textContent = $("layout").selectedOptions[0].dataset.note;
}

// --- documents

/** Adds what `read` makes of each item; what cannot be read is named in one line, the rest is added. */
async function gather(items, read) {
  const found = [];
  const errors = [];
  for (const item of items) {
    try {
      found.push(...(await read(item)));
    } catch (error) {
      errors.push(error.message);
    }
  }
  const replaced = found.length ? documents.add(found) : 0;
  say($("documents-error"), errors.length > 1 ? `${errors[0]} (and ${errors.length - 1} more)` : (errors[0] ?? ""));
  if (found.length) $("documents-note").textContent = `${count(found.length, "document")} added${replaced ? `, ${replaced} of them in place of one with the same id` : ""}.`;
  return errors.length === 0;
}

async function fileText(file) {
  if (file.size > LARGEST_FILE) throw new Error(`${file.name}: is larger than 32 MiB`);
  const bytes = await file.arrayBuffer();
  try {
    return readFile(file.name, new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw error instanceof TypeError ? new Error(`${file.name}: is not UTF-8 text`) : error;
  }
}

async function example() {
  await gather(["papers.jsonl"], async (name) => {
    const [papers, questions] = await Promise.all([call(`page/${name}`), call("page/questions.json")]);
    ask.suggest((await questions.json()).map(({ question }) => question));
    return readFile(name, await papers.text());
  });
}

// --- the key

/** True, and the field for the key, if the server refused for want of it; `retry` is done when it is there. */
function refused(error, retry) {
  if (error.status !== 401) return false;
  $("key-note").textContent = key.get() ? "The server refused this key." : "This server asks for a key. It is kept in this tab only.";
  again = retry ?? again;
  openKey();
  return true;
}

function openKey() {
  $("key-form").hidden = false;
  $("key-open").hidden = true;
  $("key").focus();
}

async function whoIsThere() {
  try {
    const models = await (await call("v1/models")).json();
    model = models.data[0].id;
    $("model").textContent = model;
    $("key-open").hidden = !key.get();
  } catch (error) {
    if (!refused(error, null)) say($("ask-error"), error.message);
  }
}

// --- what the user does

$("example").addEventListener("click", example);
$("clear").addEventListener("click", () => {
  documents.clear();
  ask.suggest([]);
  $("documents-note").textContent = "All documents removed.";
});
$("files").addEventListener("change", async (event) => {
  const files = [...event.target.files];
  event.target.value = ""; // so that the same file can be chosen again
  await gather(files, fileText);
});
$("paste-open").addEventListener("click", () => paste($("paste").hidden));
$("paste-close").addEventListener("click", () => paste(false));
$("paste").addEventListener("submit", async (event) => {
  event.preventDefault();
  const whole = await gather([$("paste-text").value], (text) => readPasted($("paste-title").value, text, documents.freeId()));
  if (!whole) return;
  $("paste-title").value = $("paste-text").value = "";
  $("paste-text").focus();
});

function paste(open) {
  $("paste").hidden = !open;
  $("paste-open").setAttribute("aria-expanded", String(open));
  (open ? $("paste-title") : $("paste-open")).focus();
}

const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragover", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  $("drop").hidden = false;
});
addEventListener("dragleave", (event) => event.relatedTarget || ($("drop").hidden = true));
addEventListener("drop", (event) => {
  $("drop").hidden = true;
  if (!carriesFiles(event)) return;
  event.preventDefault();
  gather([...event.dataTransfer.files], fileText);
});

$("layout").addEventListener("change", () => {
  describe();
  refresh();
});
$("zoom-in").addEventListener("click", () => graph.zoom(1.3));
$("zoom-out").addEventListener("click", () => graph.zoom(1 / 1.3));
$("zoom-fit").addEventListener("click", () => graph.fit());
$("enlarge").addEventListener("click", () => {
  const large = document.body.classList.toggle("large");
  $("enlarge").setAttribute("aria-pressed", String(large));
  graph.fit();
});
$("detail-close").addEventListener("click", () => ($("detail").hidden = true));

$("key-open").addEventListener("click", openKey);
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set($("key").value.trim());
  $("key").value = "";
  $("key-form").hidden = true;
  const todo = again;
  again = null;
  whoIsThere();
  if (documents.size) refresh();
  todo?.();
});

describe();
whoIsThere();
