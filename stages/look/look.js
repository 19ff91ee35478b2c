"use strict";
// Text of the data goes into the page as text alone (textContent), pictures as data URIs.
const $ = (id) => document.getElementById(id);
const state = { start: 0, count: 12, sort: "", desc: false, total: 0, look: 0, rows: [], columns: [], shown: new Set(), turn: 0, open: -1 };
const kept = new Map(); // row|columns -> what a sample said, of the last few hundred, as long as the root is not looked at again

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

async function ask(path, values) {
  const answer = await fetch(`${path}?${new URLSearchParams(values)}`, { credentials: "same-origin" });
  if (answer.status === 403) throw new Error("this page is no longer let in: open the URL of `hyperloom look` again");
  const value = await answer.json();
  if (value.error) throw new Error(value.error);
  return value;
}

// Four digits of a number, of a larger one all before the point.
const digits = (value) => Math.abs(value) >= 9999.5 ? value.toFixed(0) : Number(value.toPrecision(4)).toString();

function say(text) { $("cards").replaceChildren(element("p", { class: "wait" }, text)); }

// ---- what there is -------------------------------------------------------------------------------------------
async function overview(first) {
  const about = await ask("/api/overview", {});
  document.title = `${about.name} · look`;
  $("name").textContent = about.name;
  const come = about.missing ? `${(about.samples - about.missing).toLocaleString()} of ` : "";
  $("state").textContent = `${come}${about.samples.toLocaleString()} samples` + (about.running.length ? ` · not done yet: ${about.running.join(", ")}` : "");
  const names = about.columns.map((c) => c.name).join();
  if (first || names !== state.columns.map((c) => c.name).join()) {
    const known = new Set(state.columns.map((c) => c.name));
    for (const column of about.columns) if (column.shown && !known.has(column.name)) state.shown.add(column.name);
    state.columns = about.columns;
    chips();
  }
  if (first) {
    $("sort").replaceChildren(element("option", { value: "" }, "number"), ...about.sorts.map((s) => element("option", { value: s.name, "data-worst": s.worst ? 1 : 0 }, s.title)));
    $("groups").replaceChildren(...about.groups.map((g) => element("option", { value: g })));
    $("split").replaceChildren(element("option", { value: "" }, "all"), ...about.splits.map((s) => element("option", { value: s }, s)));
    $("splitlabel").hidden = about.splits.length === 0;
  }
  if (about.running.length) setTimeout(() => overview(false).then(() => page(true)).catch(() => {}), 15000);
}

function chips() {
  const rows = new Map();
  for (const column of state.columns) {
    if (!rows.has(column.modality)) rows.set(column.modality, []);
    rows.get(column.modality).push(column);
  }
  $("columns").replaceChildren(...[...rows].map(([modality, columns]) => element("div", { class: "row" },
    element("b", { title: "all or none", onclick: () => { const on = columns.some((c) => !state.shown.has(c.name)); columns.forEach((c) => on ? state.shown.add(c.name) : state.shown.delete(c.name)); chips(); draw(); } }, modality),
    ...columns.map((c) => element("button", { class: "chip", "aria-pressed": String(state.shown.has(c.name)), title: `${c.name}: ${c.type}, ${c.kind}`, onclick: (event) => {
      state.shown.has(c.name) ? state.shown.delete(c.name) : state.shown.add(c.name);
      event.currentTarget.setAttribute("aria-pressed", String(state.shown.has(c.name)));
      draw();
    } }, c.source, " ", element("small", {}, ["expert", c.source].includes(c.kind) ? "" : c.kind))))));
}

// ---- a page of samples ---------------------------------------------------------------------------------------
async function page(quiet) {
  const turn = ++state.turn;
  if (!quiet) say("…");
  const question = { sort: state.sort, desc: state.desc ? 1 : 0, start: state.start, count: state.count, group: $("group").value, split: $("split").value, quarantine: $("quarantine").checked ? 1 : 0 };
  let answer;
  try { answer = await ask("/api/rows", question); } catch (error) { say(error.message); return; }
  if (turn !== state.turn) return;
  if (answer.look !== state.look) kept.clear();
  state.look = answer.look;
  state.total = answer.total;
  state.rows = answer.rows;
  const last = Math.min(state.start + state.count, state.total);
  $("where").textContent = state.total ? `${(state.start + 1).toLocaleString()} to ${last.toLocaleString()} of ${state.total.toLocaleString()}` : "none";
  $("back").disabled = state.start === 0;
  $("next").disabled = last >= state.total;
  const done = answer.progress;
  $("progress").textContent = done && done.looked < done.total ? `sorted among ${done.looked.toLocaleString()} of ${done.total.toLocaleString()} samples looked at so far` : "";
  if (done && done.looked < done.total) setTimeout(() => { if (turn === state.turn) page(true); }, 1500);
  draw();
}

