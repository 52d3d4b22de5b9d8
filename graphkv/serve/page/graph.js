// The graph as a drawing: arrows from source to target, neighbours on hover, lit nodes, pan and zoom.

import { count, draw, light, shorten } from "./dom.js";

const RADIUS = 5;
const GAP = 9; // from a node's centre to its label
const PAD = 8; // from the end of a label to that of the pill behind it
const TIP = RADIUS + 7; // from a node's centre to the tip of an arrow
const LEGIBLE = { columns: 0.62, round: 0.42 }; // scale below which only the labels of lit and near nodes are shown
const SMALLEST = 0.78; // scale below which nodes and labels no longer shrink
const LARGEST = 1.1; // scale that a small graph is fitted to at most
const ROOM = { least: 34, most: 110 }; // between the longest label of a column and the next column: for the arrows
const STRETCH = 3; // how far lines are set apart at most to fill the drawing
const REACH = 130; // pixels that a label needs beside its node
const EDGE = 12; // pixels left free around the fitted graph
const DEGREE = Math.PI / 180;

export class Graph {
  constructor(svg, { near, pick }) {
    this.svg = svg;
    this.lines = draw("g", { class: "edges" });
    this.marks = draw("g", { class: "nodes" });
    this.front = draw("g", { class: "nodes" });
    this.world = draw("g", {}, this.lines, this.marks, this.front);
    svg.append(this.world);
    this.nodes = new Map();
    this.edges = [];
    this.view = { x: 0, y: 0, scale: 1 };
    this.fitted = true;
    this.pointed = near;
    this.pick = pick;
    this.listen();
  }

  /** Draws what POST /v1/graph answered; null: nothing. */
  show(graph) {
    this.nodes = new Map((graph?.nodes ?? []).map((node) => [node.id, this.mark(node)]));
    this.edges = [];
    for (const { source, target, kind, colour } of graph?.edges ?? []) {
      const [from, to] = [this.nodes.get(source), this.nodes.get(target)];
      if (!from || !to || from === to) continue;
      from.near.add(target);
      to.near.add(source);
      const path = draw("path", { class: "edge" }, draw("title", {}, `${to.name} reads ${from.name}${kind ? ` (${kind})` : ""}`));
      if (kind) path.style.setProperty("--kind", colour);
      this.edges.push({ source: from, target: to, path });
    }
    this.front.replaceChildren();
    this.marks.replaceChildren(...[...this.nodes.values()].map((node) => node.element));
    this.lines.replaceChildren(...this.edges.map((edge) => edge.path));
    for (const node of this.nodes.values()) node.width = node.label.getComputedTextLength();
    this.round = [...this.nodes.values()].some((node) => node.round);
    this.svg.classList.toggle("round", this.round);
    if (!this.round) this.columns();
    this.svg.setAttribute("aria-label", this.nodes.size ? `Graph of ${count(this.nodes.size, "document")} and ${count(this.edges.length, "arrow")}; the table lists what each reads` : "No documents yet");
    this.fit();
  }

  /** A node with its elements. `angle`: where its label points, in degrees, if the nodes stand around a circle. */
  mark({ id, title, label: words, text, tokens, x, y, colour, angle }) {
    const round = angle !== null;
    const left = round && Math.cos(angle * DEGREE) < -1e-6;
    const label = draw("text", { class: "label", y: 4 }, words);
    const pill = draw("rect", { class: "pill", y: -10, height: 20, rx: 10 });
    const turned = draw("g", round ? { transform: `rotate(${angle + (left ? 180 : 0)})` } : {}, pill, label);
    const hint = `${id}${title ? `: ${title}` : ""}\n${text}\n${count(tokens, "token")}`;
    const scaled = draw("g", { class: "scaled" }, turned, draw("circle", { r: RADIUS, fill: colour, class: "dot" }), draw("title", {}, hint));
    const element = draw("g", { class: "node" }, scaled);
    element.addEventListener("pointerenter", () => this.pointed(id));
    element.addEventListener("pointerleave", () => this.pointed(null));
    element.addEventListener("click", () => this.moved || this.pick(id));
    return { id, name: shorten(title || id, 40), x, y, level: y, round, angle, left, label, pill, element, near: new Set() };
  }

  /** Columns are as wide as their longest label wants them, not as wide as labels can get. */
  columns() {
    const nodes = [...this.nodes.values()];
    let at = 0;
    [...new Set(nodes.map((node) => node.x))].sort((p, q) => p - q).forEach((x, column) => {
      const members = nodes.filter((node) => node.x === x && node.column === undefined);
      for (const node of members) Object.assign(node, { column, across: at });
      at += GAP + Math.max(...members.map((node) => node.width)) + ROOM.least;
    });
    for (const node of nodes) node.x = node.across;
  }

