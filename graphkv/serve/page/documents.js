// Documents as the page keeps them: read from files and pasted text, joined by their sources, handed to the server. No DOM here.

const PLAIN = /\.(txt|md|markdown)$/i;
const ROWS = /\.(json|jsonl|ndjson)$/i;

/** The documents of one file. Throws an Error of one clear line. */
export function readFile(name, text) {
  if (PLAIN.test(name)) return [plain(name, name.replace(PLAIN, ""), text)];
  if (!ROWS.test(name)) throw new Error(`${name}: expected a .txt, .md, .json or .jsonl file`);
  return readRows(name, text, !/\.json$/i.test(name));
}

/** Pasted text: documents, if it looks like JSON or JSON lines, or else one document. */
export function readPasted(title, text, id) {
  if (!/^\s*(\[\s*\{|\{\s*")/.test(text)) return [plain("pasted text", title, text, id)];
  try {
    JSON.parse(text);
    return readRows("pasted text", text, false);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return readRows("pasted text", text, text.trim().startsWith("{"));
  }
}

function plain(where, title, text, id = where) {
  if (!text.trim()) throw new Error(`${where}: is empty, expected some text`);
  return { id, title: title.trim(), text, sources: [] };
}

function readRows(name, text, lines) {
  if (!lines) {
    const value = parse(text, name);
    const rows = Array.isArray(value) ? value : Array.isArray(value?.documents) ? value.documents : [value];
    return distinct(rows.map((row, i) => fromRow(row, `${name}, document ${i + 1}`)), name);
  }
  const rows = [];
  text.split(/\r?\n/).forEach((line, i) => {
    if (line.trim()) rows.push(fromRow(parse(line, `${name}, line ${i + 1}`), `${name}, line ${i + 1}`));
  });
  return distinct(rows, name);
}

function parse(text, where) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new SyntaxError(`${where}: is not JSON (${error.message})`);
  }
}

function fromRow(row, where) {
  if (typeof row !== "object" || row === null || Array.isArray(row)) throw new Error(`${where}: expected an object with id, title, text and sources`);
  if (typeof row.text !== "string" || !row.text.trim()) throw new Error(`${where}: expected a key "text" with some text`);
  if (row.title != null && typeof row.title !== "string") throw new Error(`${where}: "title" must be text`);
  if (row.id != null && typeof row.id !== "string" && typeof row.id !== "number") throw new Error(`${where}: "id" must be text or a number`);
  const sources = row.sources ?? row.cites ?? [];
  if (!Array.isArray(sources)) throw new Error(`${where}: "sources" must be a list of ids`);
  const document = { id: row.id == null ? null : String(row.id), title: row.title ?? "", text: row.text, sources: sources.map((source) => asSource(source, where)) };
  if (typeof row.score === "number") document.score = row.score;
  return document;
}

function asSource(source, where) {
  if (typeof source === "string" || typeof source === "number") return { id: String(source) };
  if (typeof source?.id !== "string" && typeof source?.id !== "number") throw new Error(`${where}: a source is an id, or an object with an id`);
  return { ...source, id: String(source.id) };
}

function distinct(documents, name) {
  if (!documents.length) throw new Error(`${name}: holds no documents`);
  const seen = new Set();
  for (const { id } of documents) {
    if (id !== null && seen.has(id)) throw new Error(`${name}: the id ${JSON.stringify(id)} is there twice`);
    seen.add(id);
  }
  return documents;
}

/** The documents on the page, in order. A source that is not among them (yet) is kept, but not sent. */
export class Documents {
  constructor(changed) {
    this.byId = new Map();
    this.changed = changed;
  }

  get size() {
    return this.byId.size;
  }

  [Symbol.iterator]() {
    return this.byId.values();
  }

  get(id) {
    return this.byId.get(id);
  }

  has(id) {
    return this.byId.has(id);
  }

  /** An id that no document has, nor any of `others`. */
  freeId(others = new Set()) {
    let n = this.size;
    while (this.byId.has(`doc_${n}`) || others.has(`doc_${n}`)) n += 1;
    return `doc_${n}`;
  }

  /** Adds documents; one whose id is there already takes the place of the former. Returns how many were replaced. */
  add(documents) {
    const others = new Set(documents.map(({ id }) => id));
    let replaced = 0;
    for (const document of documents) {
      const id = document.id ?? this.freeId(others);
      if (this.byId.has(id)) replaced += 1;
      this.byId.set(id, { ...document, id });
    }
    this.changed();
    return replaced;
  }

  remove(id) {
    this.byId.delete(id);
    this.changed();
  }

  clear() {
    this.byId.clear();
    this.changed();
  }

  /** The edge source → target. Throws an Error of one clear line where there can be none. */
  join(source, target) {
    const document = this.byId.get(target);
    if (!this.byId.has(source)) throw new Error(`There is no document with the id ${JSON.stringify(source)}`);
    if (source === target) throw new Error("A document cannot read itself");
    if (document.sources.some(({ id }) => id === source)) return;
    this.byId.set(target, { ...document, sources: [...document.sources, { id: source }] });
    this.changed();
  }

  part(source, target) {
    const document = this.byId.get(target);
    this.byId.set(target, { ...document, sources: document.sources.filter(({ id }) => id !== source) });
    this.changed();
  }

  /** Ids of the documents that read `id`. */
  readers(id) {
    return [...this].filter(({ sources }) => sources.some((source) => source.id === id)).map((document) => document.id);
  }

  /** As the server takes them. */
  forServer() {
    return [...this].map(({ id, title, text, sources, score }) => ({
      id,
      ...(title ? { title } : {}),
      text,
      sources: sources.filter((source) => this.byId.has(source.id)).map((source) => (Object.keys(source).length > 1 ? source : source.id)),
      ...(score === undefined ? {} : { score }),
    }));
  }

  /** The document that a segment is a part of: long ones are cut into id#1, id#2 ... */
  ofSegment(segment) {
    if (this.byId.has(segment)) return segment;
    const whole = segment.replace(/#\d+$/, "");
    return this.byId.has(whole) ? whole : null;
  }
}
