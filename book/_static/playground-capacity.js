// What comes to a device and what it can do: which share of its tasks can stay at home? All devices are alike here, and
// the works of tasks are uniform between `(1 - spread)` and `(1 + spread)` times their middle.
"use strict";

playground.mount("capacity", ({ scenarios }) => {
  const { element, svg, number, show, field, choice, slider, announcer } = playground;
  const ROUND_OFF = 1e-9;

  /** Cycles of the lightest tasks that make up a share of all, for each task that comes. */
  const lightest = (p, share) => share * p.work * (1 - p.spread) + share ** 2 * p.work * p.spread;

  /** Cycles a device can compute before its last deadline, for each task that comes. */
  const available = (p) =>
    (p.device_frequency * p.slot_duration * (p.slots + p.tau_max_slots)) / (p.arrival_probability * p.slots);

  /** The largest share of tasks that fits: the root of `lightest(p, share) = available(p)`. */
  function bound(p) {
    const [a, b] = [p.work * (1 - p.spread), p.work * p.spread];
    return Math.min(1, (2 * available(p)) / (a + Math.sqrt(a * a + 4 * b * available(p))));
  }

  /** Mean slots of a service, each rounded up (Eq. 3). */
  function wholeSlots(p) {
    const one = p.device_frequency * p.slot_duration;
    const [low, high] = [(p.work * (1 - p.spread)) / one, (p.work * (1 + p.spread)) / one];
    const up = (value) => Math.ceil(value - ROUND_OFF);
    if (up(low) === up(high)) return up(high);
    let sum = 0;
    for (let k = up(low); k <= up(high); k++) sum += k * (Math.min(k, high) - Math.max(k - 1, low));
    return sum / (high - low);
  }

  function results(p) {
    const coming = p.arrival_probability * p.work; // cycles a slot
    const able = p.device_frequency * p.slot_duration;
    const needed = lightest(p, p.share);
    return {
      coming: coming / p.slot_duration,
      able: p.device_frequency,
      all_local: coming / able,
      cycles: Math.min(1, able / coming),
      whole: Math.min(1, 1 / (p.arrival_probability * wholeSlots(p))),
      bound: bound(p),
      clock: (needed * p.arrival_probability * p.slots) / (p.slot_duration * (p.slots + p.tau_max_slots)),
      probability: (able * (p.slots + p.tau_max_slots)) / (needed * p.slots),
      busy: (p.load * able) / coming,
    };
  }

  const percent = (value) => `${number(100 * value)} %`;
  const work = (value) => `${number(value / 1e9)} Gcycles/s`;
  const ROWS = [
    ["coming", "work that comes to a device", work],
    ["able", "work that it can do", work],
    ["all_local", "busy share if all of it stays", percent],
    ["cycles", "share of the work it can do in the long run", percent],
    ["whole", "share of the tasks, if each takes whole slots (3)", percent],
    ["bound", "share that no rule exceeds in this episode", percent],
    ["clock", "clock below which TOPPO's share is out of reach", (v) => `${number(v / 1e9)} GHz`],
    ["probability", "arrivals above which it is out of reach", (v) => (v > 1 ? "never" : `${number(v)} a slot`)],
    [
      "busy",
      "share that stays, if the printed load is busy time",
      (v) => (v > 1 ? `${percent(v)}: more than comes` : percent(v)),
    ],
  ];
  const SLIDERS = [
    {
      name: "device_frequency",
      label: "Clock of a device",
      min: 0.5,
      max: 20,
      step: 0.1,
      scale: (v) => v * 1e9,
      unscale: (v) => v / 1e9,
      text: (v) => `${v} GHz`,
    },
    { name: "arrival_probability", label: "Arrivals a slot", min: 0.05, max: 1, step: 0.01, text: (v) => `${v}` },
    {
      name: "work",
      label: "Mean work of a task",
      min: 0.05,
      max: 3,
      step: 0.005,
      scale: (v) => v * 1e9,
      unscale: (v) => v / 1e9,
      text: (v) => `${v} Gcycles`,
    },
    { name: "slots", label: "Slots of an episode", min: 10, max: 1000, step: 10, text: (v) => `${v}` },
    { name: "tau_max_slots", label: "Deadline τ", min: 1, max: 30, step: 1, text: (v) => `${v} slots` },
  ];

  const sliders = Object.fromEntries(SLIDERS.map((entry) => [entry.name, slider(entry, () => render())]));
  const scenario = choice(Object.keys(scenarios), () => load());
  scenario.dataset.name = "scenario";
  const values = Object.fromEntries(ROWS.map(([key]) => [key, element("td", { "data-key": key })]));
  const verdict = element("p", { class: "pg-verdict" });
  const { line, say } = announcer();

  // The chart: share that can stay against arrivals.
  const [LEFT, RIGHT, LOW, HIGH] = [54, 408, 236, 16];
  const x = (probability) => LEFT + (RIGHT - LEFT) * probability;
  const y = (share) => LOW - (LOW - HIGH) * share;
  const curves = { cycles: "pg-curve-cycles", whole: "pg-curve-whole", bound: "pg-curve-bound" };
  const paths = Object.fromEntries(
    Object.entries(curves).map(([key, name]) => [key, svg("path", { class: `pg-curve ${name}` })]),
  );
  const beyond = svg("path", { class: "pg-beyond" });
  const wanted = svg("line", { class: "pg-wanted", x1: LEFT, x2: RIGHT });
  const wantedText = svg("text", { x: LEFT + 6, class: "pg-tick" });
  const mark = svg("path", { class: "pg-mark" });
  const ticks = [0, 0.2, 0.4, 0.6, 0.8, 1].flatMap((value) => [
    svg("text", { class: "pg-tick pg-middle", x: x(value), y: LOW + 16 }, `${value}`),
    svg("text", { class: "pg-tick pg-end", x: LEFT - 6, y: y(value) + 4 }, `${100 * value} %`),
  ]);
  const chart = svg(
    "svg",
    { viewBox: "0 0 420 276", class: "pg-chart", role: "img" },
    svg(
      "defs",
      {},
      svg(
        "pattern",
        { id: "pg-hatch", width: 7, height: 7, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
        svg("line", { x1: 0, x2: 0, y1: 0, y2: 7, class: "pg-hatch" }),
      ),
    ),
    beyond,
    svg("path", { class: "pg-frame", d: `M${LEFT} ${HIGH}V${LOW}H${RIGHT}` }),
    ...ticks,
    svg("text", { class: "pg-tick pg-middle", x: (LEFT + RIGHT) / 2, y: LOW + 34 }, "arrivals a slot"),
    wanted,
    ...Object.values(paths),
    wantedText,
    mark,
  );
  const legend = element(
    "ul",
    { class: "pg-legend" },
    ...[
      ["pg-curve-bound", "no rule gets above this in the episode"],
      ["pg-curve-cycles", "work it can do in the long run"],
      ["pg-curve-whole", "the same in whole slots"],
      ["pg-wanted", "TOPPO's printed share"],
    ].map(([name, words]) =>
      element(
        "li",
        {},
        svg(
          "svg",
          { viewBox: "0 0 26 10", "aria-hidden": "true" },
          svg("path", { d: "M1 5H25", class: `pg-curve ${name}` }),
        ),
        ` ${words}`,
      ),
    ),
  );

  function draw(p, found) {
    const grid = Array.from({ length: 197 }, (_, i) => 0.02 + 0.005 * i);
    for (const key of Object.keys(curves)) {
      const points = grid.map(
        (probability) =>
          `${x(probability).toFixed(1)} ${y(results({ ...p, arrival_probability: probability })[key]).toFixed(1)}`,
      );
      paths[key].setAttribute("d", `M${points.join("L")}`);
      if (key === "bound") beyond.setAttribute("d", `M${points.join("L")}V${HIGH}H${x(grid[0])}Z`);
    }
    wanted.setAttribute("y1", y(p.share));
    wanted.setAttribute("y2", y(p.share));
    wantedText.setAttribute("y", y(p.share) + 14);
    wantedText.textContent = percent(p.share);
    const [cx, cy, possible] = [x(p.arrival_probability), y(p.share), found.bound >= p.share];
    mark.setAttribute(
      "d",
      possible ? `M${cx - 6} ${cy}a6 6 0 1 0 12 0a6 6 0 1 0 -12 0z` : `M${cx - 6} ${cy - 6}l12 12m0-12l-12 12`,
    );
    mark.setAttribute("class", `pg-mark ${possible ? "pg-possible" : "pg-impossible"}`);
    chart.setAttribute(
      "aria-label",
      `Share that can stay against arrivals; at ${p.arrival_probability} a slot at most ${percent(found.bound)}`,
    );
  }

  function judge(p, found) {
    const [share, most, whole] = [percent(p.share), percent(found.bound), percent(found.whole)];
    const busy =
      found.busy > 1 ? ` Were the load of ${p.load} its busy time, more tasks would have to stay than come.` : "";
    if (found.bound < p.share)
      return `✕ ${share} local is impossible: whatever a rule knows, at most ${most} of the tasks can stay.${busy}`;
    if (found.whole < p.share)
      return `✓ ${share} local is possible here, but in whole slots a device can go on with only ${whole}.${busy}`;
    return `✓ ${share} local is possible: a device can do ${whole} even in whole slots.${busy}`;
  }

  function load() {
    for (const [name, entry] of Object.entries(sliders)) entry.set(scenarios[scenario.value][name]);
    render();
  }

  function render() {
    const p = {
      ...scenarios[scenario.value],
      ...Object.fromEntries(Object.entries(sliders).map(([name, entry]) => [name, entry.get()])),
    };
    const found = results(p);
    for (const [key, , text] of ROWS) show(values[key], found[key], text(found[key]));
    draw(p, found);
    verdict.textContent = judge(p, found);
    say(verdict.textContent);
  }

  load();
  return [
    element(
      "div",
      { class: "pg-controls" },
      field("Network", scenario),
      element("button", { type: "button", "data-name": "reset", click: load }, "Back to its values"),
    ),
    element("div", { class: "pg-sliders" }, ...Object.values(sliders).map(({ row }) => row)),
    verdict,
    element(
      "div",
      { class: "pg-sides" },
      element("div", {}, chart, legend),
      element(
        "table",
        { class: "pg-terms" },
        element("caption", {}, "The same in numbers"),
        element(
          "tbody",
          {},
          ...ROWS.map(([key, label]) => element("tr", {}, element("th", { scope: "row" }, label), values[key])),
        ),
      ),
    ),
    line,
  ];
});
