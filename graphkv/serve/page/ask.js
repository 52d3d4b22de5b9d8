// Asking: the request, the stream of its answer, Stop, and the questions asked before.

import { AnswerView, summary } from "./answer.js";
import { $, make, say, shorten } from "./dom.js";
import { call, events } from "./server.js";

export class Ask {
  /** `documents`: see documents.js. `model()`, `layout()`: names. `light(shares)`. `refused(error, again)`: true if it was a matter of the key. */
  constructor({ documents, model, layout, light, refused }) {
    this.documents = documents;
    this.model = model;
    this.layout = layout;
    this.light = light;
    this.refused = refused;
    this.view = new AnswerView({ light, nameOf: (id) => documents.get(id)?.title || id });
    this.running = null;
    this.listen();
  }

  listen() {
    $("ask-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.ask($("question").value.trim());
    });
    $("question").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return; // Shift+Enter: a new line
      event.preventDefault();
      $("ask-form").requestSubmit();
    });
    $("suggestions").addEventListener("change", () => ($("question").value = $("suggestions").value));
    $("stop").addEventListener("click", () => this.stop());
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.stop());
  }

  /** Questions to choose from; none: no choice. */
  suggest(questions) {
    $("suggestions").hidden = !questions.length;
    $("suggestions").replaceChildren(make("option", { value: "" }, "Questions for the example"), ...questions.map((question) => make("option", {}, question)));
  }

  stop() {
    this.running?.abort();
  }

  async ask(question) {
    if (!question || this.running) return;
    $("question").value = question;
    say($("ask-error"), "");
    const answer = { question, layout: this.layout(), documents: this.documents.size, text: "", citations: [], shares: new Map(), usage: null, firstToken: null, total: null, state: "Reading …" };
    this.running = new AbortController();
    this.busy(true);
    this.view.show(answer);
    try {
      await this.stream(answer, this.running.signal);
    } catch (error) {
      if (error.name !== "AbortError") {
        answer.state = answer.text ? "Broken off." : "No answer.";
        say($("ask-error"), error.message);
        if (this.refused(error, () => this.ask(question))) say($("ask-error"), "");
      } else answer.state = "Stopped.";
    } finally {
      this.running = null;
      this.busy(false);
    }
    this.view.show(answer);
    if (answer.text || answer.usage) this.remember(answer);
  }

  async stream(answer, signal) {
    const began = performance.now();
    const since = () => (performance.now() - began) / 1000;
    const body = {
      model: this.model(),
      messages: [{ role: "user", content: answer.question }],
      max_completion_tokens: $("longest").valueAsNumber || 64,
      stream: true,
      stream_options: { include_usage: true },
    };
    if (this.documents.size) Object.assign(body, { documents: this.documents.forServer(), graph: { layout: answer.layout, trace: true } });
    const response = await call("v1/chat/completions", body, signal);
    const sums = new Map();
    let steps = 0;
    let reason = null;
    for await (const event of events(response)) {
      const choice = event.choices?.[0];
      const text = choice?.delta?.content ?? "";
      if (text && answer.firstToken === null) {
        answer.firstToken = since();
        answer.state = "Answering …";
        this.view.state(answer);
      }
      if (event.graphkv?.used) {
        steps += 1;
        const used = this.byDocument(Object.entries(event.graphkv.used));
        for (const [id, share] of used) sums.set(id, (sums.get(id) ?? 0) + share);
        answer.shares = new Map([...sums].map(([id, sum]) => [id, sum / steps]));
        this.light(used);
        this.view.shares(answer.shares);
      }
      answer.text += text;
      this.view.append(text);
      if (choice?.delta?.citations) answer.citations.push(...choice.delta.citations.map((citation) => this.citation(citation)));
      reason = choice?.finish_reason ?? reason;
      if (event.usage) answer.usage = usageOf(event.usage);
    }
    answer.total = since();
    answer.state = reason === "length" ? "Cut off at the longest answer." : "Done.";
  }

  /** Shares of segments as shares of documents: the parts of a long one count together. */
  byDocument(shares) {
    const sums = new Map();
    for (const [segment, share] of shares) {
      const id = this.documents.ofSegment(segment);
      if (id !== null) sums.set(id, (sums.get(id) ?? 0) + share);
    }
    return sums;
  }

  citation({ start, end, sources }) {
    return { start, end, shares: this.byDocument(sources.map((source) => [source.id, source.score])) };
  }

  busy(is) {
    $("send").disabled = is;
    $("stop").disabled = !is;
    $("ask").classList.toggle("busy", is);
    for (const button of document.querySelectorAll("#history button.again")) button.disabled = is;
  }

  remember(answer) {
    $("past").hidden = false;
    const show = make("button", { type: "button", class: "plain", title: "Show this answer", onclick: () => this.running || this.view.show(answer) }, shorten(answer.question, 200));
    const again = make("button", { type: "button", class: "again", onclick: () => this.ask(answer.question), "aria-label": `Ask again: ${shorten(answer.question, 200)}` }, "Ask again");
    $("history").prepend(make("li", {}, make("span", {}, show, make("span", { class: "soft" }, summary(answer))), again));
  }
}

/** Tokens of the prompt that were reused and computed, and of the answer. */
function usageOf(usage) {
  const reused = usage.prompt_tokens_details.cached_tokens;
  return { reused, computed: usage.prompt_tokens - reused, written: usage.completion_tokens, exact: usage.graphkv.exact, composed: usage.graphkv.composed };
}
