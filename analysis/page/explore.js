// SPDX-License-Identifier: Apache-2.0
// The explorer: a figure of the samples in the page, whose axes, settings and range the
// reader chooses. It asks nothing of any network. Without scripts the page shows the
// figures that are in it.
"use strict";
(() => {
const root = document.getElementById("explore");
const source = document.getElementById("explore-data");
if (!root || !source) return;
const cells = JSON.parse(source.textContent).cells || [];
if (!cells.length) return;

const WIDEST = 720, H = 420, LEFT = 78, RIGHT = 14, TOP = 12, BOTTOM = 52;
const COLOURS = 7;
const SVG = "http://www.w3.org/2000/svg";
const state = {kind: "", experiment: "", x: "", y: "", line: "", logX: false, logY: false, filter: {}, view: null, at: -1};
let W = WIDEST; // narrower where there is less room, so that text stays readable
let plotted = {points: [], toX: null, toY: null, fit: null};

const uniq = list => [...new Set(list)];
const numeric = list => list.length > 0 && list.every(v => v !== "" && Number.isFinite(Number(v)));
const sorted = list => numeric(list) ? [...list].sort((a, b) => a - b) : list;
const median = list => {
  const s = [...list].sort((a, b) => a - b), m = s.length >> 1;
  return s.length % 2 ? s[m] : (s[m - 1] + s[m]) / 2;
};
const valuesOf = (cell, unit) => (cell.values[unit] || []).filter(v => v !== null);
const setting = (cell, key) => key === "run" ? cell.run : (cell.config[key] ?? "");

function element(name, attributes, ...children) {
  const e = document.createElement(name);
  for (const [k, v] of Object.entries(attributes || {})) {
    if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
    else if (v !== false && v != null) e.setAttribute(k, v === true ? "" : v);
  }
  e.append(...children);
  return e;
}

function shape(parent, name, attributes, text) {
  const e = document.createElementNS(SVG, name);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  if (text !== undefined) e.textContent = text;
  parent.append(e);
  return e;
}

// Numbers are written as in the tables: three digits, and a prefix that keeps them short.
function scaled(v, unit) {
  const a = Math.abs(v);
  const steps = unit === "B" ? [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [1024, "KiB"], [1, "B"]]
    : /^ns(\/|$)|-ns$/.test(unit) ? [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]]
    : [[1e9, "G"], [1e6, "M"], [1e4, "k"], [1, ""]];
  const [factor, prefix] = steps.find(([from]) => a >= from) || [1, steps[steps.length - 1][1]];
  const by = prefix === "k" ? 1e3 : factor;
  const n = v / by;
  const text = n === 0 ? "0" : Math.abs(n) >= 1000 ? n.toFixed(0) : String(Number(n.toPrecision(3)));
  return prefix ? text + " " + prefix : text;
}
const isBytes = key => key === "chunk" || key === "volume" || key === "extent";
const settingText = (key, v) => v === "" ? "none" : isBytes(key) && numeric([v]) ? scaled(Number(v), "B") : v;
const unitOf = axis => axis.startsWith("value:") ? axis.slice(6) : isBytes(axis) ? "B" : "";
const axisName = axis => axis.startsWith("value:") ? axis.slice(6) : axis;

const ofExperiment = () => cells.filter(c => c.kind === state.kind && c.experiment === state.experiment);
const units = list => uniq(list.flatMap(c => Object.keys(c.values)));
function keysOf(list) {
  const keys = uniq(list.flatMap(c => Object.keys(c.config)));
  if (uniq(list.map(c => c.run)).length > 1) keys.unshift("run");
  return keys;
}
const varying = (list, keys) => keys.filter(k => uniq(list.map(c => setting(c, k))).length > 1);

// choose sets what the reader has not chosen, or what does not exist in an experiment.
function choose() {
  const kinds = uniq(cells.map(c => c.kind));
  if (!kinds.includes(state.kind)) state.kind = kinds[0];
  const experiments = uniq(cells.filter(c => c.kind === state.kind).map(c => c.experiment));
  if (!experiments.includes(state.experiment)) state.experiment = experiments[0];
  const list = ofExperiment(), all = units(list), keys = keysOf(list), vary = varying(list, keys);
  if (!all.includes(state.y)) state.y = all.includes("ns/op") ? "ns/op" : all[0];
  const axes = [...keys, "round", ...all.map(u => "value:" + u)];
  const values = k => uniq(list.map(c => setting(c, k))).filter(v => v !== "");
  const numbers = vary.filter(k => values(k).length > 1 && numeric(values(k)));
  if (!axes.includes(state.x)) state.x = ["chunk", "snapshots", "qd"].find(k => numbers.includes(k)) || numbers[0] || vary[0] || "round";
  if (state.line !== "" && !keys.includes(state.line)) state.line = "\0";
  if (state.line === "\0") state.line = ["run", "variant"].find(k => vary.includes(k) && k !== state.x) || vary.find(k => k !== state.x) || "";
  for (const k of Object.keys(state.filter)) if (!keys.includes(k)) delete state.filter[k];
  return {kinds, experiments, all, keys, vary, list};
}

// narrow fixes the settings that are neither axis nor line, so that a first look at an
// experiment does not mix them.
function narrow() {
  const {vary, list} = choose();
  state.filter = {};
  let left = list;
  for (const k of vary) {
    if (k === state.x || k === state.line) continue;
    const values = uniq(left.map(c => setting(c, k)));
    const has = v => uniq(left.filter(c => setting(c, k) === v).map(c => setting(c, state.x))).length;
    if (values.length < 2) continue;
    const best = values.filter(v => v !== "").reduce((a, b) => has(b) > has(a) || has(b) === has(a) && b === "inline" ? b : a);
    state.filter[k] = best;
    left = left.filter(c => setting(c, k) === best || setting(c, k) === "");
  }
}

// A cell that does not have a setting at all is not left out by it: raw has no chunk size.
const shown = list => list.filter(c => c.values[state.y] && Object.entries(state.filter).every(([k, v]) => setting(c, k) === v || setting(c, k) === ""));

function pointsOf(list) {
  const out = [];
  for (const cell of list) {
    const ys = valuesOf(cell, state.y);
    const name = state.line === "" ? "" : setting(cell, state.line);
    if (state.x === "round") {
      cell.values[state.y].forEach((y, i) => y !== null && out.push({cell, line: name, rawX: String(cell.rounds[i]), y, lo: y, hi: y}));
      continue;
    }
    let rawX = setting(cell, state.x);
    if (state.x.startsWith("value:")) {
      const xs = valuesOf(cell, state.x.slice(6));
      if (!xs.length) continue;
      rawX = String(median(xs));
    }
    out.push({cell, line: name, rawX, y: median(ys), lo: Math.min(...ys), hi: Math.max(...ys)});
  }
  return out;
}

// axis returns how raw values become numbers along an axis, and its ticks.
function xAxis(points) {
  const raws = uniq(points.map(p => p.rawX));
  const known = raws.filter(v => v !== "");
  if (!numeric(known) || known.length !== raws.length) {
    const order = sorted(raws);
    return {of: v => order.indexOf(v), category: true, range: [-0.5, order.length - 0.5], ticks: () => order.map((v, i) => [i, settingText(state.x, v)])};
  }
  const log = state.logX && known.every(v => v > 0);
  const of = v => log ? Math.log10(v) : Number(v);
  const at = known.map(of), lo = Math.min(...at), hi = Math.max(...at), pad = (hi - lo || 1) * 0.06;
  const discrete = known.length < 12 && !state.x.startsWith("value:");
  const text = v => isBytes(state.x) || unitOf(state.x) ? scaled(v, unitOf(state.x)) : String(Number(Number(v).toPrecision(6)));
  return {of, range: [lo - pad, hi + pad], ticks: (a, b) => discrete ? sorted(known).map(v => [of(v), text(v)]) : steps(a, b, log).map(v => [log ? Math.log10(v) : v, text(v)])};
}

function yAxis(points) {
  const log = state.logY && points.every(p => p.lo > 0);
  const of = v => log ? Math.log10(v) : v;
  let lo = Math.min(...points.map(p => of(p.lo))), hi = Math.max(...points.map(p => of(p.hi)));
  if (!log) lo = Math.min(0, lo);
  const pad = (hi - lo || 1) * 0.05;
  return {of, range: [log || lo < 0 ? lo - pad : lo, hi + pad], ticks: (a, b) => steps(a, b, log).map(v => [of(v), scaled(v, state.y)])};
}

// steps returns some round numbers of a range, given in logarithms if log.
function steps(a, b, log) {
  const out = [];
  if (log) {
    for (let d = Math.floor(a); d <= Math.ceil(b); d++) for (const m of b - a > 3 ? [1] : [1, 2, 5]) out.push(m * 10 ** d);
    return out.filter(v => Math.log10(v) >= a && Math.log10(v) <= b);
  }
  const raw = (b - a) / 6, power = 10 ** Math.floor(Math.log10(raw)), step = power * [1, 2, 5, 10].find(m => m * power >= raw);
  for (let i = Math.ceil(a / step); i * step <= b && out.length < 30; i++) out.push(i * step);
  return out;
}

function draw() {
  const {keys, list} = choose();
  const points = pointsOf(shown(list));
  W = Math.max(340, Math.min(WIDEST, root.clientWidth || WIDEST));
  figure.setAttribute("viewBox", `0 0 ${W} ${H}`);
  figure.replaceChildren();
  legend.replaceChildren();
  figure.setAttribute("aria-label", `${state.y} by ${axisName(state.x)}, ${state.experiment}, ${state.kind}: ${points.length} points`);
  plotted = {points: [], fit: null};
  state.at = -1;
  readout.textContent = points.length ? "Point at a mark, or press the arrow keys in the figure, for its samples." : "No samples have these settings.";
  note.textContent = mixed(points, keys);
  fillTable(points);
  if (!points.length) return;
  const x = xAxis(points), y = yAxis(points);
  const fit = [...x.range, ...y.range], [x0, x1, y0, y1] = state.view || fit;
  const toX = v => LEFT + (v - x0) / (x1 - x0) * (W - LEFT - RIGHT), toY = v => H - BOTTOM - (v - y0) / (y1 - y0) * (H - TOP - BOTTOM);
  drawAxes(x.ticks(x0, x1).filter(([v]) => v >= x0 && v <= x1), y.ticks(y0, y1).filter(([v]) => v >= y0 && v <= y1), toX, toY);
  const clip = shape(figure, "clipPath", {id: "explore-clip"});
  shape(clip, "rect", {x: LEFT, y: TOP, width: W - LEFT - RIGHT, height: H - TOP - BOTTOM});
  const marks = shape(figure, "g", {"clip-path": "url(#explore-clip)"});
  const names = uniq(points.map(p => p.line));
  names.forEach((name, i) => drawLine(marks, points.filter(p => p.line === name), i % COLOURS, x, y, toX, toY));
  if (state.line !== "") names.forEach((name, i) => legend.append(element("li", {class: "s" + i % COLOURS}, settingText(state.line, name))));
  plotted.fit = fit;
  plotted.points = plotted.points.filter(p => p.px >= LEFT - 1 && p.px <= W - RIGHT + 1 && p.py >= TOP - 1 && p.py <= H - BOTTOM + 1).sort((a, b) => a.px - b.px || a.py - b.py);
}

function drawAxes(xs, ys, toX, toY) {
  const axes = shape(figure, "g", {class: "axes"});
  let last = -1e9;
  for (const [v, text] of xs) {
    shape(axes, "line", {x1: toX(v), x2: toX(v), y1: TOP, y2: H - BOTTOM});
    if (toX(v) - last < text.length * 6.5 + 6) continue;
    last = toX(v);
    shape(axes, "text", {x: toX(v), y: H - BOTTOM + 17, "text-anchor": "middle", class: "x-tick"}, text);
  }
  for (const [v, text] of ys) {
    shape(axes, "line", {x1: LEFT, x2: W - RIGHT, y1: toY(v), y2: toY(v)});
    shape(axes, "text", {x: LEFT - 7, y: toY(v) + 4, "text-anchor": "end", class: "y-tick"}, text);
  }
  shape(axes, "text", {x: (LEFT + W - RIGHT) / 2, y: H - 12, "text-anchor": "middle", class: "x-label"}, axisName(state.x));
  shape(axes, "text", {x: 14, y: (TOP + H - BOTTOM) / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${(TOP + H - BOTTOM) / 2})`, class: "y-label"}, state.y);
}

function drawLine(parent, points, colour, x, y, toX, toY) {
  const g = shape(parent, "g", {class: "s" + colour});
  for (const p of points) { p.px = toX(x.of(p.rawX)); p.py = toY(y.of(p.y)); }
  points.sort((a, b) => a.px - b.px);
  const joined = !x.category && uniq(points.map(p => p.rawX)).length === points.length && points.length > 1;
  if (joined) shape(g, "polyline", {points: points.map(p => `${p.px.toFixed(1)},${p.py.toFixed(1)}`).join(" ")});
  for (const p of points) {
    if (p.hi > p.lo) shape(g, "line", {x1: p.px, x2: p.px, y1: toY(y.of(p.lo)), y2: toY(y.of(p.hi)), class: "bar"});
    mark(g, p, colour);
    plotted.points.push(p);
  }
}

// mark draws a glyph by colour, so that lines can be told apart without colours.
function mark(g, p, colour) {
  const {px, py} = p, r = 4;
  const paths = [`M${px - r} ${py - r}h${2 * r}v${2 * r}h${-2 * r}z`, `M${px} ${py - r - 1}l${r + 1} ${2 * r}h${-2 * r - 2}z`, `M${px} ${py - r - 1}l${r + 1} ${r + 1}l${-r - 1} ${r + 1}l${-r - 1} ${-r - 1}z`];
  if (colour % 4 === 0) shape(g, "circle", {cx: px, cy: py, r, class: "mark"});
  else shape(g, "path", {d: paths[colour % 4 - 1], class: "mark"});
}

// mixed says which settings points of one place and line differ in.
function mixed(points, keys) {
  const places = new Map();
  if (state.x.startsWith("value:")) return "";
  for (const p of points) {
    const at = p.line + "\0" + p.rawX;
    places.set(at, [...(places.get(at) || []), p.cell]);
  }
  const differ = uniq([...places.values()].flatMap(list => varying(list, keys)));
  return differ.length ? `Several settings share a place (${differ.join(", ")}): filter by them, or make one of them the lines.` : "";
}

function samplesText(p) {
  const ys = state.x === "round" ? [p.y] : valuesOf(p.cell, state.y);
  return ys.slice(0, 24).map(v => scaled(v, state.y)).join(", ") + (ys.length > 24 ? ", …" : "");
}
const several = uniq(cells.map(c => c.run)).length > 1;
const nameOf = c => c.name + (several ? ", run " + c.run : "");

function pick(i) {
  figure.querySelector(".picked")?.remove();
  state.at = i;
  const p = plotted.points[i];
  if (!p) return;
  shape(figure, "circle", {cx: p.px, cy: p.py, r: 9, class: "picked"});
  readout.replaceChildren(element("b", {}, `${scaled(p.y, state.y)} (${state.y})`), ` ${nameOf(p.cell)} · ${state.x === "round" ? "round " + p.rawX : valuesOf(p.cell, state.y).length + " samples: " + samplesText(p)}`);
}

function fillTable(points) {
  const rows = points.slice(0, 500).map(p => element("tr", {}, element("td", {class: "setting"}, nameOf(p.cell)), element("td", {class: "num"}, scaled(p.y, state.y)), element("td", {}, samplesText(p))));
  table.replaceChildren(element("thead", {}, element("tr", {}, element("th", {}, "Setting"), element("th", {class: "num"}, state.y), element("th", {}, "Samples"))), element("tbody", {}, ...rows));
}

// Zooming: a part of the figure that is dragged over, buttons, and keys.
function zoom(factor) {
  if (!plotted.fit) return;
  const [x0, x1, y0, y1] = state.view || plotted.fit, x = (x0 + x1) / 2, y = (y0 + y1) / 2;
  state.view = [x - (x - x0) * factor, x + (x1 - x) * factor, y - (y - y0) * factor, y + (y1 - y) * factor];
  draw();
}
function pan(dx, dy) {
  if (!plotted.fit) return;
  const [x0, x1, y0, y1] = state.view || plotted.fit, x = (x1 - x0) * dx, y = (y1 - y0) * dy;
  state.view = [x0 + x, x1 + x, y0 + y, y1 + y];
  draw();
}
function reset() { state.view = null; draw(); }

function place(event) {
  const box = figure.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width * W, (event.clientY - box.top) / box.height * H];
}
let drag = null;
function down(event) {
  if (event.button !== 0 || event.pointerType === "touch") return;
  drag = {from: place(event), box: shape(figure, "rect", {class: "drag", x: 0, y: 0, width: 0, height: 0})};
  figure.setPointerCapture?.(event.pointerId);
}
function move(event) {
  const [x, y] = place(event);
  if (drag) {
    const [a, b] = drag.from;
    for (const [k, v] of Object.entries({x: Math.min(a, x), y: Math.min(b, y), width: Math.abs(a - x), height: Math.abs(b - y)})) drag.box.setAttribute(k, v);
    return;
  }
  let best = -1, least = 18 ** 2;
  plotted.points.forEach((p, i) => {
    const d = (p.px - x) ** 2 + (p.py - y) ** 2;
    if (d < least) { least = d; best = i; }
  });
  if (best >= 0 && best !== state.at) pick(best);
}
function up(event) {
  if (!drag) return;
  const [a, b] = drag.from, [x, y] = place(event);
  drag.box.remove();
  drag = null;
  if (Math.abs(a - x) < 8 || Math.abs(b - y) < 8 || !plotted.fit) return;
  const [x0, x1, y0, y1] = state.view || plotted.fit;
  const backX = v => x0 + (v - LEFT) / (W - LEFT - RIGHT) * (x1 - x0), backY = v => y0 + (H - BOTTOM - v) / (H - TOP - BOTTOM) * (y1 - y0);
  state.view = [backX(Math.min(a, x)), backX(Math.max(a, x)), backY(Math.max(b, y)), backY(Math.min(b, y))];
  draw();
}
function key(event) {
  const pans = {ArrowLeft: [-0.2, 0], ArrowRight: [0.2, 0], ArrowUp: [0, 0.2], ArrowDown: [0, -0.2]}[event.key];
  const n = plotted.points.length;
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "+" || event.key === "=") zoom(0.5);
  else if (event.key === "-") zoom(2);
  else if (event.key === "0" || event.key === "Escape") reset();
  else if (pans && event.shiftKey) pan(...pans);
  else if (pans && n) pick(state.at < 0 ? 0 : (state.at + (event.key === "ArrowRight" || event.key === "ArrowDown" ? 1 : n - 1)) % n);
  else return;
  event.preventDefault();
}

// The form.
function select(name, label, options, value, change) {
  const s = element("select", {id: "explore-" + name, onchange: e => { state.view = null; change(e.target.value); build(); document.getElementById("explore-" + name)?.focus(); }});
  for (const [v, text] of options) s.append(element("option", {value: v, selected: v === value}, text));
  return element("label", {}, element("span", {}, label), s);
}
function toggle(name, label, on, change) {
  return element("label", {class: "toggle"}, element("input", {type: "checkbox", id: "explore-" + name, checked: on, onchange: e => { state.view = null; change(e.target.checked); draw(); }}), element("span", {}, label));
}
function build() {
  const {kinds, experiments, all, keys, vary, list} = choose();
  const plain = values => values.map(v => [v, v]);
  const axes = [...plain(keys), ["round", "round"], ...all.map(u => ["value:" + u, u])];
  form.replaceChildren(
    select("kind", "Kind", plain(kinds), state.kind, v => { state.kind = v; fresh(); }),
    select("experiment", "Experiment", plain(experiments), state.experiment, v => { state.experiment = v; fresh(); }),
    select("y", "Y axis", plain(all), state.y, v => { state.y = v; }),
    select("x", "X axis", axes, state.x, v => { state.x = v; delete state.filter[v]; }),
    select("line", "Lines", [["", "none"], ...plain(keys)], state.line, v => { state.line = v; delete state.filter[v]; }),
    ...vary.map(k => select("filter-" + k, k, [["*", "all"], ...sorted(uniq(list.map(c => setting(c, k))).filter(v => v !== "")).map(v => [v, settingText(k, v)])], state.filter[k] ?? "*",
      v => { if (v === "*") delete state.filter[k]; else state.filter[k] = v; })),
    toggle("log-x", "logarithmic x", state.logX, v => { state.logX = v; }),
    toggle("log-y", "logarithmic y", state.logY, v => { state.logY = v; }));
  draw();
}
function fresh() {
  Object.assign(state, {x: "", line: "\0", filter: {}, view: null});
  choose();
  const xs = uniq(ofExperiment().map(c => setting(c, state.x)).filter(v => v !== ""));
  state.logX = numeric(xs) && xs.every(v => v > 0) && Math.max(...xs) >= 8 * Math.min(...xs);
  narrow();
}

const form = element("form", {class: "controls", onsubmit: e => e.preventDefault()});
const figure = document.createElementNS(SVG, "svg");
for (const [k, v] of Object.entries({tabindex: "0", role: "img", id: "explore-figure"})) figure.setAttribute(k, v);
for (const [k, f] of Object.entries({pointerdown: down, pointermove: move, pointerup: up, pointercancel: () => { drag?.box.remove(); drag = null; }, keydown: key})) figure.addEventListener(k, f);
const legend = element("ul", {class: "legend"});
const readout = element("output", {id: "explore-readout", "aria-live": "polite"});
const note = element("p", {id: "explore-note", class: "small faint"});
const table = element("table", {id: "explore-table"});
const button = (id, text, label, run) => element("button", {type: "button", id: "explore-" + id, "aria-label": label, title: label, onclick: run}, text);
root.append(form,
  element("div", {class: "zoom"}, button("in", "+", "Zoom in", () => zoom(0.5)), button("out", "−", "Zoom out", () => zoom(2)), button("reset", "All", "Show all", reset),
    element("span", {class: "small faint"}, "Drag over a part to see it larger. Keys: arrows go from mark to mark, with Shift they move the view; + − 0.")),
  figure, legend, readout, note,
  element("details", {}, element("summary", {}, "What is shown, as a table"), element("div", {class: "scroll", tabindex: "0"}, table)));
root.hidden = false;
window.addEventListener("resize", () => { if (Math.max(340, Math.min(WIDEST, root.clientWidth)) !== W) draw(); });
fresh();
build();
})();
