// One answer on the page: its text, the citations in it, what it looked at, and what it cost.

import { $, count, make, seconds, shorten } from "./dom.js";

const LEAST = 0.05; // share of the attention from which on a document counts as looked at

export class AnswerView {
  /** `light(shares)`: a Map from document id to a share of 0..1. `nameOf(id)`: for reading. */
  constructor({ light, nameOf }) {
    this.light = light;
    this.nameOf = nameOf;
  }

  /** Everything of an answer, whole or in the making. */
  show(answer) {
    $("result").hidden = false;
    $("asked").textContent = shorten(answer.question, 300);
    $("answer").replaceChildren(...this.pieces(answer));
    this.state(answer);
    this.shares(answer.shares);
    this.numbers(answer);
    this.light(strong(answer.shares));
  }

  /** A further piece, while it streams. */
  append(text) {
    if (text) $("answer").append(text);
  }

  state({ state }) {
    $("answer").setAttribute("aria-busy", String(state === "Reading …" || state === "Answering …"));
    $("state").textContent = state;
  }

  /** The text, its citations as marked spans. Their offsets count characters, not JavaScript's UTF-16 units. */
  pieces({ text, citations, shares }) {
    const characters = [...text];
    const pieces = [];
    let at = 0;
    for (const citation of [...citations].sort((a, b) => a.start - b.start)) {
      if (citation.start < at || citation.end <= citation.start) continue; // inside the one before
      pieces.push(characters.slice(at, citation.start).join(""), this.mark(characters.slice(citation.start, citation.end).join(""), citation.shares, shares));
      at = citation.end;
    }
    return [...pieces, characters.slice(at).join("")];
  }

  mark(text, cited, after) {
    const hint = [...cited].map(([id, share]) => `${this.nameOf(id)}${share < 1 ? ` ${percent(share)}` : ""}`).join(", ");
    const mark = make("mark", { tabIndex: 0, title: hint, "aria-label": `${text} (from ${hint})` }, text);
    const on = () => this.light(cited);
    const off = () => this.light(strong(after));
    mark.addEventListener("pointerenter", on);
    mark.addEventListener("pointerleave", off);
    mark.addEventListener("focus", on);
    mark.addEventListener("blur", off);
    return mark;
  }

  /** The documents that were looked at most, with their share of the attention. */
  shares(shares) {
    const best = [...strong(shares)].sort((a, b) => b[1] - a[1]).slice(0, 6);
    $("shares").replaceChildren(
      ...best.map(([id, share]) => {
        const item = make("li", {}, this.nameOf(id), make("span", { class: "soft" }, ` ${percent(share)}`));
        item.style.setProperty("--share", share.toFixed(3));
        return item;
      }),
    );
  }

  numbers(answer) {
    const { firstToken, total, usage } = answer;
    const rows = [];
    if (firstToken !== null) rows.push(["First token", seconds(firstToken)]);
    if (usage) {
      rows.push(["Tokens reused", plain(usage.reused), make("span", { class: "soft" }, origin(usage))], ["Tokens computed", plain(usage.computed)], ["Tokens written", plain(usage.written)]);
    }
    if (total !== null) rows.push(["Total", seconds(total)]);
    $("numbers").replaceChildren(...rows.map(([name, ...value]) => make("div", {}, make("dt", {}, name), make("dd", {}, ...value))));
    const read = usage ? usage.reused + usage.computed : 0;
    $("bar").hidden = !read;
    if (read) {
      $("bar").setAttribute("aria-label", `${percent(usage.reused / read)} of the tokens read were reused`);
      $("bar").firstElementChild.style.width = percent(usage.reused / read);
    }
  }
}

/** A line about an answer, for the list of those before. */
export function summary({ firstToken, usage, layout, state, documents }) {
  const parts = [firstToken === null ? state : `first token ${seconds(firstToken)}`];
  if (usage) parts.push(`${plain(usage.reused)} reused`, `${plain(usage.computed)} computed`);
  if (state !== "Done." && firstToken !== null) parts.push(state.replace(/\.$/, "").toLowerCase());
  parts.push(documents ? `${count(documents, "document")}, layout ${layout}` : "no documents");
  return parts.join(" · ");
}

/** Where the reused tokens came from: the very same context, assembled before, or the store, block by block. */
function origin({ reused, exact, composed }) {
  if (!reused) return "";
  if (!composed) return " of this very context";
  return exact ? ` (${plain(exact)} of this very context)` : " from the store";
}

const strong = (shares) => new Map([...shares].filter(([, share]) => share >= LEAST));
const plain = (n) => n.toLocaleString("en");
const percent = (share) => `${Math.round(share * 100)}%`;
