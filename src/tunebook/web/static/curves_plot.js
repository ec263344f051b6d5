// One panel of curves: what uPlot is told, and what is drawn beside its lines.
const NAMES = {
  loss: "training loss",
  val_loss: "validation loss",
  learning_rate: "learning rate",
  grad_norm: "gradient norm",
  update_ratio: "update / weights",
  changed_fraction: "share of weights changed",
  canary_loss: "canary loss",
  memory_bytes: "memory, bytes",
  target_tokens: "target tokens",
  target_tokens_per_second: "target tokens per second",
  padding_tokens: "padding tokens",
};
const COLOURS = 10;
const WHOLE = [...Array(13).keys()].flatMap((n) => [1, 2, 5].map((k) => k * 10 ** n)); // distances of ticks
const LANE = 17; // pixels that a row of flags takes

export const wordsOf = (name) => NAMES[name] ?? name.replaceAll("_", " ");
const shade = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function short(value) {
  if (value == null) return "–";
  const size = Math.abs(value);
  if (size >= 1e5) return Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 }).format(value);
  if (size !== 0 && size < 1e-3) return value.toExponential(2).replace(/\.?0+e/, "e");
  return String(Number(value.toPrecision(5)));
}

// A run has its colour where there are several, its training loss faint beside its validation loss;
// else a column has. More than ten are told apart by dashes.
export function styleOf(run, runs, at, y, beside) {
  const place = runs > 1 ? run : at;
  const rounds = Math.floor(place / COLOURS);
  const behind = runs > 1 && beside && y === "loss";
  return {
    colour: shade(`--s${(place % COLOURS) + 1}`) + (behind ? "80" : ""),
    dash: rounds ? [8, 3 * rounds] : undefined,
    width: y === "val_loss" ? 1.8 : 1.3,
    dots: y === "val_loss",
  };
}

// The next number of one digit.
function round(value, to) {
  const size = 10 ** Math.floor(Math.log10(value));
  return to(value / size) * size;
}

// uPlot has one value for each x. Of points that share one, the first, lowest, highest and last stay,
// each too little beside it to be seen. Those without a place on the axis go.
function apart(x, y) {
  const keep = [];
  const places = [];
  const tiny = 1e-9 * x.reduce((most, v) => Math.max(most, Math.abs(v)), 1e-3);
  for (let i = 0, end; i < x.length; i = end) {
    for (end = i + 1; end < x.length && x[end] === x[i]; ) end++;
    if (x[i] == null) continue;
    let [low, high] = [i, i];
    for (let at = i; at < end; at++) {
      if (y[at] < y[low]) low = at;
      if (y[at] > y[high]) high = at;
    }
    const some = [...new Set([i, low, high, end - 1])].sort((a, b) => a - b);
    keep.push(...some);
    places.push(...some.map((_, n) => x[i] + n * tiny));
  }
  return [keep, places];
}

export function joined(lines, log) {
  const usable = (v) => (log && v != null && v <= 0 ? null : v);
  return uPlot.join(
    lines.map((line) => {
      const [keep, places] = apart(line.x, line.y);
      const columns = line.low ? [line.y, line.low, line.high] : [line.y];
      return [places, ...columns.map((c) => keep.map((i) => usable(c[i])))];
    }),
  );
}

// Where a series has no value under the cursor, the nearest one it has is shown.
function nearest(u, series, at) {
  const values = u.data[series];
  if (series === 0 || at == null || values[at] != null) return at;
  for (let off = 1; off < values.length; off++) {
    if (values[at - off] != null) return at - off;
    if (values[at + off] != null) return at + off;
  }
  return at;
}

// Without a cursor, the legend has the newest values.
export function rest(u) {
  if (u.cursor.left >= 0 || !u.data[0].length || u.resting) return;
  u.resting = true;
  u.setLegend({ idxs: u.data.map((_, series) => nearest(u, series, u.data[0].length - 1)) }, false);
  u.resting = false;
}

function crosses(u, lines) {
  const size = 4 * devicePixelRatio;
  const { ctx } = u;
  ctx.save();
  ctx.lineWidth = 2 * devicePixelRatio;
  for (const line of lines) {
    ctx.strokeStyle = line.style.colour;
    ctx.beginPath();
    for (const x of line.broken ?? []) {
      const left = u.valToPos(x, "x", true);
      if (x == null || left < u.bbox.left || left > u.bbox.left + u.bbox.width) continue;
      const top = u.bbox.top + size + devicePixelRatio;
      ctx.moveTo(left - size, top - size);
      ctx.lineTo(left + size, top + size);
      ctx.moveTo(left + size, top - size);
      ctx.lineTo(left - size, top + size);
    }
    ctx.stroke();
  }
  ctx.restore();
}