function draw() {
  const names = state.columns.map((c) => c.name).filter((n) => state.shown.has(n));
  if (!state.rows.length) { say("No sample is like that."); return; }
  const colours = new Map(), above = element("div", {});
  $("cards").replaceChildren(above, ...state.rows.map((row) => card(row, names, (columns) => above.replaceChildren(legend(seen(columns, colours))))));
}

// Modality -> numbers of the colours that the pictures of these columns show, beside those that are known.
function seen(columns, colours = new Map()) {
  for (const c of state.columns) {
    const what = columns[c.name];
    if (!what || !what.colours || !what.colours.length) continue;
    if (!colours.has(c.modality)) colours.set(c.modality, new Set());
    what.colours.forEach((number) => colours.get(c.modality).add(number));
  }
  return colours;
}

function legend(colours) {
  const of = new Map(state.columns.map((c) => [c.modality, c.legend]));
  return element("div", {}, ...[...of].filter(([modality]) => colours.has(modality)).map(([modality, entries]) => element("div", { class: "legend" }, `${modality}:`,
    ...entries.filter((_, number) => colours.get(modality).has(number)).map(([name, rgb]) => { const spot = element("i"); spot.style.background = `rgb(${rgb.join()})`; return element("span", {}, spot, name); }))));
}

function card(row, names, come) {
  const tiles = element("div", { class: "tiles" }, element("p", { class: "wait" }, "…"));
  const figure = row.figure === null || row.figure === undefined ? "" : digits(row.figure);
  const facts = [row.group, row.split, row.index === null ? "" : `sample ${row.index} of its group`].filter(Boolean).map((t) => element("span", {}, t));
  const made = element("section", { class: "card", "data-row": row.row },
    element("h2", {}, row.key, ...facts, ...(figure ? [element("span", { class: "figure" }, `${figure}`)] : [])),
    ...(row.errors || []).map((text) => element("div", { class: "error" }, text)), tiles);
  sample(row.row, names, width()).then((columns) => { come(columns); tiles.replaceChildren(...tilesOf(row.row, columns, names)); }, (error) => tiles.replaceChildren(element("div", { class: "error" }, error.message)));
  return made;
}

const width = () => Math.min(1600, Math.round(Number($("size").value) * Math.min(2, window.devicePixelRatio || 1)));

async function sample(row, names, wide) {
  const size = wide > 400 ? 1280 : 400;
  const key = `${row}|${size}|${names.join()}`;
  if (!kept.has(key)) {
    const look = state.look;
    kept.set(key, ask("/api/sample", { row, look, columns: names.join(), width: size }).then((a) => {
      if (a.look === look) return a.columns;
      page(true); // row has another sample by now, or says more
      throw new Error("the root was looked at again");
    }));
    kept.get(key).catch(() => kept.delete(key));
    if (kept.size > 300) kept.delete(kept.keys().next().value);
  }
  return kept.get(key);
}

function baseOf(columns) {
  const name = state.columns.map((c) => c.name).find((n) => columns[n] && columns[n].width && columns[n].src);
  return name ? columns[name] : null;
}

function tilesOf(row, columns, names) {
  if (!names.length) return [element("p", { class: "wait" }, "Choose columns above.")];
  const base = $("over").checked ? baseOf(columns) : null;
  return names.map((name) => {
    const what = columns[name] || { missing: true };
    const frame = element("div", { class: "frame" });
    fill(frame, what, base);
    if (what.src) { frame.classList.add("open"); frame.addEventListener("click", () => large(row)); }
    const about = state.columns.find((c) => c.name === name) || {};
    const children = [frame];
    if (what.sound) children.push(element("audio", { controls: "", preload: "none", src: what.sound }));
    if (what.scale) children.push(colourbar(what.scale, about.unit));
    children.push(element("figcaption", {}, element("span", {}, name), ...(what.over && what.words && about.type !== "segmentation" ? [element("span", {}, what.words)] : [])));
    return element("figure", { class: "tile", "data-column": name }, ...children);
  });
}

function fill(frame, what, base) {
  if (what.error) frame.append(element("p", {}, what.error));
  else if (what.missing) frame.append(element("p", {}, "missing"));
  else if (what.src && what.over && base) frame.append(element("img", { src: base.src, alt: "" }), element("img", { class: "layer", src: what.src, alt: what.words || "" }));
  else if (what.src && what.over) frame.append(element("img", { class: "mask", src: what.src, alt: what.words || "" }));
  else if (what.src) {
    frame.append(element("img", { src: what.src, alt: what.words || "" }));
    if (what.spectrogram) frame.append(element("img", { src: what.spectrogram, alt: "spectrogram" }));
    if (what.words) frame.append(element("p", {}, what.words));
  } else frame.append(element("p", {}, what.words || ""));
}

