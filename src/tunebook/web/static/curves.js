// Curves of runs, kept up to date: <div data-curves='{"runs": ["a"], "panels": [["loss", "val_loss"]]}'>.
// More keys: x, superseded (offer steps that were taken back), url (keep the view in the address),
// wait (look now and then whether a run that is not running does). Runs that run are followed.
import { joined, lanesOf, optionsOf, placeFlags, rest, short, styleOf, wordsOf } from "./curves_plot.js";

const AXES = ["step", "epoch", "examples", "tokens", "minutes"];
const MOST_POINTS = 2500; // beyond, a curve that grew is asked for anew
const SIGN = { fault: "!", amber: "?", notice: "i", fine: "✓" };
const WAIT = { live: 1000, hidden: 5000, away: 3000, idle: 5000 };

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

class Curves {
  constructor(place) {
    this.place = place;
    this.options = { x: "step", superseded: false, url: true, ...JSON.parse(place.dataset.curves) };
    this.plots = [];
    this.buttons = [];
    this.turn = 0; // of the question asked last; answers to older ones are not shown
    const asked = new URLSearchParams(this.options.url ? location.search : "");
    this.view = {
      x: AXES.includes(asked.get("x")) ? asked.get("x") : this.options.x,
      log: asked.has("log"),
      old: asked.has("old"),
      zoom: asked.has("first") && asked.has("last") ? [Number(asked.get("first")), Number(asked.get("last"))] : null,
    };
    this.runs = [];
    this.build();
    this.load().finally(() => this.wait());
    document.addEventListener("theme", () => this.redraw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    new ResizeObserver(() => this.fit()).observe(this.panels);
    document.addEventListener("visibilitychange", () => document.hidden || this.poll());
  }

  // --- the frame ------------------------------------------------------------------------------
  build() {
    const box = (text, name) => {
      const input = element("input", { type: "checkbox" });
      input.checked = this.view[name];
      input.addEventListener("change", () => this.show({ [name]: input.checked }));
      return element("label", { class: "check" }, input, text);
    };
    this.axis = element("select", {}, ...AXES.map((x) => element("option", { value: x }, x)));
    this.axis.value = this.view.x;
    this.axis.addEventListener("change", () => this.show({ x: this.axis.value, zoom: null }));
    this.ends = ["from", "to"].map((word) => element("input", { type: "number", step: "any", "aria-label": `${word}, on the axis` }));
    for (const end of this.ends) end.addEventListener("change", () => this.zoom(this.ends.map((e) => Number(e.value))));
    this.out = element("button", { type: "button" }, "Whole run");
    this.out.addEventListener("click", () => this.zoom(null));
    this.oldBox = box("taken-back steps", "old");
    this.numbers = element("a", {}, "numbers");
    this.note = element("span", { class: "curves-note faint", role: "status" });
    this.place.replaceChildren(
      element(
        "div",
        { class: "bar curves-bar" },
        element("label", {}, "over", this.axis),
        element("span", { class: "ends" }, this.ends[0], "–", this.ends[1]),
        this.out,
        box("log scale", "log"),
        this.oldBox,
        this.numbers,
        this.note,
      ),
      (this.panels = element("div", { class: "curves-panels" })),
      (this.tip = element("div", { class: "curves-tip", role: "tooltip", hidden: "" })),
    );
  }

  say(text) {
    if (this.note.textContent !== text) this.note.textContent = text;
  }

  // --- asking ---------------------------------------------------------------------------------
  address(runs, more = {}) {
    const query = new URLSearchParams({ x: this.view.x });
    for (const run of runs) query.append("run", run);
    for (const y of new Set(this.options.panels.flat())) query.append("y", y);
    if (this.options.superseded) query.set("superseded", "true");
    for (const [name, value] of Object.entries(more)) query.set(name, value);
    return `/curves.json?${query}`;
  }

  async ask(runs, more) {
    const answer = await fetch(this.address(runs, more));
    if (answer.ok) return (await answer.json()).runs;
    const told = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector(".mistake");
    throw Object.assign(new Error(answer.status), { told: told?.textContent });
  }

  async load() {
    const turn = ++this.turn;
    const { zoom } = this.view;
    const finer = zoom ? { first: zoom[0], last: zoom[1] } : null;
    try {
      const [whole, fine] = await Promise.all([this.ask(this.options.runs), finer ? this.ask(this.options.runs, finer) : null]);
      if (turn !== this.turn) return;
      this.runs = whole.map((run, i) => ({ ...run, fine: fine && { ...fine[i].series, superseded: fine[i].superseded } }));
      this.said();
      this.draw();
    } catch (error) {
      this.lost(error);
    }
  }

  async poll() {
    const turn = this.turn;
    try {
      if (!this.runs.length || this.broken) return await this.load();
      const going = this.options.wait ? ["running", "new", "paused"] : ["running"];
      for (const run of this.runs.filter((one) => going.includes(one.state))) {
        if (run.last_step == null) return await this.load();
        const [news] = await this.ask([run.name], { since: run.last_step });
        if (turn !== this.turn) return;
        if (news.generation !== run.generation || this.grown(run)) return await this.load();
        this.append(run, news);
      }
      this.said();
    } catch (error) {
      this.lost(error);
    }
  }

  grown(run) {
    return Object.values(run.series).some((one) => one.x.length > MOST_POINTS);
  }

  append(run, news) {
    for (const [name, more] of Object.entries(news.series)) {
      const all = run.series[name];
      // A validation at the last step known may be here already.
      const from = more.step ? more.step.findIndex((step) => !(step <= all.step.at(-1))) : 0;
      if (from >= 0) for (const key of ["step", "x", "y", "low", "high"]) all[key]?.push(...(more[key]?.slice(from) ?? []));
      for (const x of more.broken) if (!all.broken.includes(x)) all.broken.push(x);
    }
    const { state, last_step, flags, version, unplaced } = news;
    const same = version === run.version && state === run.state;
    Object.assign(run, { state, flags, version, unplaced, last_step: last_step ?? run.last_step });
    if (!same) this.draw();
  }

  wait() {
    clearTimeout(this.timer);
    const is = (...states) => this.runs.some((run) => states.includes(run.state));
    const live = is("running") || !this.runs.length;
    if (!live && !this.away && !this.broken && !(this.options.wait && is("new", "paused"))) return;
    const pause = this.away || this.broken ? WAIT.away : !live ? WAIT.idle : document.hidden ? WAIT.hidden : WAIT.live;
    this.timer = setTimeout(() => this.poll().finally(() => this.wait()), pause);
  }

  lost(error) {
    this.away = !error?.told;
    this.broken = Boolean(error?.told);
    if (this.broken && this.panels.textContent !== error.told) this.panels.replaceChildren(element("p", { class: "empty" }, error.told));
    if (this.broken) this.shape = null; // the plots are to be made anew
    this.say(this.broken ? "" : "the server does not answer; trying again");
    this.note.classList.add("away");
    this.wait();
  }

  said() {
    this.away = this.broken = false;
    this.note.classList.remove("away");
    const live = this.runs.filter((run) => run.state === "running").length;
    const is = live ? "● live" : this.wasLive ? `the run is ${this.runs[0].state}; this is all of it` : "";
    this.say([is, this.unplaced()].filter(Boolean).join(" · "));
    this.wasLive ||= live > 0;
  }

  unplaced() {
    const { x } = this.view;
    const of = this.runs.filter((run) => run.unplaced).map((run) => `${run.unplaced} steps of ${run.name}`);
    return of.length ? `${x} ${x.endsWith("s") ? "are" : "is"} not known for ${of.join(", ")}` : "";
  }

  // --- what is shown --------------------------------------------------------------------------
  show(change) {
    const asks = "x" in change || "zoom" in change;
    Object.assign(this.view, change);
    this.axis.value = this.view.x;
    if (this.options.url) {
      const query = new URLSearchParams(location.search);
      const { x, log, old, zoom } = this.view;
      const wanted = { x: x === this.options.x ? null : x, log: log ? "1" : null, old: old ? "1" : null, first: zoom?.[0], last: zoom?.[1] };
      for (const [name, value] of Object.entries(wanted)) value == null ? query.delete(name) : query.set(name, value);
      history.replaceState(history.state, "", `${location.pathname}${query.size ? `?${query}` : ""}${location.hash}`);
    }
    if (asks) return this.load();
    this.redraw();
  }

  zoom(range, x = this.view.x) {
    if (range && !(range[1] > range[0])) return;
    return this.show({ x, zoom: range && range.map((end) => Number(end.toPrecision(7))) });
  }

  // The whole curve, with the finer one where it is zoomed into.
  series(run, name) {
    const whole = run.series[name];
    const fine = run.fine?.[name];
    if (!fine || !this.view.zoom) return whole;
    const [first, last] = this.view.zoom;
    const parts = [whole.x.findLastIndex((x) => x != null && x < first), whole.x.findIndex((x) => x > last)];
    const mixed = {};
    for (const key of ["x", "y", "low", "high"])
      if (whole[key]) mixed[key] = [...whole[key].slice(0, parts[0] + 1), ...fine[key], ...(parts[1] < 0 ? [] : whole[key].slice(parts[1]))];
    return { ...mixed, broken: [...new Set([...whole.broken, ...fine.broken])] };
  }

  linesOf(panel) {
    const many = this.runs.length > 1;
    const lines = [];
    this.runs.forEach((run, r) =>
      panel.forEach((name, at) => {
        const one = this.series(run, name);
        if (!one.x.length && !one.broken.length) return;
        const label = many ? (panel.length > 1 ? `${run.name}, ${wordsOf(name)}` : run.name) : wordsOf(name);
        const banded = one.low?.some((v) => v != null) && this.runs.length <= 3;
        lines.push({ ...one, low: banded ? one.low : null, label, style: styleOf(r, this.runs.length, at, name, panel.length > 1) });
      }),
    );
    if (this.view.old && panel.includes("loss"))
      for (const run of this.runs)
        (run.fine?.superseded ?? run.superseded ?? []).forEach((old, i) =>
          lines.push({ ...old, label: `taken back ${i + 1}`, style: { ...styleOf(5 + i, 2, 0, "loss"), dash: [2, 3], width: 1.2 } }),
        );
    return lines;
  }

  draw() {
    const ends = this.runs.flatMap((run) => Object.values(run.series).flatMap((one) => [...one.x, ...one.broken].filter((x) => x != null)));
    const low = ends.reduce((a, b) => Math.min(a, b), Infinity);
    const high = ends.reduce((a, b) => Math.max(a, b), -Infinity);
    this.range = this.view.zoom ?? (high > low ? [low, high] : high === low ? [low - 1, high + 1] : [0, 1]);
    this.ends.forEach((end, i) => document.activeElement === end || (end.value = ends.length ? Number(this.range[i].toPrecision(7)) : ""));
    this.out.disabled = !this.view.zoom;
    this.oldBox.hidden = !this.runs.some((run) => run.superseded?.length);
    this.numbers.href = this.address(this.options.runs, this.view.zoom ? { first: this.range[0], last: this.range[1] } : {});
    const flags = this.runs.length > 5 ? [] : this.runs.flatMap((run) => run.flags.map((flag) => ({ ...flag, run: run.name })));
    const panels = this.options.panels.map((panel) => ({ panel, lines: this.linesOf(panel), flags, range: this.range })).filter((one) => one.lines.length);
    const width = this.panels.clientWidth - 70;
    const lanes = lanesOf(flags, this.range[1] - this.range[0], width);
    const rows = lanes.length ? Math.max(...lanes) + 1 : 0;
    const shape = JSON.stringify([panels.map((one) => one.lines.map((line) => [line.label, !!line.low, line.y.length < 40])), rows, this.view]);
    if (shape !== this.shape || !this.plots.length) this.make(panels, rows);
    this.shape = shape;
    if (JSON.stringify(flags) !== this.flagged) this.makeFlags(flags);
    this.lanes = lanes;
    this.plots.forEach((plot, i) => {
      Object.assign(plot.shown, panels[i]);
      plot.setData(joined(panels[i].lines, this.view.log && this.canLog(panels[i].panel)));
      rest(plot);
      plot.ctx.canvas.setAttribute("aria-label", this.told(panels[i].lines));
    });
    if (!panels.length) this.panels.replaceChildren(element("p", { class: "empty" }, this.unplaced() ? `Nothing can be drawn over ${this.view.x}.` : "No step has been recorded yet."));
  }

  canLog(panel) {
    return /loss|norm|ratio/.test(panel[0]);
  }

  told(lines) {
    const one = (line) => {
      const values = line.y.filter((v) => v != null);
      if (!values.length) return `${line.label}: no finite value`;
      const low = values.reduce((a, b) => Math.min(a, b));
      const broken = line.broken?.length ? `, not finite in ${line.broken.length}` : "";
      return `${line.label}: first ${short(values[0])}, last ${short(values.at(-1))}, lowest ${short(low)} at ${short(line.x[line.y.indexOf(low)])}${broken}`;
    };
    return `Curves over ${this.view.x}. ${lines.slice(0, 20).map(one).join("; ")}`;
  }

  redraw() {
    this.shape = null;
    this.draw();
  }

  make(panels, rows) {
    this.plots.forEach((plot) => plot.destroy());
    this.flagged = null;
    this.panels.replaceChildren();
    this.plots = panels.map((look, i) => {
      const words = [...new Set(look.panel)].map(wordsOf).join(", ");
      const body = element("div");
      this.panels.append(element("figure", { class: i ? `curve small${look.lines.length === 1 ? " single" : ""}` : "curve" }, element("figcaption", {}, words), body));
      const shown = { ...look };
      const options = optionsOf(shown, {
        ...this.sizeOf(body, i, i ? 0 : rows),
        log: this.view.log && this.canLog(look.panel),
        rows: i ? 0 : rows,
        sync: (this.key ??= `curves-${Math.random()}`),
        x: this.view.x,
        zoom: (range) => this.zoom(range),
        drawn: (u) => i || placeFlags(u, this.buttons, this.flags ?? [], this.lanes ?? []),
      });
      const plot = new uPlot(options, joined(look.lines, this.view.log && this.canLog(look.panel)), body);
      plot.ctx.canvas.setAttribute("role", "img");
      return Object.assign(plot, { shown });
    });
  }

  sizeOf(body, i, rows) {
    const small = innerWidth < 700;
    return { width: Math.max(body.clientWidth, 200), height: (i ? (small ? 130 : 150) : small ? 230 : 310) + rows * 17 };
  }

  fit() {
    this.plots.forEach((plot) => {
      const width = plot.root.parentElement.clientWidth;
      if (width > 50 && Math.abs(width - plot.width) > 1) plot.setSize({ width, height: plot.height });
    });
  }

  // --- flags ----------------------------------------------------------------------------------
  makeFlags(flags) {
    const focused = this.buttons.findIndex((button) => button === document.activeElement);
    this.buttons.forEach((button) => button.remove());
    this.flags = flags;
    this.flagged = JSON.stringify(flags);
    this.buttons = flags.map((flag) => {
      const text = this.runs.length > 1 ? `${flag.run}: ${flag.text}` : flag.text;
      const button = element("button", { type: "button", class: `flag ${flag.level}`, "aria-label": `${text} Zoom there.` }, element("span", {}, SIGN[flag.level] ?? "i"), ` ${this.runs.length > 1 ? `${flag.run}: ` : ""}${flag.kind}`);
      const margin = () => Math.max((flag.last - flag.first) * 0.5, (this.range[1] - this.range[0]) * 0.01, 1e-9);
      button.addEventListener("click", () => this.zoom([flag.first - margin(), flag.last + margin()]));
      for (const kind of ["mouseenter", "focus"]) button.addEventListener(kind, () => this.tell(button, text));
      for (const kind of ["mouseleave", "blur"]) button.addEventListener(kind, () => (this.tip.hidden = true));
      return button;
    });
    this.plots[0]?.root.querySelector(".u-wrap").append(...this.buttons);
    this.buttons[focused]?.focus({ preventScroll: true });
  }

  tell(button, text) {
    const at = button.getBoundingClientRect();
    const frame = this.place.getBoundingClientRect();
    this.tip.textContent = text;
    this.tip.hidden = false;
    const left = Math.min(at.left - frame.left, frame.width - this.tip.offsetWidth);
    this.tip.style.left = `${Math.max(left, 0)}px`;
    this.tip.style.top = `${at.bottom - frame.top + 4}px`;
  }
}

// Pages that htmx changed may have brought new ones.
export function start(root = document) {
  for (const place of root.querySelectorAll("[data-curves]")) place.curves ??= new Curves(place);
}
start();
document.addEventListener("htmx:load", (event) => start(event.target.parentElement ?? document));