  /** Highlights a node with its neighbours and the arrows between; null: none. */
  near(id) {
    const node = this.nodes.get(id);
    this.svg.classList.toggle("pointing", Boolean(node));
    for (const other of this.nodes.values()) {
      const is = Boolean(node) && (other === node || node.near.has(other.id));
      other.element.classList.toggle("near", is);
      if (is) this.raise(other);
    }
    this.lower();
    for (const { source, target, path } of this.edges) path.classList.toggle("near", Boolean(node) && (source === node || target === node));
    this.write(node);
  }

  light(shares) {
    for (const [id, node] of this.nodes) {
      light(node.element, shares.get(id) ?? 0);
      if (shares.get(id)) this.raise(node);
    }
    this.lower();
  }

  /** Above the nodes that are neither lit nor near: a label may lie over them. */
  raise({ element }) {
    if (element.parentNode !== this.front) this.front.append(element);
  }

  lower() {
    for (const element of [...this.front.children]) if (!element.matches(".near, .lit")) this.marks.append(element);
  }

  // --- the view

  /** All of it as large as there is room for; columns and lines are set apart if there is more room than they need. */
  fit() {
    this.fitted = true;
    const { width, height } = this.svg.getBoundingClientRect();
    if (!this.nodes.size || !width) return;
    const nodes = [...this.nodes.values()];
    const room = { x: width - 2 * EDGE, y: height - 2 * EDGE };
    if (!this.round) for (const node of nodes) Object.assign(node, { x: node.across, y: node.level });
    const scale = this.largest(nodes, room);
    if (!this.round) {
      const [x0, y0, x1, y1] = this.bounds(nodes, scale);
      const last = Math.max(1, ...nodes.map((node) => node.column));
      const wider = Math.min(ROOM.most - ROOM.least, (room.x / scale - (x1 - x0)) / last);
      const higher = Math.min(STRETCH, room.y / scale / (y1 - y0));
      for (const node of nodes) Object.assign(node, { x: node.across + wider * node.column, y: node.level * higher });
    }
    for (const node of nodes) node.element.setAttribute("transform", `translate(${node.x} ${node.y})`);
    const [x0, y0, x1, y1] = this.bounds(nodes, scale);
    this.look({ scale, x: (width - scale * (x0 + x1)) / 2, y: (height - scale * (y0 + y1)) / 2 }, true);
  }

  /** The largest scale at which the nodes fit, with their labels if these are legible then. */
  largest(nodes, room) {
    const fits = (scale) => {
      const [x0, y0, x1, y1] = this.bounds(nodes, scale);
      return (x1 - x0) * scale <= room.x && (y1 - y0) * scale <= room.y;
    };
    let [low, high] = fits(this.legible) ? [this.legible, LARGEST] : [0.01, this.legible - 0.001];
    for (let i = 0; i < 12; i += 1) {
      const middle = (low + high) / 2;
      if (fits(middle)) low = middle;
      else high = middle;
    }
    return low;
  }

  get legible() {
    return this.round ? LEGIBLE.round : LEGIBLE.columns;
  }

  /** What the nodes cover, with their labels where these are shown: left, top, right, bottom. */
  bounds(nodes, scale) {
    const dot = 10 * sizeAt(scale);
    const label = scale < this.legible ? 0 : sizeAt(scale);
    const boxes = nodes.map(({ x, y, width, round, angle }) => {
      const long = (GAP + width + PAD) * label;
      const [dx, dy] = round ? [long * Math.cos(angle * DEGREE), long * Math.sin(angle * DEGREE)] : [long, 0];
      return [x + Math.min(dx, -dot), y + Math.min(dy, -dot), x + Math.max(dx, dot), y + Math.max(dy, dot)];
    });
    return [0, 1, 2, 3].map((i) => (i < 2 ? Math.min : Math.max)(...boxes.map((box) => box[i])));
  }

  /** Nearer (factor > 1) or farther, around a point of the drawing; its middle by default. */
  zoom(factor, at) {
    const { width, height } = this.svg.getBoundingClientRect();
    const { x, y } = at ?? { x: width / 2, y: height / 2 };
    const scale = Math.min(4, Math.max(0.05, this.view.scale * factor));
    const by = scale / this.view.scale;
    this.fitted = false;
    this.look({ scale, x: x - (x - this.view.x) * by, y: y - (y - this.view.y) * by });
  }

  pan(x, y) {
    this.fitted = false;
    this.look({ ...this.view, x: this.view.x + x, y: this.view.y + y });
  }