function colourbar(scale, unit) {
  return element("div", { class: "colourbar" }, scale[0], element("i"), `${scale[1]}${unit ? ` ${unit}` : ""}`);
}

// ---- one sample, large ---------------------------------------------------------------------------------------
const layers = new Map(); // column -> opacity, kept from sample to sample
async function large(row) {
  state.open = row;
  const about = state.rows.find((r) => r.row === row);
  $("largename").textContent = about ? `${about.key}  ${about.group} ${about.split}` : String(row);
  const names = state.columns.map((c) => c.name).filter((n) => state.shown.has(n));
  if (!$("large").open) $("large").showModal();
  $("largebody").replaceChildren(element("p", { class: "wait" }, "…"));
  let columns;
  try { columns = await sample(row, names, 1280); } catch (error) { $("largebody").replaceChildren(element("p", {}, error.message)); return; }
  if (state.open !== row) return;
  const over = names.filter((n) => columns[n] && columns[n].src && columns[n].over);
  if (over.length && !over.some((n) => layers.get(n) > 0)) layers.set(over[0], 0.7);
  const base = baseOf(columns);
  const frame = element("div", { class: "frame" });
  if (base) frame.append(element("img", { src: base.src, alt: "" }));
  else for (const n of names) if (columns[n] && !columns[n].over) fill(frame, columns[n], null);
  const stack = element("div", { class: "stack" });
  over.forEach((name, place) => {
    const image = element("img", { class: base || place ? "layer" : "mask", src: columns[name].src, alt: name });
    const strength = element("input", { type: "range", min: 0, max: 100, value: Math.round(100 * (layers.get(name) || 0)), "aria-label": `opacity of ${name}` });
    const set = () => { layers.set(name, strength.value / 100); image.style.opacity = strength.value / 100; };
    strength.addEventListener("input", set);
    set();
    frame.append(image);
    stack.append(element("label", {}, element("input", { type: "checkbox", ...(layers.get(name) > 0 ? { checked: "" } : {}), onchange: (event) => { strength.value = event.target.checked ? 70 : 0; set(); } }), name, strength));
    if (columns[name].scale) stack.append(colourbar(columns[name].scale, (state.columns.find((c) => c.name === name) || {}).unit));
    if (columns[name].words && !columns[name].scale) stack.append(element("span", { class: "dim" }, columns[name].words));
  });
  for (const name of names) if (columns[name] && !columns[name].over && !columns[name].width) {
    const part = element("div", { class: "frame" });
    fill(part, columns[name], null);
    stack.append(element("span", { class: "dim" }, name), part);
    if (columns[name].sound) stack.append(element("audio", { controls: "", src: columns[name].sound }));
  }
  stack.append(legend(seen(columns)));
  $("largebody").replaceChildren(frame, stack);
}

function step(by) {
  const at = state.rows.findIndex((r) => r.row === state.open) + by;
  if (at >= 0 && at < state.rows.length) large(state.rows[at].row);
}

// ---- controls ------------------------------------------------------------------------------------------------
function turn(to) { state.start = Math.max(0, Math.min(to, Math.max(0, state.total - 1))); page(false); window.scrollTo(0, 0); }
function afresh() { state.start = 0; page(false); }
function directed() { $("direction").textContent = state.desc ? "↓ largest first" : "↑ smallest first"; }

addEventListener("DOMContentLoaded", () => {
  $("sort").onchange = () => { state.sort = $("sort").value; state.desc = $("sort").selectedOptions[0].dataset.worst === "1"; directed(); afresh(); };
  $("direction").onclick = () => { state.desc = !state.desc; directed(); afresh(); };
  $("group").onchange = $("split").onchange = $("quarantine").onchange = afresh;
  $("over").onchange = draw;
  $("opacity").oninput = () => document.documentElement.style.setProperty("--o", $("opacity").value / 100);
  $("size").oninput = () => document.documentElement.style.setProperty("--size", `${$("size").value}px`);
  $("size").onchange = draw;
  $("back").onclick = () => turn(state.start - state.count);
  $("next").onclick = () => turn(state.start + state.count);
  $("goto").onchange = () => { if ($("goto").value) turn(Number($("goto").value) - 1); };
  $("menu").onclick = () => { const open = $("panel").classList.toggle("open"); $("menu").setAttribute("aria-expanded", String(open)); };
  $("close").onclick = () => $("large").close();
  $("before").onclick = () => step(-1);
  $("after").onclick = () => step(1);
  $("large").addEventListener("close", () => { state.open = -1; });
  addEventListener("keydown", (event) => {
    if (/INPUT|SELECT/.test(event.target.tagName)) return;
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by && $("large").open) step(by);
    else if (by && !(by > 0 ? $("next") : $("back")).disabled) turn(state.start + by * state.count);
  });
  directed();
  overview(true).then(() => page(false)).catch((error) => say(error.message));
});
