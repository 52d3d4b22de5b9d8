// The table of documents: id, title, tokens, what each reads, and the way to remove it.

import { $, light, make, say, shorten } from "./dom.js";

export class Table {
  /** `documents`: see documents.js. `near(id or null)`: pointed at. `pick(id)`: opened. */
  constructor(documents, { near, pick }) {
    this.documents = documents;
    this.near = near;
    this.pick = pick;
    this.rows = new Map();
    this.tokens = new Map();
  }

  draw() {
    const focused = document.activeElement?.closest("#rows td");
    const place = focused && [focused.parentElement.rowIndex - 1, focused.cellIndex];
    this.rows.clear();
    for (const doc of this.documents) this.rows.set(doc.id, this.row(doc));
    $("rows").replaceChildren(...this.rows.values());
    $("ids").replaceChildren(...[...this.documents].map(({ id, title }) => make("option", { value: id, textContent: title })));
    $("table-box").hidden = $("clear").hidden = !this.documents.size;
    this.count(this.tokens);
    if (place) this.focus(...place);
  }

  /** Where the keyboard was before the table was drawn anew. */
  focus(index, cell) {
    const row = [...this.rows.values()][Math.min(index, this.rows.size - 1)];
    (row ? [...row.cells[cell].querySelectorAll("button")].at(-1) : $("example"))?.focus();
  }

  row(doc) {
    const { id, title, text } = doc;
    const name = title || id;
    const open = make("button", { type: "button", class: "plain", title: shorten(text, 300), onclick: () => this.pick(id) }, title || shorten(text, 40));
    const remove = make("button", { type: "button", class: "plain", "aria-label": `Remove ${name}`, title: `Remove ${name}`, onclick: () => this.documents.remove(id) }, "×");
    const row = make(
      "tr",
      { onpointerenter: () => this.near(id), onpointerleave: () => this.near(null) },
      make("td", { class: "id" }, id),
      make("td", {}, open),
      make("td", { class: "number" }, "…"),
      make("td", { class: "reads" }, ...this.reads(doc)),
      make("td", { class: "number" }, remove),
    );
    row.addEventListener("focusin", () => this.near(id));
    row.addEventListener("focusout", () => this.near(null));
    return row;
  }

  reads({ id, title, sources }) {
    const name = title || id;
    const chips = sources.map((source) => {
      const here = this.documents.has(source.id);
      const label = `${name} no longer reads ${source.id}`;
      const off = make("button", { type: "button", class: "plain", "aria-label": label, title: label, onclick: () => this.documents.part(source.id, id) }, "×");
      return make("span", { class: here ? "chip" : "chip gone", title: here ? this.documents.get(source.id).title : "not among the documents: left out" }, source.id, off);
    });
    const add = make("button", { type: "button", class: "plain", "aria-label": `Let ${name} read another`, title: "Let it read another document" }, "+");
    add.onclick = () => this.ask(add, id, name);
    return [...chips, add];
  }

  /** A field in place of the plus: an id, then Enter; Escape leaves. */
  ask(add, target, name) {
    const field = make("input", { class: "source", list: "ids", placeholder: "id, Enter", autocomplete: "off", "aria-label": `Id of a document that ${name} reads` });
    const leave = () => field.isConnected && field.replaceWith(add);
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        leave();
        add.focus();
      }
      if (event.key !== "Enter") return;
      event.preventDefault();
      try {
        this.documents.join(field.value.trim(), target);
        say($("documents-error"), "");
      } catch (error) {
        say($("documents-error"), error.message);
      }
    });
    field.addEventListener("blur", leave);
    add.replaceWith(field);
    field.focus();
  }

  /** Tokens of each document, as the server counted them. */
  count(tokens) {
    this.tokens = tokens;
    for (const [id, row] of this.rows) row.cells[2].textContent = tokens.get(id)?.toLocaleString("en") ?? "…";
  }

  light(shares) {
    for (const [id, row] of this.rows) light(row, shares.get(id) ?? 0);
  }
}