  look(view, moved = false) {
    const same = !moved && view.scale === this.view.scale;
    this.view = view;
    this.world.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.scale})`);
    this.svg.classList.toggle("moved", !this.fitted);
    if (same) return;
    const labelled = view.scale >= this.legible;
    const size = sizeAt(view.scale);
    this.svg.classList.toggle("far", !labelled);
    this.svg.style.setProperty("--size", size);
    this.write(null);
    for (const edge of this.edges) edge.path.setAttribute("d", arrow(edge.source, edge.target, size, labelled));
  }

  /** On which side of their nodes labels stand. Far off, where few are shown over many nodes: inwards, and those around a node away from it. */
  write(middle) {
    const far = !this.round && this.view.scale < this.legible;
    const { width } = this.svg.getBoundingClientRect();
    for (const node of this.nodes.values()) {
      const x = this.view.x + this.view.scale * node.x;
      const before = middle?.near.has(node.id) && node.x < middle.x;
      place(node, this.round ? node.left : far && (x > width - REACH || (before && x > REACH)));
    }
    if (far && middle && !middle.element.matches(".lit")) middle.label.setAttribute("y", -RADIUS - 5);
  }

  listen() {
    const { svg } = this;
    let last = null;
    svg.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      last = { x: event.clientX, y: event.clientY };
      this.moved = false;
    });
    svg.addEventListener("pointermove", (event) => {
      if (!last || (event.pointerType === "touch" && this.fitted)) return; // a finger on the fitted drawing scrolls the page
      const [x, y] = [event.clientX - last.x, event.clientY - last.y];
      if (!this.moved && Math.hypot(x, y) < 4) return;
      if (!this.moved) svg.setPointerCapture(event.pointerId);
      this.moved = true;
      this.pan(x, y);
      last = { x: event.clientX, y: event.clientY };
    });
    for (const end of ["pointerup", "pointercancel"]) svg.addEventListener(end, () => (last = null));
    svg.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !event.metaKey) return; // a bare wheel scrolls the page
        event.preventDefault();
        const box = svg.getBoundingClientRect();
        this.zoom(Math.exp(-event.deltaY / 300), { x: event.clientX - box.x, y: event.clientY - box.y });
      },
      { passive: false },
    );
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[event.key];
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (step) this.pan(...step);
      else if (event.key === "+" || event.key === "=") this.zoom(1.3);
      else if (event.key === "-") this.zoom(1 / 1.3);
      else if (event.key === "0") this.fit();
      else return;
      event.preventDefault();
    });
    new ResizeObserver(() => this.fitted && this.fit()).observe(svg);
  }
}

/** How much larger than the rest of the drawing nodes and labels are at this scale. */
const sizeAt = (scale) => Math.max(1, SMALLEST / scale);

/** The label to the right of its node, or to the left of it. */
function place({ label, pill, width }, left) {
  label.setAttribute("y", 4);
  label.setAttribute("x", left ? -GAP : GAP);
  label.setAttribute("text-anchor", left ? "end" : "start");
  pill.setAttribute("width", width + GAP + PAD + RADIUS + 4);
  pill.setAttribute("x", left ? -width - GAP - PAD : -RADIUS - 4);
}

/** The path of an arrow: on a circle straight; in columns out of the end of the source's label and in from the left of the target. */
function arrow(source, target, size, labelled) {
  const clear = TIP * size;
  if (source.round) {
    const long = Math.hypot(target.x - source.x, target.y - source.y) || 1;
    const [dx, dy] = [(target.x - source.x) / long, (target.y - source.y) / long];
    const [x, y] = [target.x - dx * clear, target.y - dy * clear];
    return `M${source.x + dx * clear} ${source.y + dy * clear}L${x} ${y}${head(x, y, dx, dy, size)}`;
  }
  const x1 = target.x - clear;
  if (target.x <= source.x) {
    const x0 = source.x - clear;
    const out = Math.min(x0, x1) - 40 * size; // the same column, or back: around on the left
    return `M${x0} ${source.y}C${out} ${source.y} ${out} ${target.y} ${x1} ${target.y}${head(x1, target.y, 1, 0, size)}`;
  }
  const x0 = Math.min(source.x + (labelled ? GAP + source.width + PAD : TIP) * size, x1 - 12 * size);
  const bend = Math.max(16 * size, (x1 - x0) / 2);
  return `M${x0} ${source.y}C${x0 + bend} ${source.y} ${x1 - bend} ${target.y} ${x1} ${target.y}${head(x1, target.y, 1, 0, size)}`;
}

function head(x, y, dx, dy, size) {
  const [long, wide] = [6 * size, 3.2 * size];
  return `M${x - dx * long - dy * wide} ${y - dy * long + dx * wide}L${x} ${y}L${x - dx * long + dy * wide} ${y - dy * long - dx * wide}`;
}
