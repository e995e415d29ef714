"use strict";
(() => {
  const make = (tag, more = {}, ...inside) => {
    const node = Object.assign(document.createElement(tag), more);
    node.append(...inside);
    return node;
  };
  const short = (value) => {
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size >= 1e5 || size < 1e-2) return value.toExponential(1).replace(".0e", "e").replace("e+", "e");
    return String(Number(value.toPrecision(3)));
  };
  const LIMIT = 14;

  for (const root of document.querySelectorAll(".explorer")) {
    const data = JSON.parse(root.dataset.runs);
    root.removeAttribute("data-runs");
    const runs = data.runs;
    const state = {show: "train", against: "step", logx: false, logy: true, smooth: data.smoothing, zoom: null, near: null, pinned: null};
    const filters = {};

    const choice = (label, options, act) => {
      const select = make("select", {}, ...options.map(([value, text]) => make("option", {value, textContent: text})));
      select.addEventListener("change", () => act(select.value));
      return make("label", {}, label + " ", select);
    };
    const tick = (label, key) => {
      const box = make("input", {type: "checkbox", checked: state[key]});
      box.addEventListener("change", () => { state[key] = box.checked; state.zoom = null; draw(); });
      return make("label", {}, box, " " + label);
    };
    const controls = make("div", {className: "controls"});
    const shows = [["train", "training loss"], ["val", data.monitor]].filter(([key]) => runs.some((run) => run[key]));
    state.show = shows[0][0];
    controls.append(
      choice("Show", shows, (value) => { state.show = value; state.zoom = null; draw(); }),
      choice("against", [["step", "steps"], ["examples", "examples"], ["seconds", "seconds"]], (value) => { state.against = value; state.zoom = null; draw(); }),
      tick("log axis", "logx"), tick("log loss", "logy"),
    );
    const slider = make("input", {type: "range", min: "0", max: "0.3", step: "0.01", value: String(state.smooth)});
    const lag = make("p", {className: "lag"});
    slider.addEventListener("input", () => { state.smooth = Number(slider.value); draw(); });
    controls.append(make("label", {}, "Smoothing ", slider));
    const fields = [["lr", "LR"], ["batch", "batch"], ["schedule", "schedule"], ["seed", "seed"], ["status", "ended"]];
    for (const [key, label] of fields) {
      const values = [...new Set(runs.map((run) => run[key]))];
      if (values.length < 2) continue;
      values.sort((a, b) => (typeof a === "number" ? a - b : a < b ? -1 : 1));
      const text = (value) => (key === "lr" ? short(value) : String(value));
      controls.append(choice(label, [["", "all"], ...values.map((value) => [String(value), text(value)])], (value) => {
        filters[key] = value; state.near = null; draw();
      }));
    }
    const reset = make("button", {type: "button", className: "copy", textContent: "Whole range"});
    reset.addEventListener("click", () => { state.zoom = null; draw(); });
    controls.append(reset);

    const canvas = make("canvas", {tabIndex: 0});
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-label", "Loss of every trial. Drag to zoom, double click or Escape for the whole range, plus and minus to zoom, arrow keys to go from trial to trial, Enter to see one.");
    const said = make("p", {className: "near"});
    said.setAttribute("aria-live", "polite");
    const card = make("dl", {className: "setting", hidden: true});
    root.append(controls, lag, canvas, said, card);
    root.hidden = false;

    let box = null, placed = [], drag = null, scales = null;
    const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const chosen = () => runs.filter((run) => run[state.show] && Object.entries(filters).every(([key, value]) => !value || String(run[key]) === value));
    const smoothed = (values) => {
      const half = Math.floor((state.smooth * values.length) / 2);
      if (half < 1 || state.show === "val") return values;
      const sums = [0];
      for (const value of values) sums.push(sums[sums.length - 1] + value);
      return values.map((_, at) => {
        const before = Math.min(half, at), after = Math.min(before, values.length - 1 - at);
        return (sums[at + after + 1] - sums[at - before]) / (before + after + 1);
      });
    };
    const range = (shown) => {
      const xs = [], ys = [];
      for (const run of shown) {
        const line = run[state.show], x = line[state.against];
        xs.push(x[0], x[x.length - 1]);
        for (const value of smoothed(line.mean)) ys.push(value);
      }
      const some = ys.filter((value) => (!state.logy || value > 0) && (data.ceiling === null || value <= data.ceiling));
      const held = some.length ? some : ys;
      let lo = Infinity, hi = -Infinity, right = 0, left = Infinity;
      for (const value of held) { lo = Math.min(lo, value); hi = Math.max(hi, value); }
      for (const value of xs) { right = Math.max(right, value); if (value > 0) left = Math.min(left, value); }
      const pad = state.logy && lo > 0 ? Math.pow(hi / lo, 0.03) || 1.1 : (hi - lo) * 0.03 || 1;
      return {x: [state.logx ? left : 0, right || 1], y: state.logy && lo > 0 ? [lo / pad, hi * pad] : [lo - pad, hi + pad]};
    };
    const scale = (domain, log, from, to) => {
      const [lo, hi] = log ? domain.map(Math.log) : domain;
      const at = (value) => from + ((log ? Math.log(value) : value) - lo) / ((hi - lo) || 1) * (to - from);
      const back = (place) => { const value = lo + (place - from) / (to - from) * (hi - lo); return log ? Math.exp(value) : value; };
      return {at, back, log, domain};
    };
    const ticks = ({domain: [lo, hi], log}) => {
      const found = [];
      if (log && hi / lo > 5) {
        for (let power = Math.floor(Math.log10(lo)); power <= Math.log10(hi); power += 1)
          for (const part of hi / lo > 100 ? [1] : [1, 2, 5]) found.push(part * Math.pow(10, power));
      } else {
        const raw = (hi - lo) / 5, base = Math.pow(10, Math.floor(Math.log10(raw)));
        const step = base * [1, 2, 5, 10].find((part) => part * base >= raw);
        for (let value = Math.ceil(lo / step) * step; value <= hi; value += step) found.push(value);
      }
      return found.filter((value) => value >= lo && value <= hi);
    };
    const path = (pen, xs, ys) => {
      pen.beginPath();
      let open = false;
      xs.forEach((x, at) => {
        if ((scales.x.log && x <= 0) || (scales.y.log && ys[at] <= 0)) { open = false; return; }
        const place = [scales.x.at(x), scales.y.at(ys[at])];
        if (open) pen.lineTo(...place); else pen.moveTo(...place);
        open = true;
      });
      pen.stroke();
    };

    function draw() {
      const width = root.clientWidth, height = Math.max(260, Math.min(420, Math.round(width * 0.45)));
      const dots = devicePixelRatio || 1;
      canvas.width = width * dots; canvas.height = height * dots;
      canvas.style.width = width + "px"; canvas.style.height = height + "px";
      const pen = canvas.getContext("2d");
      pen.scale(dots, dots);
      pen.font = "12px system-ui, sans-serif";
      box = {left: 58, right: width - 12, top: 8, bottom: height - 38};
      const shown = chosen();
      if (!shown.length) { placed = []; said.textContent = "No trial is left by these filters."; pen.clearRect(0, 0, width, height); return; }
      const whole = state.zoom || range(shown);
      const log = {x: state.logx && whole.x[0] > 0, y: state.logy && whole.y[0] > 0};
      scales = {x: scale(whole.x, log.x, box.left, box.right), y: scale(whole.y, log.y, box.bottom, box.top)};
      const ink = css("--muted"), grid = css("--grid");
      pen.textBaseline = "middle"; pen.lineWidth = 1;
      for (const value of ticks(scales.x)) {
        const x = scales.x.at(value);
        pen.strokeStyle = grid; pen.beginPath(); pen.moveTo(x, box.top); pen.lineTo(x, box.bottom); pen.stroke();
        pen.fillStyle = ink; pen.textAlign = "center"; pen.fillText(short(value), x, box.bottom + 12);
      }
      for (const value of ticks(scales.y)) {
        const y = scales.y.at(value);
        pen.strokeStyle = grid; pen.beginPath(); pen.moveTo(box.left, y); pen.lineTo(box.right, y); pen.stroke();
        pen.fillStyle = ink; pen.textAlign = "right"; pen.fillText(short(value), box.left - 6, y);
      }
      pen.textAlign = "center"; pen.fillText(state.against === "step" ? "steps" : state.against, (box.left + box.right) / 2, height - 10);
      pen.save(); pen.translate(12, (box.top + box.bottom) / 2); pen.rotate(-Math.PI / 2);
      pen.fillText(state.show === "train" ? "training loss" : data.monitor, 0, 0); pen.restore();

      pen.save(); pen.beginPath(); pen.rect(box.left, box.top, box.right - box.left, box.bottom - box.top); pen.clip();
      placed = shown.map((run) => {
        const line = run[state.show];
        return {run, line, x: line[state.against], y: smoothed(line.mean)};
      });
      const front = state.near || state.pinned;
      for (const one of placed) {
        const color = css("--lr-" + one.run.level), raw = one.y !== one.line.mean || one.line.lo;
        if (raw) {
          pen.strokeStyle = color; pen.globalAlpha = front && front !== one.run ? 0.06 : 0.28; pen.lineWidth = 0.6; pen.setLineDash([]);
          if (one.line.lo) for (const key of ["lo", "hi"]) path(pen, one.x, one.line[key]);
          else path(pen, one.x, one.line.mean);
        }
      }
      for (const one of [...placed].sort((a, b) => (a.run === front) - (b.run === front))) {
        pen.strokeStyle = css("--lr-" + one.run.level);
        pen.globalAlpha = front && front !== one.run ? 0.25 : 1;
        pen.lineWidth = one.run === front ? 3 : 1.5;
        pen.setLineDash(one.run.status === "completed" ? [] : one.run.status === "diverged" ? [6, 3] : [2, 3]);
        path(pen, one.x, one.y);
      }
      pen.globalAlpha = 1; pen.setLineDash([]);
      if (drag && drag.to) {
        pen.strokeStyle = css("--accent"); pen.lineWidth = 1;
        pen.strokeRect(drag.from[0], drag.from[1], drag.to[0] - drag.from[0], drag.to[1] - drag.from[1]);
      }
      pen.restore();
      lag.textContent = smoothing();
      if (!state.near) tell(null);
    }

    function smoothing() {
      if (state.show === "val") return "Validation losses are not smoothed.";
      const {line} = placed.reduce((a, b) => (b.line.step[b.line.step.length - 1] > a.line.step[a.line.step.length - 1] ? b : a));
      const bins = line.mean.length, last = line.step[bins - 1], bin = last / bins, half = Math.floor((state.smooth * bins) / 2);
      const behind = line.lo ? "; thin lines: lowest and highest of those steps" : "";
      if (half < 1) return bin > 1.5 ? `Lines: means of ${Math.round(bin)} of ${last} steps in the longest run${behind}.` : "Lines: every step.";
      return `Lines: means over ${Math.round((2 * half + 1) * bin)} of ${last} steps in the longest run, half of them later than the point, so that they lag behind nothing and hide what is shorter; thin lines: ${line.lo ? `lowest and highest of ${Math.round(bin)} steps` : "every step"}.`;
    }

    function tell(found) {
      if (!found) {
        said.textContent = `${placed.length} of ${runs.length} trials. Point at a line to see which it is, click it for its setting, drag to zoom.`;
        return;
      }
      const {run, line, x} = found.one, at = found.at;
      said.textContent = `LR ${short(run.lr)}, batch ${run.batch}, ${run.schedule}, seed ${run.seed}, ${run.status}: loss ${short(line.mean[at])} at ${short(x[at])} ${state.against === "step" ? "steps" : state.against}`;
    }
    function nearest(px, py) {
      let best = null;
      for (const one of placed) for (let at = 0; at < one.x.length; at += 1) {
        const dx = scales.x.at(one.x[at]) - px;
        if (dx > LIMIT * 2 || dx < -LIMIT * 2) continue;
        const distance = Math.hypot(dx * 0.5, scales.y.at(one.y[at]) - py);
        if (distance < (best ? best.distance : LIMIT)) best = {one, at, distance};
      }
      return best;
    }
    function pin(run) {
      state.pinned = run;
      card.hidden = !run;
      card.replaceChildren(...(run ? run.said.map(([term, value]) => make("div", {}, make("dt", {textContent: term}), make("dd", {textContent: value}))) : []));
      draw();
    }
    const place = (event) => { const at = canvas.getBoundingClientRect(); return [event.clientX - at.left, event.clientY - at.top]; };
    canvas.addEventListener("pointerdown", (event) => { drag = {from: place(event), to: null}; canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointermove", (event) => {
      if (!placed.length) return;
      const [x, y] = place(event);
      if (drag && Math.hypot(x - drag.from[0], y - drag.from[1]) > 6) { drag.to = [x, y]; draw(); return; }
      const found = nearest(x, y), run = found ? found.one.run : null;
      if (run !== state.near) { state.near = run; draw(); }
      tell(found);
    });
    canvas.addEventListener("pointerup", (event) => {
      const done = drag;
      drag = null;
      if (!placed.length) return;
      if (done && done.to) {
        const side = (key, index, from, to) => [done.from[index], done.to[index]].map((value) => scales[key].back(Math.min(Math.max(value, from), to))).sort((a, b) => a - b);
        state.zoom = {x: side("x", 0, box.left, box.right), y: side("y", 1, box.top, box.bottom)};
        draw();
      } else {
        const found = nearest(...place(event));
        pin(found ? found.one.run : null);
      }
    });
    canvas.addEventListener("pointerleave", () => { state.near = null; drag = null; if (placed.length) draw(); });
    canvas.addEventListener("dblclick", () => { state.zoom = null; draw(); });
    canvas.addEventListener("keydown", (event) => {
      if (!placed.length) return;
      const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
      if (step) {
        const order = [...placed].sort((a, b) => a.run.lr - b.run.lr || a.run.batch - b.run.batch || a.run.seed - b.run.seed);
        const at = order.findIndex((one) => one.run === state.near);
        const one = order[(at + step + order.length) % order.length];
        state.near = one.run; draw(); tell({one, at: one.x.length - 1});
      } else if (event.key === "Enter") pin(state.near);
      else if (event.key === "Escape") { state.zoom = null; state.near = null; pin(null); }
      else if (event.key === "+" || event.key === "-") {
        const share = event.key === "+" ? 0.2 : -0.25;
        const cut = (key, from, to) => [from + (to - from) * share, to - (to - from) * share].map(scales[key].back).sort((a, b) => a - b);
        state.zoom = {x: cut("x", box.left, box.right), y: cut("y", box.top, box.bottom)}; draw();
      } else return;
      event.preventDefault();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    new ResizeObserver(draw).observe(root);
    draw();
  }
})();
