"use strict";
(() => {
  const root = document.documentElement;
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // ---- light and dark: the system's choice until the reader makes one

  const themeButton = one("#theme");
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const nameTheme = () => { themeButton.textContent = isDark() ? "Light" : "Dark"; themeButton.ariaLabel = `${themeButton.textContent} colours`; };
  const remembered = (() => { try { return localStorage.getItem("critpoints-theme"); } catch { return null; } })();
  if (remembered === "light" || remembered === "dark") root.dataset.theme = remembered;
  themeButton.hidden = false;
  nameTheme();

  // ---- the less frequent distinct points

  for (const census of all(".census")) {
    const more = one(".more", census);
    if (!more) continue;
    const closed = more.textContent;
    const toggle = (few) => { census.classList.toggle("few", few); more.textContent = few ? closed : "Show the most frequent ones alone"; };
    toggle(true);
    more.addEventListener("click", () => toggle(!census.classList.contains("few")));
  }
  const reveal = () => {
    const target = location.hash.startsWith("#point-") && one(CSS.escape ? `#${CSS.escape(location.hash.slice(1))}` : location.hash);
    const census = target && target.closest(".census.few");
    if (census) { one(".more", census).click(); target.scrollIntoView(); }
  };
  addEventListener("hashchange", reveal);

  const data = JSON.parse(one("#data").textContent);
  if (!data) {
    themeButton.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); });
    one("#plot").hidden = true;
    return;
  }

  // ---- the points

  const decoded = (text, Type) => new Type(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const points = {
    kind: decoded(data.kind, Uint8Array), seed: decoded(data.seed, BigInt64Array),
    x: decoded(data.x, Float32Array), y: decoded(data.y, Float32Array), loss: decoded(data.loss, Float64Array),
    gradient: decoded(data.gradient, Float64Array), floor: decoded(data.floor, Float32Array), entry: decoded(data.entry, Int32Array),
    index: decoded(data.index, Int32Array), level: decoded(data.level, Int32Array), reason: decoded(data.reason, Int32Array),
    certificate: decoded(data.certificate, Int32Array),
  };
  const count = points.kind.length;
  const starts = data.counts.reduce((sums, n) => [...sums, sums.at(-1) + n], [0]);
  const placeOf = new Uint32Array(count); // of a point's width among the widths
  data.widths.forEach((_, place) => placeOf.fill(place, starts[place], starts[place + 1]));
  const spectra = data.spectra.map((each) => ({ ...each, values: decoded(each.values, Float32Array) }));
  const spectrumOf = (row) => {
    const { kept, values } = spectra[placeOf[row]];
    const start = (row - starts[placeOf[row]]) * kept;
    return values.subarray(start, start + kept).filter((value) => !Number.isNaN(value));
  };

  const superscript = (k) => String(k).replace("-", "⁻").replace(/\d/g, (d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d]);
  const format = (value, digits = 3) => {
    if (!Number.isFinite(value)) return "not finite";
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size >= 1e-3 && size < 1e5) return String(Number(value.toPrecision(digits))).replace("-", "−");
    const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
    return `${mantissa.replace("-", "−")}×10${superscript(Number(exponent))}`;
  };
  const label = (row) => data.labels[data.kinds[points.kind[row]]];
  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  const drawn = (tag, attributes, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };
  const marker = (kind) => drawn("svg", { class: `marker ${kind}`, viewBox: "-1.6 -1.6 3.2 3.2", "aria-hidden": "true" },
    drawn("use", { href: `#marker-${kind}` }));
  const named = (kind) => element("span", { className: "kind" }, marker(kind), data.labels[kind]);

  // ---- filters

  const filters = one("#filters");
  const shown = { widths: new Set(), kinds: new Set() };
  const readFilters = () => {
    shown.widths = new Set(all("input[name=width]:checked", filters).map((input) => data.widths.indexOf(Number(input.value))));
    shown.kinds = new Set(all("input[name=kind]:checked", filters).map((input) => data.kinds.indexOf(input.value)));
  };
  const isShown = (row) => shown.widths.has(placeOf[row]) && shown.kinds.has(points.kind[row]);

  // ---- the plot: points of one kind in one place share a marker

  const canvas = one("#canvas"), tip = one("#tip"), context = canvas.getContext("2d");
  const shapes = Object.fromEntries(Object.entries(data.markers).map(([kind, path]) => [kind, new Path2D(path)]));
  const CELL = 6; // pixels
  const REACH = { mouse: 16, pen: 16, touch: 28 }; // of a pointer, in pixels
  let bins = [], hovered = null, chosen = { rows: [], at: 0 }, frame = null;

  const layout = () => {
    const width = canvas.clientWidth, height = canvas.clientHeight;
    frame = { width, height, left: 74, right: width - 14, top: 18, bottom: height - 52 };
  };
  const px = (x) => frame.left + x * (frame.right - frame.left);
  const py = (y) => frame.bottom - y * (frame.bottom - frame.top);
  const sizeOf = (bin) => 4 * (1 + 0.33 * Math.log10(bin.rows.length));

  const collect = () => {
    const cells = new Map();
    for (let row = 0; row < count; row += 1) {
      if (!isShown(row) || Number.isNaN(points.x[row]) || Number.isNaN(points.y[row])) continue;
      const x = px(points.x[row]), y = py(points.y[row]);
      const hollow = Math.abs(spectrumOf.smallest[row]) <= points.floor[row];
      const key = ((Math.floor(x / CELL) * 8192 + Math.floor(y / CELL)) * 16 + points.kind[row]) * 2 + hollow;
      const bin = cells.get(key);
      if (bin) { bin.rows.push(row); bin.x += x; bin.y += y; }
      else cells.set(key, { rows: [row], kind: data.kinds[points.kind[row]], hollow, x, y });
    }
    bins = [...cells.values()];
    for (const bin of bins) { bin.x /= bin.rows.length; bin.y /= bin.rows.length; }
    bins.sort((a, b) => b.rows.length - a.rows.length); // the small ones on top
  };
  spectrumOf.smallest = Float32Array.from({ length: count }, (_, row) => spectrumOf(row)[0]);

  const probe = element("span", { hidden: true });
  document.body.append(probe);
  const color = (name, className = "") => {
    probe.className = className;
    probe.style.color = name;
    return getComputedStyle(probe).color;
  };

  const drawAxes = () => {
    const { left, right, top, bottom } = frame;
    const quiet = color("var(--quiet)"), line = color("var(--line)");
    const font = getComputedStyle(root).fontFamily;
    const powers = (factor, exponent) => factor === 0 ? "0" : `${factor < 0 ? "−" : ""}${Math.abs(factor) === 1 ? "" : `${Math.abs(factor)}×`}10${superscript(exponent)}`;
    context.fillStyle = color("var(--band)");
    context.fillRect(left, py(data.band[1]), right - left, py(data.band[0]) - py(data.band[1]));
    const { rail, zero, ticks } = data.loss_axis;
    if (rail !== null) context.fillRect(left, top, px(rail) - left, bottom - top);
    context.font = `12px ${font}`;
    context.strokeStyle = line;
    context.fillStyle = quiet;
    context.lineWidth = 1;
    context.textAlign = "center";
    context.textBaseline = "top";
    let free = rail === null ? left : px(rail) + 10; // where the next label may begin
    for (const [place, factor, exponent] of ticks) {
      const x = Math.round(px(place)) + 0.5, text = powers(factor, exponent), half = context.measureText(text).width / 2;
      if (x - half < free || x + half > frame.width) continue;
      free = x + half + 12;
      context.beginPath(); context.moveTo(x, top); context.lineTo(x, bottom); context.stroke();
      context.fillText(text, x, bottom + 7);
    }
    if (rail !== null) context.fillText(`≤ 10${superscript(zero)}`, (left + px(rail)) / 2, bottom + 7);
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const [place, sign, exponent] of data.eigenvalue_axis.ticks) {
      const y = Math.round(py(place)) + 0.5;
      context.strokeStyle = sign === 0 ? color("var(--strong-line)") : line;
      context.beginPath(); context.moveTo(left, y); context.lineTo(right, y); context.stroke();
      context.fillText(powers(sign, exponent), left - 8, y);
    }
    context.fillStyle = color("var(--text)");
    context.font = `13px ${font}`;
    context.textAlign = "center";
    context.fillText("loss", (left + right) / 2, frame.height - 14);
    context.save();
    context.translate(12, (top + bottom) / 2);
    context.rotate(-Math.PI / 2);
    context.fillText("smallest eigenvalue", 0, 0);
    context.restore();
  };

  const drawBin = (bin, look) => {
    const size = sizeOf(bin);
    context.save();
    context.translate(bin.x, bin.y);
    context.scale(size, size);
    context.fillStyle = bin.hollow ? look.ground : look.fill;
    context.strokeStyle = bin.hollow ? look.fill : look.edge;
    context.lineWidth = (bin.hollow ? 1.6 : 0.9) / size;
    context.fill(shapes[bin.kind]);
    context.stroke(shapes[bin.kind]);
    context.restore();
  };
  const ring = (bin, width, stroke) => {
    context.beginPath();
    context.arc(bin.x, bin.y, 1.3 * sizeOf(bin) + 5, 0, 2 * Math.PI);
    context.lineWidth = width;
    context.strokeStyle = stroke;
    context.stroke();
  };

  const draw = () => {
    const scale = Math.max(devicePixelRatio, 1);
    canvas.width = Math.round(frame.width * scale);
    canvas.height = Math.round(frame.height * scale);
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, frame.width, frame.height);
    drawAxes();
    const ground = color("var(--card)"), looks = {};
    for (const kind of data.kinds) {
      looks[kind] = { ground, fill: color("var(--kind)", kind), edge: color("color-mix(in srgb, var(--kind) 60%, var(--text))", kind) };
    }
    for (const bin of bins) drawBin(bin, looks[bin.kind]);
    const members = new Set(chosen.rows), accent = color("var(--accent)");
    if (members.size) for (const bin of bins) if (bin.rows.some((row) => members.has(row))) ring(bin, 2, accent);
    if (hovered) ring(hovered, 2, color("var(--text)"));
  };

  // ---- what the plot says in words

  const tally = () => {
    const found = new Map();
    for (let row = 0; row < count; row += 1) {
      if (!isShown(row)) continue;
      const key = points.kind[row] + 16 * placeOf[row];
      if (!found.has(key)) found.set(key, { kind: data.kinds[points.kind[row]], width: data.widths[placeOf[row]], rows: [] });
      found.get(key).rows.push(row);
    }
    return [...found.entries()].sort((a, b) => a[0] - b[0]).map(([, each]) => each);
  };
  const describeShown = () => {
    const kinds = new Map();
    for (const { kind, rows } of tally()) kinds.set(kind, (kinds.get(kind) ?? 0) + rows.length);
    return [...kinds].map(([kind, n]) => `${n} ${data.labels[kind]}`).join(", ") || "no points";
  };
  const extent = (values) => {
    let low = Infinity, high = -Infinity;
    for (const value of values) if (Number.isFinite(value)) { low = Math.min(low, value); high = Math.max(high, value); }
    return low > high ? "none is finite" : low === high ? format(low) : `${format(low)} to ${format(high)}`;
  };
  const fillTable = () => {
    const head = element("tr", {}, ...["kind", "width", "points", "loss", "smallest eigenvalue"].map((name, i) =>
      element("th", { scope: "col", className: i ? "number" : "" }, name)));
    const lines = tally().map(({ kind, width, rows }) => element("tr", {}, element("th", { scope: "row" }, named(kind)),
      ...[String(width), rows.length.toLocaleString("en"), extent(rows.map((row) => points.loss[row])),
        extent(rows.map((row) => spectrumOf.smallest[row]))].map((text) => element("td", { className: "number" }, text))));
    one("#plot-table").replaceChildren(element("thead", {}, head), element("tbody", {}, ...lines));
  };

  // ---- pointing, choosing, stepping

  const nearest = (x, y, reach) => {
    let best = null, distance = reach;
    for (const bin of bins) {
      const away = Math.max(Math.hypot(bin.x - x, bin.y - y) - sizeOf(bin), 0) + bin.rows.length * 1e-9;
      if (away < distance) { best = bin; distance = away; }
    }
    return best;
  };
  const hover = (bin) => {
    if (bin === hovered) return;
    hovered = bin;
    tip.hidden = !bin;
    canvas.style.cursor = bin ? "pointer" : "default";
    if (bin) {
      const [row] = bin.rows, n = bin.rows.length;
      const who = n > 1 ? `${n.toLocaleString("en")} points` : `width ${data.widths[placeOf[row]]}, seed ${points.seed[row]}`;
      tip.replaceChildren(element("b", {}, data.labels[bin.kind]), who, element("br"), `loss ${format(points.loss[row])}`,
        element("br"), `smallest eigenvalue ${format(spectrumOf.smallest[row])}`);
      tip.style.left = `${Math.min(Math.max(bin.x + 16, 4), frame.width - tip.offsetWidth - 4)}px`;
      if (bin.x + 16 + tip.offsetWidth > frame.width) tip.style.left = `${Math.max(bin.x - 16 - tip.offsetWidth, 4)}px`;
      tip.style.top = `${Math.min(Math.max(bin.y - tip.offsetHeight - 10, 4), frame.height - tip.offsetHeight - 4)}px`;
    }
    draw();
  };
  const place = (event) => [event.offsetX, event.offsetY, REACH[event.pointerType] ?? 16];
  canvas.addEventListener("pointermove", (event) => { if (event.pointerType !== "touch") hover(nearest(...place(event))); });
  canvas.addEventListener("pointerleave", () => hover(null));
  canvas.addEventListener("click", (event) => {
    const bin = nearest(...place(event));
    if (bin) choose(bin.rows);
  });

  const choose = (rows, at = 0) => {
    chosen = { rows, at };
    const row = rows[at];
    const panel = one("#details");
    if (row === undefined) {
      panel.replaceChildren(element("p", { className: "note" }, "No point is chosen."));
    } else {
      panel.replaceChildren(...describe(row));
      one("#announcement").textContent = `${label(row)}, width ${data.widths[placeOf[row]]}, seed ${points.seed[row]}, loss `
        + `${format(points.loss[row])}, smallest eigenvalue ${format(spectrumOf.smallest[row])}, point ${at + 1} of ${rows.length}`;
    }
    draw();
  };
  const step = (by) => {
    const { rows, at } = chosen;
    if (rows.length) choose(rows, (at + by + rows.length) % rows.length);
  };
  const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const direction = DIRECTIONS[event.key];
    if (event.key === "PageDown" || event.key === "PageUp") step(event.key === "PageDown" ? 1 : -1);
    else if (event.key === "Escape") { hover(null); choose([]); }
    else if (direction) walk(direction);
    else return;
    event.preventDefault();
  });
  const walk = ([dx, dy]) => {
    const row = chosen.rows[chosen.at];
    const from = bins.find((bin) => bin.rows.includes(row));
    if (!from) { if (bins.length) choose(bins[0].rows); return; }
    let best = null, least = Infinity;
    for (const bin of bins) { // the nearest one ahead, sideways distance counting double
      const ahead = (bin.x - from.x) * dx + (bin.y - from.y) * dy;
      const aside = Math.abs((bin.x - from.x) * dy) + Math.abs((bin.y - from.y) * dx);
      if (bin !== from && ahead > 0.01 && aside <= 4 * ahead && ahead + 2 * aside < least) { best = bin; least = ahead + 2 * aside; }
    }
    if (best) choose(best.rows);
  };

  const describe = (row) => {
    const kind = data.kinds[points.kind[row]], width = data.widths[placeOf[row]], spectrum = spectrumOf(row);
    const { kept, total } = spectra[placeOf[row]];
    const facts = [["kind", label(row)], ["loss", format(points.loss[row], 6)], ["gradient norm", format(points.gradient[row])],
      ["smallest eigenvalue", format(spectrumOf.smallest[row])], ["noise floor", format(points.floor[row])],
      ["negative eigenvalues", points.index[row]]];
    if (points.level[row] >= 0) facts.push(["level", points.level[row]]);
    facts.push(["certificate", data.texts[points.certificate[row]] ?? "none"]);
    if (points.reason[row] >= 0) facts.push(["why", data.texts[points.reason[row]]]);
    const list = element("dl", {}, ...facts.flatMap(([name, value]) => { // sentences have a line of their own
      const className = String(value).length > 24 ? "wide" : "";
      return [element("dt", { className }, name), element("dd", { className }, String(value))];
    }));
    const parts = [element("h3", { className: "kind" }, marker(kind), `Width ${width}, seed ${points.seed[row]}`)];
    if (chosen.rows.length > 1) {
      const back = element("button", { type: "button", ariaLabel: "previous point", onclick: () => step(-1) }, "‹");
      const forth = element("button", { type: "button", ariaLabel: "next point", onclick: () => step(1) }, "›");
      parts.push(element("div", { className: "stepper" },
        element("span", {}, `${chosen.at + 1} of ${chosen.rows.length.toLocaleString("en")} chosen`), back, forth));
    }
    parts.push(list);
    if (points.entry[row] >= 0) {
      parts.push(element("p", { className: "note" }, element("a", { href: `#point-${width}-${points.entry[row]}` }, "Its drawing among the distinct points")));
    }
    const some = kept < total ? `the lowest ${kept} of ${total} eigenvalues` : `${total} eigenvalues`;
    parts.push(element("figure", {}, element("figcaption", {}, `Spectrum: ${some}`), drawSpectrum(spectrum, points.floor[row]),
      element("details", {}, element("summary", {}, "In numbers"), element("p", { className: "note" }, [...spectrum].map((v) => format(v)).join(", ")))));
    return parts;
  };

  const drawSpectrum = (spectrum, floor) => {
    const W = 300, H = 120, finite = [...spectrum].filter(Number.isFinite);
    const threshold = Math.max(floor, 1e-8 * Math.max(...finite.map(Math.abs), 0), 1e-300);
    const height = (v) => Math.sign(v) * (Math.abs(v) <= threshold ? Math.abs(v) / threshold : 1 + Math.log10(Math.abs(v) / threshold));
    const heights = finite.map(height), low = Math.min(0, ...heights), high = Math.max(1, ...heights);
    const x = (i) => 46 + (W - 52) * (i + 0.5) / Math.max(finite.length, 1), y = (h) => H - 8 - (H - 18) * (h - low) / (high - low);
    const picture = drawn("svg", { class: "spectrum", viewBox: `0 0 ${W} ${H}`, role: "img" },
      drawn("title", {}, `${finite.length} eigenvalues from ${format(finite[0] ?? NaN)} to ${format(finite.at(-1) ?? NaN)}`),
      drawn("path", { class: "zero", d: `M46 ${y(0)}H${W}` }), drawn("text", { x: 40, y: y(0) + 4, "text-anchor": "end" }, "0"));
    const decade = Math.log10(threshold) - 1, stride = Math.max(2, Math.ceil((high - low) / 4));
    for (const sign of [1, -1]) {
      for (let h = stride; h <= (sign > 0 ? high : -low); h += stride) {
        const k = Math.round(h + decade), at = y(sign * (k - decade));
        picture.append(drawn("path", { class: "grid", d: `M46 ${at}H${W}` }),
          drawn("text", { x: 40, y: at + 4, "text-anchor": "end" }, `${sign < 0 ? "−" : ""}10${superscript(k)}`));
      }
    }
    finite.forEach((value, i) => {
      const look = Math.abs(value) <= floor ? "unsigned" : value < 0 ? "negative" : "positive";
      picture.append(drawn("path", { d: `M${x(i)} ${y(0)}V${y(heights[i])}` }),
        drawn("circle", { class: look, cx: x(i), cy: y(heights[i]), r: finite.length > 60 ? 2 : 3.6 }));
    });
    return picture;
  };

  // ---- everything together

  const update = () => {
    readFilters();
    hover(null);
    collect();
    for (const part of all("[data-width]")) part.hidden = !shown.widths.has(data.widths.indexOf(Number(part.dataset.width)));
    for (const part of all("[data-kind]")) part.hidden = !shown.kinds.has(data.kinds.indexOf(part.dataset.kind));
    let visible = 0;
    for (let row = 0; row < count; row += 1) visible += isShown(row);
    one("#shown").textContent = `${visible.toLocaleString("en")} of ${count.toLocaleString("en")} points`;
    canvas.ariaLabel = `Loss against smallest eigenvalue: ${describeShown()}`;
    fillTable();
    if (chosen.rows.some(isShown)) draw();
    else choose(bins.length ? bins[0].rows : []);
  };
  filters.hidden = false;
  filters.addEventListener("change", update);
  filters.addEventListener("submit", (event) => event.preventDefault());

  for (const button of all(".show")) {
    button.addEventListener("click", () => {
      const place = data.widths.indexOf(Number(button.closest("[data-width]").dataset.width)), entry = Number(button.dataset.entry);
      const rows = [];
      for (let row = starts[place]; row < starts[place + 1]; row += 1) if (points.entry[row] === entry) rows.push(row);
      choose(rows);
      one("#plot").scrollIntoView();
      canvas.focus({ preventScroll: true });
    });
  }

  const theme = (name) => { if (name) root.dataset.theme = name; else delete root.dataset.theme; nameTheme(); draw(); };
  themeButton.addEventListener("click", () => {
    theme(isDark() ? "light" : "dark");
    try { localStorage.setItem("critpoints-theme", root.dataset.theme); } catch { /* a page from a file may not store */ }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { nameTheme(); draw(); });
  let beforePrint;
  addEventListener("beforeprint", () => { beforePrint = root.dataset.theme; theme("light"); });
  addEventListener("afterprint", () => theme(beforePrint));
  new ResizeObserver(() => {
    if (frame && frame.width === canvas.clientWidth && frame.height === canvas.clientHeight) return;
    layout(); collect(); draw();
  }).observe(canvas);

  layout();
  update();
  reveal();
})();