const GROUND = { fault: "--bad", amber: "--warn", notice: "--info", fine: "--good" };

function spans(u, flags) {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.globalAlpha = 0.07;
  for (const flag of flags) {
    const left = u.valToPos(flag.first, "x", true);
    const right = u.valToPos(flag.last, "x", true);
    ctx.fillStyle = shade(GROUND[flag.level] ?? "--info");
    ctx.fillRect(left - 1, bbox.top, Math.max(right - left, 1) + 2, bbox.height);
  }
  ctx.restore();
}

// Rows of flags under the plot: each in the first row where it does not touch another.
export function lanesOf(flags, span, width) {
  const ends = [];
  const scale = width / Math.max(span, 1e-9);
  return flags.map((flag) => {
    const left = flag.first * scale;
    let lane = ends.findIndex((end) => end <= left);
    if (lane < 0) lane = Math.min(ends.length, 3);
    ends[lane] = Math.max(left + 20, flag.last * scale + 2);
    return lane;
  });
}

export function placeFlags(u, buttons, flags, lanes) {
  const { left, top, width, height } = u.bbox;
  const one = 1 / devicePixelRatio;
  buttons.forEach((button, i) => {
    const from = u.valToPos(flags[i].first, "x");
    const to = u.valToPos(flags[i].last, "x");
    const a = Math.max(from, 0);
    const b = Math.min(to, width * one);
    button.hidden = to < 0 || from > width * one;
    // A short one stands with its sign alone over the middle of its steps.
    button.classList.toggle("short", b - a < 36);
    const wide = Math.max(b - a, 16);
    button.style.left = `${left * one + Math.max(Math.min((a + b - wide) / 2, width * one - wide), 0)}px`;
    button.style.width = `${wide}px`;
    button.style.top = `${(top + height) * one + 2 + lanes[i] * LANE}px`;
  });
}

// Options of a panel; `look` has what changes while it is shown: lines, flags, range.
export function optionsOf(look, { width, height, log, rows, sync, x, zoom, drawn }) {
  const axis = { stroke: shade("--faint"), grid: { stroke: shade("--rule"), width: 1 }, ticks: { stroke: shade("--rule"), width: 1, size: 4 }, font: "12px system-ui, sans-serif" };
  const series = [{ label: x, value: (u, v) => short(v) }];
  const bands = [];
  for (const line of look.lines) {
    const { colour, dash, width: thick, dots } = line.style;
    series.push({
      label: line.label,
      stroke: colour,
      width: thick,
      dash,
      value: (u, v) => short(v),
      points: { show: dots || line.y.length < 40, size: dots ? 6 : 4, fill: colour, space: 0 },
    });
    if (line.low) {
      const edge = { class: "hidden-series", stroke: "transparent", width: 0, points: { show: false } };
      series.push({ ...edge, label: "low" }, { ...edge, label: "high" });
      bands.push({ series: [series.length - 1, series.length - 2], fill: colour + "26" });
    }
  }
  return {
    width,
    height,
    series,
    bands,
    legend: { live: true },
    cursor: {
      drag: { x: true, y: false, setScale: false, dist: 6 },
      sync: { key: sync, filters: { pub: (type) => type === "mousemove" || type === "mouseleave" } },
      dataIdx: nearest,
      points: { size: 7 },
      bind: { dblclick: () => () => zoom(null) },
    },
    scales: {
      x: { time: false, range: () => look.range },
      y: log ? { distr: 3, range: (u, low, high) => (low > 0 ? [round(low, Math.floor), round(high, Math.ceil)] : [0.1, 10]) } : {},
    },
    axes: [
      { ...axis, incrs: x === "epoch" || x === "minutes" ? undefined : WHOLE, gap: 5 + rows * LANE, size: 34 + rows * LANE, values: (u, all) => all.map(short) },
      { ...axis, size: 58, values: (u, all) => all.map((v) => (v == null ? "" : short(v))) },
    ],
    hooks: {
      drawClear: [(u) => spans(u, look.flags)],
      setLegend: [rest],
      draw: [(u) => crosses(u, look.lines), (u) => drawn(u)],
      setSelect: [
        (u) => {
          if (u.select.width < 2) return;
          const range = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
          u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
          zoom(range);
        },
      ],
    },
  };
}
