"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const NAMES = { color: "colour", raw: "raw depth", depth: "DKT depth", confidence: "confidence", error: "error", truth: "truth" };
const bytes = (text, Kind) => new Kind(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);

function element(parent, name, attributes, text) {
  const svg = ["svg", "line", "path", "text", "circle"].includes(name);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}

function ticks(low, high) {
  const rough = (high - low) / 4, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((one) => one * power >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-6; i++) found.push(i * step);
  return [found, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))];
}

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

// Lines over seconds; returns what moves the mark of the frame that is looked at.
function plot(place, spec, times) {
  const W = 420, H = 190, left = 60, right = 8, top = 8, bottom = 30;
  const series = spec.series.filter((one) => one.values.some((v) => v !== null));
  if (!series.length || times.length < 2) return () => {};
  const box = element(place, "div", { class: "plot" });
  element(box, "h3", {}, spec.title);
  const all = series.flatMap((one) => one.values.filter((v) => v !== null));
  let low = spec.zero ? Math.min(0, ...all) : Math.min(...all), high = Math.max(...all);
  if (high - low < 1e-9) { low -= Math.abs(low) * 0.1 + 1e-3; high += Math.abs(high) * 0.1 + 1e-3; }
  const t0 = times[0], t1 = Math.max(times[times.length - 1], t0 + 1e-3);
  const x = (t) => left + (t - t0) / (t1 - t0) * (W - left - right);
  const y = (v) => H - bottom - (v - low) / (high - low) * (H - top - bottom);
  const said = series.map((one) => {
    const known = one.values.filter((v) => v !== null);
    return `${one.name}: ${format(Math.min(...known))} to ${format(Math.max(...known))}, median ${format(median(known))}`;
  });
  function format(v) { return Number((v * (spec.factor || 1)).toPrecision(3)) + (spec.unit || ""); }
  const svg = element(box, "svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${spec.title}. ${said.join("; ")}` });
  const factor = spec.factor || 1, [marks, digits] = ticks(low * factor, high * factor);
  for (const mark of marks) {
    const at = y(mark / factor);
    element(svg, "line", { x1: left, x2: W - right, y1: at, y2: at, class: "grid" });
    element(svg, "text", { x: left - 5, y: at + 4, "text-anchor": "end" }, mark.toFixed(digits) + (spec.unit || ""));
  }
  const [seconds, secondDigits] = ticks(0, t1 - t0);
  for (const mark of seconds) element(svg, "text", { x: x(t0 + mark), y: H - 12, "text-anchor": "middle" }, mark.toFixed(secondDigits));
  element(svg, "text", { x: W - right, y: H, "text-anchor": "end" }, "seconds");
  series.forEach((one, index) => {
    let path = "", pen = false, last = null;
    one.values.forEach((v, i) => {
      if (v === null) { pen = false; return; }
      path += `${pen ? "L" : "M"}${x(times[i]).toFixed(1)} ${y(v).toFixed(1)}`;
      pen = true; last = i;
    });
    const color = `var(--s${index})`;
    element(svg, "path", { d: path, fill: "none", style: `stroke:${color}`, "stroke-width": 1.8 });
    if (last !== null && times.length < 40) one.values.forEach((v, i) => {
      if (v !== null) element(svg, "circle", { cx: x(times[i]), cy: y(v), r: 2.2, style: `fill:${color}` });
    });
  });
  const now = element(svg, "line", { y1: top, y2: H - bottom, class: "now", x1: -9, x2: -9 });
  const legend = element(box, "div", { class: "legend" });
  series.forEach((one, index) => {
    const entry = element(legend, "span");
    element(entry, "i", { style: `border-color:var(--s${index})` });
    entry.append(said[index]);
  });
  return (t) => { now.setAttribute("x1", x(t)); now.setAttribute("x2", x(t)); };
}

// A cloud that is turned by dragging or by the arrow keys.
function cloud(canvas) {
  let points = null, colors = null, yaw = 0.35, pitch = 0.25, zoom = 1, middle = [0, 0, 1], size = 1;
  function draw() {
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.width = canvas.clientWidth * ratio, height = canvas.height = canvas.clientHeight * ratio;
    const context = canvas.getContext("2d");
    if (!points || !width) return;
    const image = context.createImageData(width, height), pixels = new Uint32Array(image.data.buffer);
    const nearest = new Float32Array(width * height).fill(Infinity);
    const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    const f = 1.9 * Math.min(width, height) * zoom, dot = Math.max(3, Math.round(0.01 * Math.min(width, height)));
    for (let i = 0; i < points.length; i += 3) {
      const a = (points[i] / 1e3 - middle[0]) / size, b = (points[i + 1] / 1e3 - middle[1]) / size, c = (points[i + 2] / 1e3 - middle[2]) / size;
      const u = cy * a + sy * c, w = cy * c - sy * a, v = cp * b + sp * w, depth = cp * w - sp * b + 2;
      const px = Math.round(width / 2 + f * u / depth), py = Math.round(height / 2 + f * v / depth);
      const rgba = 0xff000000 | colors[i + 2] << 16 | colors[i + 1] << 8 | colors[i];
      for (let dy = 0; dy < dot; dy++) for (let dx = 0; dx < dot; dx++) {
        const qx = px + dx, qy = py + dy, at = qy * width + qx;
        if (qx >= 0 && qx < width && qy >= 0 && qy < height && depth < nearest[at]) { nearest[at] = depth; pixels[at] = rgba; }
      }
    }
    context.putImageData(image, 0, 0);
    canvas.dataset.turned = `${yaw.toFixed(2)},${pitch.toFixed(2)},${zoom.toFixed(2)}`;
  }
  const turn = (dx, dy) => { yaw += dx; pitch = Math.max(-1.5, Math.min(1.5, pitch + dy)); draw(); };
  const scale = (by) => { zoom = Math.max(0.3, Math.min(6, zoom * by)); draw(); };
  canvas.addEventListener("pointerdown", (e) => canvas.setPointerCapture(e.pointerId));
  canvas.addEventListener("pointermove", (e) => { if (e.buttons) turn(e.movementX * 0.01, -e.movementY * 0.01); });
  canvas.addEventListener("wheel", (e) => { e.preventDefault(); scale(e.deltaY < 0 ? 1.1 : 0.9); }, { passive: false });
  canvas.addEventListener("keydown", (e) => {
    const act = { ArrowLeft: () => turn(-0.1, 0), ArrowRight: () => turn(0.1, 0), ArrowUp: () => turn(0, 0.1), ArrowDown: () => turn(0, -0.1), "+": () => scale(1.15), "=": () => scale(1.15), "-": () => scale(0.87) }[e.key];
    if (act) { e.preventDefault(); act(); }
  });
  new ResizeObserver(draw).observe(canvas);
  return (frame) => {
    points = bytes(frame.points, Int16Array); colors = bytes(frame.colors, Uint8Array);
    const axis = (k) => { const v = []; for (let i = k; i < points.length; i += 3) v.push(points[i] / 1e3); return v.sort((a, b) => a - b); };
    const axes = [0, 1, 2].map(axis), at = (v, q) => v.length ? v[Math.floor(q * (v.length - 1))] : 0;
    middle = axes.map((v) => at(v, 0.5));
    size = Math.max(0.05, ...axes.map((v) => at(v, 0.95) - at(v, 0.05))) * 0.7;
    draw();
  };
}

function show(section, recording) {
  const marks = recording.plots.map((spec) => plot(section.querySelector(".plots"), spec, recording.times));
  if (!recording.frames.length) return;
  const $ = (selector) => section.querySelector(selector);
  const slider = $("input[type=range]"), views = $(".views"), told = $("output"), order = $("select");
  const drawCloud = cloud($("canvas"));
  const even = recording.frames.map((_, i) => i);
  const worst = [...even].sort((a, b) => recording.frames[b].score - recording.frames[a].score);
  slider.max = even.length - 1;
  section.querySelectorAll("input[type=radio]").forEach((radio) => {
    radio.parentElement.hidden = radio.value !== "all" && !recording.frames.some((frame) => frame.pictures[radio.value]);
  });
  function update() {
    const frame = recording.frames[(order.value === "worst" ? worst : even)[slider.value]];
    const wanted = section.querySelector("input[type=radio]:checked").value;
    const names = Object.keys(NAMES).filter((name) => frame.pictures[name] && (wanted === "all" || wanted === name));
    views.classList.toggle("single", wanted !== "all");
    views.replaceChildren();
    for (const name of names) {
      const figure = element(views, "figure");
      const caption = name === "error" ? recording.error_caption : NAMES[name];
      element(figure, "img", { src: "data:image/jpeg;base64," + frame.pictures[name], alt: `${caption} of frame ${frame.index}` });
      element(figure, "figcaption", {}, caption);
    }
    told.textContent = frame.told;
    slider.setAttribute("aria-valuetext", frame.told);
    marks.forEach((mark) => mark(frame.time));
    drawCloud(frame);
  }
  slider.addEventListener("input", update);
  order.addEventListener("change", () => { slider.value = 0; update(); });
  section.querySelectorAll("input[type=radio]").forEach((radio) => radio.addEventListener("change", update));
  $("button.before").addEventListener("click", () => { slider.stepDown(); update(); });
  $("button.after").addEventListener("click", () => { slider.stepUp(); update(); });
  const list = $(".worst");
  worst.slice(0, 8).forEach((number, place) => {
    const frame = recording.frames[number], button = element(element(list, "li"), "button", { type: "button" });
    element(button, "img", { src: "data:image/jpeg;base64," + (frame.pictures.error || frame.pictures.depth), alt: "" });
    button.append(`frame ${frame.index}: ${(100 * frame.score).toFixed(1)}%`);
    button.addEventListener("click", () => { order.value = "worst"; slider.value = place; update(); slider.focus(); });
  });
  update();
}

DATA.forEach((recording) => show(document.getElementById(recording.id), recording));
