"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const page = read("data");
  const byId = (id) => document.getElementById(id);
  const PARTS = ["dispatch", "retries", "queue_wait", "delivery", "execution", "return"];
  const PREDICTED = ["dispatch", "network", "transfer", "queue_wait", "execution"];
  const MEANING = {
    start: "from the run's acceptance to the first turn of its code",
    dispatch: "from the call in the agent's code until the step was scheduled",
    retries: "attempts that failed, and the pauses between them",
    queue_wait: "scheduled, and no worker had taken it yet",
    delivery: "handed out, on its way to the worker",
    execution: "the step's own body",
    return: "on its way back, until the agent's code goes on",
    network: "round trips between the place, the home and the cell",
    transfer: "the bytes of its payload",
  };

  // Every text of the run goes into the page as a text node: none of it is ever read as HTML.
  function make(tag, options = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
      if (value === null || value === undefined || value === false) continue;
      if (name === "class") element.className = value;
      else if (name === "style") Object.assign(element.style, value);
      else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
    return element;
  }
  const words = (part) => part.replaceAll("_", " ");
  const grouped = (value, digits = 0) => value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits });
  function time(ms) {
    if (ms === null || ms === undefined) return "–";
    const size = Math.abs(ms);
    if (size >= 3_600_000) return `${grouped(ms / 3_600_000, 1)} h`;
    if (size >= 180_000) return `${grouped(ms / 60_000, 1)} min`;
    if (size >= 10_000) return `${grouped(ms / 1000, 1)} s`;
    return `${grouped(ms, size < 10 && size > 0 ? 1 : 0)} ms`;
  }
  const signed = (ms) => (ms >= 0 ? "+" : "−") + time(Math.abs(ms));
  const bare = (ms) => grouped(ms, ms > 0 && ms < 10 ? 1 : 0);
  const plural = (count, one) => `${grouped(count)} ${one}${count === 1 ? "" : "s"}`;
  const chip = (part, kind = "") => make("span", { class: `chip ${kind}`, style: { background: `var(--part-${part})` } });
  function beyond(actual, predicted) {
    const off = actual - predicted;
    return make("span", { class: off > 0 ? "over" : "under" }, signed(off));
  }

  // -- heading ------------------------------------------------------------------------------
  const run = page.heading;
  function heading() {
    byId("agent").textContent = run.agent || "run";
    byId("status").textContent = run.status;
    byId("status").classList.add(run.status.split(" ")[0]);
    const facts = [`started ${run.started_at}`, run.cell && `cell ${run.cell}`, run.residency && `residency ${run.residency}`,
      `${plural(run.steps, "step")} in ${plural(run.places, "place")}`];
    byId("identity").append(make("code", {}, run.workflow_id), ...facts.filter(Boolean).map((fact) => ` · ${fact}`));
    const open = run.status === "running";
    const tile = (name, value, aside, kind = "") => make("div", { class: "tile" },
      make("div", { class: "name" }, name), make("div", { class: `value ${kind}` }, value), aside && make("div", { class: "aside" }, aside));
    const share = (part) => `${grouped((100 * part) / Math.max(run.wall_ms, 1e-9), 0)} % of the run`;
    byId("tiles").append(
      tile(run.origin ? `${run.origin} → ${open ? "not yet answered" : run.status === "completed" ? "answer" : "end"}` : open ? "Going on for" : "Took",
        time(run.wall_ms), "on the server's clock"),
      tile("Predicted", time(run.predicted_ms), run.predicted_ms === null ? "the run has no plan" : open ? "for its user, all the way" : make("span", {}, beyond(run.wall_ms, run.predicted_ms), " actual against predicted")),
      tile("Home", run.home ?? "–", run.home ? `${run.home_country ?? "country unknown"}: its workflow runs here` : "started without a plan"),
      tile("Orchestration", time(run.orchestration_ms), run.orchestration_ms === null ? (open ? "known when the run has ended" : "cannot be told: the critical path has a gap") : `${share(run.orchestration_ms)}, on the critical path`),
      tile("Slowest part", run.slowest ?? "–", null, "words"),
    );
    const remarks = byId("remarks");
    if (run.error) remarks.append(make("p", { class: "remark bad" }, `Ended with ${run.error}`));
    for (const waiting of run.waits_for) remarks.append(make("p", { class: "remark open" }, "Waits for ", make("b", {}, waiting)));
    for (const remark of run.notes) remarks.append(make("p", { class: "remark" }, remark));
  }

  function legend() {
    const present = new Set(page.segments.map((segment) => segment.part));
    const entry = (mark, name, meaning) => make("li", { title: meaning }, mark, name);
    const list = byId("legend");
    for (const part of ["start", ...PARTS]) if (present.has(part)) list.append(entry(chip(part), words(part), MEANING[part]));
    for (const part of ["connect", "first_token", "decode", "call"]) {
      if (present.has(part)) list.append(entry(chip(part), part === "call" ? "call to a backend" : words(part), "inside the step's body"));
    }
    if (present.has("pause")) list.append(entry(chip("pause", "dashed"), "pause", "the run waited by its own will"));
    if (present.has("open")) list.append(entry(chip("open", "dashed"), "going on", "it has not come back"));
    list.append(entry(make("span", { class: "chip line", style: { background: "var(--critical)" } }), "critical path", "what the run's end waited for"));
    if (page.bars.some((bar) => bar.predicted_end_ms !== null)) {
      list.append(entry(make("span", { class: "chip tick", style: { background: "var(--ink)" } }), "predicted end", "where the step should have ended by its plan"));
    }
  }

  // -- receipt ------------------------------------------------------------------------------
  function stack(parts, names, scale, kind = "") {
    return make("div", { class: `stack ${kind}`, style: { width: `${(100 * names.reduce((sum, part) => sum + (parts[part] || 0), 0)) / scale}%` } },
      names.filter((part) => parts[part] > 0).map((part) =>
        make("i", { title: `${words(part)} ${time(parts[part])}`, style: { background: `var(--part-${part})`, flex: `${parts[part]} 0 0` } })));
  }
  function candidates(receipt, step, scale) {
    const body = make("tbody");
    for (const candidate of receipt.candidates) {
      const ran = candidate.region === step.place;
      body.append(
        make("tr", { class: `numbers ${ran ? "chosen" : ""}`, "data-region": candidate.region },
          make("td", {}, candidate.region, " ", ran && make("span", { class: "tag ran" }, "chosen"), make("span", { class: "below" }, [candidate.country, candidate.dispatch].filter(Boolean).join(" · "))),
          PREDICTED.map((part) => make("td", { class: "number" }, bare(candidate.parts[part]))),
          make("td", { class: "number" }, make("b", {}, bare(candidate.predicted_ms)))),
        make("tr", { class: "bar", "aria-hidden": "true" }, make("td", { colspan: 7 }, stack(candidate.parts, PREDICTED, scale, "inside"))),
      );
    }
    const short = { queue_wait: "wait", execution: "run" };
    return make("table", { class: "candidates" },
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Candidate, ms"),
        PREDICTED.map((part) => make("th", { scope: "col", class: "number", title: MEANING[part] }, short[part] ?? part)), make("th", { scope: "col", class: "number" }, "total"))),
      body);
  }
  function verdict(step, receipt) {
    const lines = make("div", { class: "verdict" });
    const line = (name, ...value) => lines.append(make("div", { "data-line": name }, ...value));
    if (step.predicted_ms !== null) line("predicted", "Predicted ", make("b", {}, time(step.predicted_ms)));
    line("actual", step.wall_ms === null ? "Going on: " : "Took ", make("b", {}, step.wall_ms === null ? "not yet known" : time(step.wall_ms)),
      step.wall_ms !== null && step.predicted_ms !== null && " ", step.wall_ms !== null && step.predicted_ms !== null && beyond(step.wall_ms, step.predicted_ms));
    if (!receipt) return lines;
    const others = receipt.candidates.filter((candidate) => candidate.region !== step.place);
    if (!others.length) line("regret", "There was no other place.");
    else if (step.regret_ms !== null) {
      const best = others.reduce((a, b) => (b.predicted_ms < a.predicted_ms ? b : a));
      line("regret", "Regret ", make("b", { class: step.regret_ms > 0 ? "over" : "under" }, signed(step.regret_ms)),
        ` against ${best.region}, the best other place (${time(best.predicted_ms)} predicted)`);
    }
    return lines;
  }
  function partsOf(step) {
    const total = Math.max(step.wall_ms ?? 0, 1e-9);
    return make("div", { class: "parts" }, PARTS.filter((part) => step.parts[part] > 0).map((part) => [
      chip(part), make("span", { title: MEANING[part] }, words(part)), make("span", { class: "number" }, time(step.parts[part])),
      make("span", { class: "share" }, `${grouped((100 * step.parts[part]) / total)} %`)]).flat());
  }
  function calls(step) {
    const rows = step.calls.map((call) => make("tr", {},
      make("td", {}, call.name, make("span", { class: call.error ? "below bad" : "below" }, call.error ? `✗ ${call.error}` : [
        call.operation, call.retries > 0 && plural(call.retries, "repeat"),
        (call.input_tokens ?? call.output_tokens) !== null && `${[call.input_tokens, call.output_tokens].filter((n) => n !== null).join(" → ")} tokens`,
        call.tokens_per_second !== null && `${grouped(call.tokens_per_second)} tokens/s`].filter(Boolean).join(" · "))),
      [call.connect_ms, call.first_token_ms, call.decode_ms, call.took_ms].map((ms) => make("td", { class: "number" }, ms === null ? "–" : bare(ms)))));
    return [make("h3", {}, "Calls inside the step, ms"),
      make("table", { class: "calls" }, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "To"),
        ["connect", "first token", "decode", "all"].map((name) => make("th", { scope: "col", class: "number" }, name)))), make("tbody", {}, rows)),
      step.calls_left_out > 0 && make("p", { class: "hint" }, `and ${plural(step.calls_left_out, "shorter call")}`)];
  }
  function showReceipt(step) {
    const target = byId("receipt");
    if (!step) {
      target.replaceChildren(make("p", { class: "hint" }, page.steps.length ? "Choose a step on the chart or in the list." : "The run called no step."));
      return;
    }
    const receipt = step.receipt === null ? null : page.receipts[step.receipt];
    const scale = Math.max(step.wall_ms ?? 0, ...(receipt ? receipt.candidates.map((candidate) => candidate.predicted_ms) : []), 1e-9);
    const where = [step.ran_in && step.ran_in !== step.place ? `placed in ${step.place ?? "no region"}, ran in ${step.ran_in}` : (step.place ?? "no region"),
      step.country, step.dispatch, step.attempts > 1 && plural(step.attempts, "attempt"), `called by ${step.agent} at ${time(step.began_ms)}`].filter(Boolean).join(" · ");
    target.replaceChildren(...[
      make("p", { class: "what" }, step.name),
      make("p", { class: "where" }, where),
      step.error && make("p", { class: "remark bad" }, step.error),
      step.why_moved.map((why) => make("p", { class: "remark" }, `It ${why}.`)),
      verdict(step, receipt),
      step.parts && make("h3", {}, "What it really cost"),
      step.parts && stack(step.parts, PARTS, scale, "inside"),
      step.parts && partsOf(step),
      step.calls.length > 0 && calls(step),
      make("h3", {}, receipt ? `Why ${step.place ?? "there"}: candidates and what was predicted` : "Why there"),
      receipt ? candidates(receipt, step, scale) : make("p", { class: "hint" }, "No receipt: the step was called without a plan."),
      receipt && receipt.excluded.length > 0 && make("h3", {}, "Excluded"),
      receipt && receipt.excluded.length > 0 && make("ul", { class: "excluded" }, receipt.excluded.map((one) =>
        make("li", { "data-region": one.region }, make("b", {}, one.region), " ", make("span", { class: "tag" }, one.rule), " ", one.reason))),
      receipt && make("p", { class: "hint", style: { marginTop: "14px" } }, `Agent ${receipt.agent} · home ${receipt.home} · residency ${receipt.residency}`),
    ].flat().filter(Boolean));
    target.parentElement.scrollTop = 0;
  }

  // -- the list of steps --------------------------------------------------------------------
  const rows = [];
  const longest = Math.max(1e-9, ...page.steps.map((step) => Math.max(step.wall_ms ?? 0, step.predicted_ms ?? 0)));
  function list() {
    page.steps.forEach((step, index) => {
      const beside = make("div", { class: "bars", "aria-hidden": "true" },
        step.parts && stack(step.parts, PARTS, longest),
        step.predicted_ms !== null && make("span", { class: "goal", style: { left: `calc(${(100 * step.predicted_ms) / longest}% - 1px)` } }));
      const row = make("tr", { id: `step-${index}`, onclick: () => select(index) },
        make("td", {}, step.is_critical && make("span", { title: "on the critical path" }, "◆")),
        make("td", {}, make("button", { type: "button", "aria-pressed": "false" }, step.name),
          step.agent !== run.agent && make("span", { class: "below" }, step.agent),
          step.error && make("span", { class: "below bad" }, step.error)),
        make("td", {}, step.ran_in ?? step.place ?? "–", step.country && make("span", { class: "below" }, step.country)),
        make("td", {}, step.dispatch),
        make("td", { class: "number" }, step.attempts || "–"),
        make("td", { class: "number" }, time(step.began_ms)),
        make("td", { class: "number" }, time(step.predicted_ms)),
        make("td", { class: "number" }, step.wall_ms === null ? "going on" : time(step.wall_ms)),
        make("td", { class: "beside" }, beside));
      row.search = [step.name, step.agent, step.place, step.ran_in, step.dispatch, step.error].join("\n").toLowerCase();
      rows.push(row);
    });
    for (const id of ["find", "order", "critical-only"]) byId(id).addEventListener("input", arrange);
    arrange();
  }
  function arrange() {
    const wanted = byId("find").value.trim().toLowerCase();
    const by = { time: (step, index) => index, wall: (step) => -(step.wall_ms ?? Infinity),
      miss: (step) => (step.wall_ms === null || step.predicted_ms === null ? Infinity : step.predicted_ms - step.wall_ms) }[byId("order").value];
    const shown = page.steps.map((step, index) => [by(step, index), index])
      .filter(([, index]) => rows[index].search.includes(wanted) && (page.steps[index].is_critical || !byId("critical-only").checked))
      .sort((a, b) => (a[0] === b[0] ? a[1] - b[1] : a[0] - b[0]));
    document.querySelector("#steps tbody").replaceChildren(...shown.map(([, index]) => rows[index]));
    byId("count").textContent = shown.length === rows.length ? grouped(rows.length) : `${grouped(shown.length)} of ${grouped(rows.length)}`;
  }
  byId("steps").addEventListener("keydown", (event) => {
    const ahead = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const next = ahead && event.target.closest("tbody tr")?.[ahead];
    if (!next) return;
    event.preventDefault();
    next.querySelector("button").focus();
    next.click();
  });

  function inSight(row) {
    // only the list scrolls: the reader keeps the chart before their eyes
    const list = document.querySelector(".scroll");
    const { top, bottom } = list.getBoundingClientRect();
    const at = row?.getBoundingClientRect();
    if (at && (at.top < top + 32 || at.bottom > bottom)) list.scrollTop += at.top - (top + bottom) / 2;
  }

  // -- choosing a step ----------------------------------------------------------------------
  let selected = null;
  function select(index, { reveal = false } = {}) {
    for (const [mark, row] of [[false, rows[selected]], [true, rows[index]]]) {
      row?.classList.toggle("selected", mark);
      row?.querySelector("button").setAttribute("aria-pressed", mark);
    }
    selected = index;
    showReceipt(page.steps[index]);
    if (reveal) inSight(rows[index]);
    chart?.signal("selected", index).runAsync();
    history.replaceState(null, "", `#step=${index}`);
  }

  // -- charts -------------------------------------------------------------------------------
  let chart = null;
  function tooltip(event, content) {
    const tip = byId("tip");
    tip.hidden = !content;
    if (!content) return;
    tip.replaceChildren(...content);
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(6, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
    tip.style.top = `${event.clientY + 18 + height > innerHeight ? Math.max(6, event.clientY - height - 12) : event.clientY + 18}px`;
  }
  function about(bar) {
    const step = bar.step === null ? null : page.steps[bar.step];
    const took = bar.is_open ? "going on" : time(bar.ended_ms - bar.began_ms);
    return [make("strong", {}, bar.name), make("div", { class: "below" }, [bar.kind, bar.lane, step?.dispatch, step?.agent].filter(Boolean).join(" · ")),
      make("div", {}, took, step?.predicted_ms != null ? ` · ${time(step.predicted_ms)} predicted` : "", bar.is_critical ? " · critical path" : ""),
      step?.parts && partsOf(step), step?.error && make("div", { class: "below bad" }, step.error)].filter(Boolean);
  }
  async function view(spec, element) {
    // Interpreted, not compiled: the page's policy allows no text to become code.
    const options = { mode: "vega", renderer: "svg", actions: false, ast: true, defaultStyle: false, tooltip: false, hover: false };
    return (await vegaEmbed(element, spec, options)).view;
  }
  async function waterfall() {
    const element = byId("waterfall");
    const spec = read("waterfall-spec");
    chart = await view(spec, element);
    chart.signal("height", page.chart_height).signal("span", page.span_ms).signal("domain", [0, page.span_ms])
      .signal("roomy", page.is_roomy).signal("count", page.bars.length).signal("turn", page.names_turn_at)
      .data("lanes", page.lanes.map((lane, index) => ({ ...lane, stripe: index % 2 })))
      .data("bars", page.bars.map((bar) => ({ ...bar,
        failed: bar.step !== null && page.steps[bar.step].error !== null,
        label: `${bar.step !== null && page.steps[bar.step].error ? "✗ " : ""}${bar.name}  ${bar.is_open ? "…" : time(bar.ended_ms - bar.began_ms)}` })))
      .data("segments", page.segments).data("links", page.links);
    await chart.runAsync();
    zooming(element);
    chart.addEventListener("click", (event, item) => { if (item?.datum?.step != null && item.mark.name === "step") select(item.datum.step, { reveal: true }); });
    chart.addEventListener("mousemove", (event, item) => tooltip(event, item?.mark.name === "step" ? about(item.datum) : null));
    element.addEventListener("mouseleave", (event) => { tooltip(event, null); chart.signal("pointer", null).runAsync(); });
  }
  async function look(begin, end) {
    const width = Math.min(page.span_ms, Math.max(page.span_ms / 100_000, 0.05, end - begin));
    const from = Math.max(0, Math.min(begin, page.span_ms - width));
    await chart.signal("domain", [from, from + width]).runAsync();
    byId("zoomed").textContent = width < page.span_ms ? `${time(from)} to ${time(from + width)}` : "";
  }
  function zoom(factor) {
    const [begin, end] = chart.signal("domain");
    const middle = (begin + end) / 2;
    return look(middle - ((end - begin) * factor) / 2, middle + ((end - begin) * factor) / 2);
  }
  function zooming(element) {
    const at = (event) => event.clientX - element.getBoundingClientRect().left - chart.padding().left;
    const moment = (event) => chart.scale("time").invert(Math.max(0, Math.min(at(event), chart.signal("width"))));
    let from = null;
    element.addEventListener("pointerdown", (event) => { if (event.button === 0 && at(event) >= 0) from = event; });
    addEventListener("pointermove", (event) => {
      if (!element.contains(event.target) && !from) return;
      const inside = at(event) >= 0 && at(event) <= chart.signal("width");
      const dragged = from && Math.abs(event.clientX - from.clientX) > 4;
      chart.signal("pointer", inside && !dragged ? at(event) : null).signal("drag", dragged ? [moment(from), moment(event)] : null).runAsync();
    });
    addEventListener("pointerup", (event) => {
      if (from && Math.abs(event.clientX - from.clientX) > 4) {
        const [begin, end] = [moment(from), moment(event)].sort((a, b) => a - b);
        chart.signal("drag", null);
        look(begin, end);
      }
      from = null;
    });
    element.addEventListener("dblclick", () => look(0, page.span_ms));
    element.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const [begin, end] = chart.signal("domain");
      const around = moment(event);
      const factor = Math.exp(event.deltaY / 300);
      look(around - (around - begin) * factor, around + (end - around) * factor);
    }, { passive: false });
    byId("zoom-in").addEventListener("click", () => zoom(0.5));
    byId("zoom-out").addEventListener("click", () => zoom(2));
    byId("zoom-all").addEventListener("click", () => look(0, page.span_ms));
  }
  function route() {
    const bold = (name) => make("b", {}, name);
    const places = [...new Set(page.steps.map((step) => step.ran_in ?? step.place).filter(Boolean))];
    const others = places.filter((name) => name !== run.home).flatMap((name, index) => [index ? ", " : "", bold(name)]);
    const there = run.origin ? [bold(run.origin), " → ", bold(run.home), " (home)"] : ["No plan, so no path"];
    const on = others.length ? [run.origin ? " → " : "; steps ran in ", ...others] : run.origin && places.length ? [", where every step ran"] : [];
    byId("route").append(...there, ...on);
  }
  async function globe() {
    const { map } = page;
    const element = byId("map");
    element.setAttribute("aria-label", map.summary);
    const spec = read("map-spec");
    spec.data.find((data) => data.name === "land").values = read("land");
    const drawn = await view(spec, element);
    const rank = { origin: 0, home: 1, place: 2, region: 3 };
    drawn.signal("centre", map.centre).signal("frame", { type: "MultiPoint", coordinates: map.frame })
      .data("spots", map.spots.map((spot) => ({ ...spot, rank: rank[spot.role] })))
      .data("legs", map.legs.map((leg) => ({ type: "Feature", properties: { role: leg.role, count: leg.count }, geometry: { type: "LineString", coordinates: leg.coordinates } })));
    await drawn.runAsync();
    drawn.addEventListener("mousemove", (event, item) => tooltip(event, item?.mark.name === "spot" ? [make("strong", {}, item.datum.name), make("div", { class: "below" }, item.datum.detail)] : null));
    element.addEventListener("mouseleave", (event) => tooltip(event, null));
    route();
  }

  // -- light and dark -----------------------------------------------------------------------
  function theme() {
    const button = byId("theme");
    const dark = () => (document.documentElement.style.colorScheme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
    const say = () => { button.textContent = dark() ? "Light" : "Dark"; };
    button.addEventListener("click", () => { document.documentElement.style.colorScheme = dark() ? "light" : "dark"; say(); });
    say();
  }

  function first() {
    const asked = /^#step=(\d+)$/.exec(location.hash);
    if (asked && page.steps[asked[1]]) return Number(asked[1]);
    return page.first_step;
  }
  heading();
  legend();
  list();
  theme();
  showReceipt(null);
  Promise.all([waterfall(), globe()]).then(() => {
    if (first() !== null) select(first());
    document.documentElement.dataset.ready = "true";
  });
})();
