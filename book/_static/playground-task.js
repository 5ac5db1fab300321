// The board of one task: sliders, its stages on a line of slots, and every term of its costs with its equation.
"use strict";

playground.mount("task", ({ scenarios }) => {
  const { element, number, joules, show, field, choice, slider, announcer } = playground;
  const { onDevice, onServer, ROUND_OFF } = playground.costs;

  // What is shown of each: row label, group of bars, and for device and server the key, the symbol and its equation.
  const slots = (value) => `${number(value)} ${value === 1 ? "slot" : "slots"}`;
  const ROWS = [
    ["rate of the channel", "", (v) => `${number(v / 1e6)} Mbit/s`, null, ["rate", "r", 13]],
    ["wait for the channel", "slots", slots, null, ["queue", "D<sup>wait</sup>", 2]],
    ["sending", "slots", slots, null, ["sending", "D<sup>trans</sup>", 14]],
    [
      "wait for the processor",
      "slots",
      slots,
      ["wait", "D<span class='pg-both'><sup>wait</sup><sub>m</sub></span>", 2],
      ["wait", "D<span class='pg-both'><sup>wait</sup><sub>n</sub></span>", 18],
    ],
    ["computing", "slots", slots, ["service", "D<sup>com</sup>", 3], ["service", "D<sup>com</sup>", 18]],
    ["ends in slot", "", (v) => number(v), ["end", "D<sup>end</sup>", 4], ["end", "D<sup>end</sup>", 4]],
    ["delay, booked", "slots", slots, ["delay"], ["delay"]],
    ["energy of the radio", "joules", joules, null, ["energy_radio", "E<sup>trans</sup>", 16]],
    [
      "energy of waiting",
      "joules",
      joules,
      ["energy_waiting", "E<span class='pg-both'><sup>wait</sup><sub>m</sub></span>", 7],
      ["energy_waiting", "E<span class='pg-both'><sup>wait</sup><sub>n</sub></span>", 20],
    ],
    [
      "power of computing",
      "watts",
      (v) => (v >= 1e3 ? `${number(v / 1e3)} kW` : `${number(v)} W`),
      ["power", "P<sup>InDe</sup>", 8],
      ["power", "P<sup>edge</sup>", 21],
    ],
    [
      "energy of computing",
      "joules",
      joules,
      ["energy_computing", "E<span class='pg-both'><sup>comp</sup><sub>m</sub></span>", 9],
      ["energy_computing", "E<span class='pg-both'><sup>comp</sup><sub>n</sub></span>", 22],
    ],
    ["energy of the server", "joules", joules, null, ["energy_edge", "E<sup>edge</sup>", 23]],
    [
      "energy of the whole task",
      "joules",
      joules,
      ["energy", "E<sup>InDe</sup>", 6],
      ["energy", "E<sup>trans</sup> + E<sup>edge</sup>"],
    ],
    ["energy, booked", "joules", joules, ["booked"], ["booked"]],
    ["load, first slot of computing", "share", (v) => number(v), ["load", "L", 12], null],
  ];

  const giga = { scale: (v) => v * 1e9, unscale: (v) => v / 1e9, text: (v) => `${v} GHz` };
  const mega = { scale: (v) => v * 1e6, unscale: (v) => v / 1e6 };
  const SLIDERS = [
    { name: "size", label: "Size x", min: 0.5, max: 12, step: 0.1, ...mega, text: (v) => `${v} Mbit` },
    { name: "density", label: "Density ρ", min: 5, max: 1200, step: 1, text: (v) => `${v} cycles/bit` },
    { name: "device_frequency", label: "Clock of the device", min: 1, max: 10, step: 0.1, ...giga },
    { name: "server_frequency", label: "Clock of the server", min: 5, max: 60, step: 0.1, ...giga },
    {
      name: "gain",
      label: "Gain of the channel |h|²",
      min: -20,
      max: 10,
      step: 0.5,
      scale: (v) => 10 ** (v / 10),
      unscale: (v) => 10 * Math.log10(v),
      text: (v) => `${v} dB`,
    },
    { name: "transmission_power", label: "Power of the radio", min: 0.1, max: 10, step: 0.1, text: (v) => `${v} W` },
    { name: "device_backlog", label: "Before the processor", min: 0, max: 20, step: 1, text: slots },
    { name: "channel_backlog", label: "Before the channel", min: 0, max: 20, step: 1, text: slots },
    { name: "server_backlog", label: "Before the server", min: 0, max: 20, step: 0.5, text: slots },
    { name: "tau_max_slots", label: "Deadline τ", min: 1, max: 30, step: 1, text: slots },
  ];
  const IDLE = { gain: 1, device_backlog: 0, channel_backlog: 0, server_backlog: 0 };
  const STAGES = {
    queue: "waits for the channel",
    sending: "is sent",
    wait: "waits for the processor",
    computing: "is computed",
  };
  const READINGS = {
    drop_rule: [
      "10",
      { deadline: "dropped if not done in time", wait: "dropped if not begun in time, else served to the end" },
    ],
    device_rounding: ["9", { ceil: "whole slots on the device", none: "parts of slots on the device" }],
    server_rounding: ["9", { ceil: "whole slots on the server", none: "parts of slots on the server" }],
    transmission_rounding: ["9", { ceil: "whole slots on the channel", none: "parts of slots on the channel" }],
    channel_queue: [
      "11",
      {
        per_channel: "each channel has a queue",
        per_device: "one queue for all channels of a device",
        none: "no queue before a channel",
      },
    ],
    edge_wait_from: [
      "8",
      {
        arrival: "the server's wait counts from the arrival",
        decision: "the server's wait counts from the decision: sending is booked twice",
      },
    ],
    dropped_energy: [
      "21",
      {
        spent: "a dropped task is charged what it took",
        full: "a dropped task is charged in full",
        none: "a dropped task is charged nothing",
      },
    ],
    load: [
      "13",
      {
        busy_share: "load: share of the slot in which the device computes",
        literal: "load: Eq. (12) without Δt",
        local_share: "load: share of local tasks; shown is the share of the slot",
      },
    ],
  };

  // The right-hand side of each equation with the numbers of the sliders in it.
  const put = {
    constant: (p) => (p.capacitance === 1e-26 ? "10⁻²⁶" : `${p.capacitance}`),
    size: (p) => `${number(p.size / 1e6)} Mbit`,
    work: (p) => `${number(p.size / 1e6)} Mbit · ${number(p.density)}`,
    clock: (p, side) => `${number(p[`${side}_frequency`] / 1e9)} GHz`,
    positive: (value, less) => `[${number(value)} − ${number(less)}]⁺`,
    whole: (text, rounded) => (rounded ? `⌈${text}⌉` : text),
  };
  const service = (p, side, rounded) =>
    put.whole(`${put.work(p)} / (${put.clock(p, side)} · ${p.slot_duration} s)`, rounded);
  const ending = (p, x, r) => {
    const before = x.stages.slice(0, -1).reduce((sum, [, slots]) => sum + slots, 0);
    const finish = `${number(before)} + ${number(x.service)} − 1`;
    return r.drop_rule === "wait" && !x.dropped ? finish : `min(${finish}, ${p.tau_max_slots} − 1)`;
  };
  const waiting = (p, x) => `${p.waiting_power} W · ${number(x.wait)} · ${p.slot_duration} s`;
  const FORMULAS = {
    "device.wait": (p) => put.positive(p.device_backlog, 0),
    "device.service": (p, x, r) => service(p, "device", r.device_rounding === "ceil"),
    "device.end": ending,
    "device.energy_waiting": waiting,
    "device.power": (p) => `${put.constant(p)} · (${put.clock(p, "device")})³`,
    "device.energy_computing": (p) => `${put.constant(p)} · (${put.clock(p, "device")})² · ${put.work(p)}`,
    "device.energy": (p, x) => `${joules(x.energy_waiting)} + ${joules(x.energy_computing)}`,
    "server.rate": (p) =>
      `${p.bandwidth / 1e6} MHz · log₂(1 + ${number(p.gain)} · ${number(p.transmission_power)} W / ${number(p.noise)} W)`,
    "server.queue": (p, x, r) => (r.channel_queue === "none" ? "no queue" : put.positive(p.channel_backlog, 0)),
    "server.sending": (p, x, r) =>
      put.whole(
        `${put.size(p)} / (${number(x.rate / 1e6)} Mbit/s · ${p.slot_duration} s)`,
        r.transmission_rounding === "ceil",
      ),
    "server.wait": (p, x, r) =>
      put.positive(p.server_backlog, x.queue + x.sending) +
      (r.edge_wait_from === "decision" && !x.dropped ? ` + ${number(x.queue + x.sending)}` : ""),
    "server.service": (p, x, r) => service(p, "server", r.server_rounding === "ceil"),
    "server.end": ending,
    "server.energy_radio": (p, x) =>
      `${number(p.transmission_power)} W · ${put.size(p)} / ${number(x.rate / 1e6)} Mbit/s`,
    "server.energy_waiting": waiting,
    "server.power": (p) => `${put.constant(p)} · (${put.clock(p, "server")})³`,
    "server.energy_computing": (p) => `${put.constant(p)} · (${put.clock(p, "server")})² · ${put.work(p)}`,
    "server.energy_edge": (p, x) => `${joules(x.energy_waiting)} + ${joules(x.energy_computing)}`,
    "server.energy": (p, x) => `${joules(x.energy_radio)} + ${joules(x.energy_edge)}`,
  };

  const link = (n) => element("a", { href: `one_task.html#eq-${n}` }, `(${n})`);
  const sliders = Object.fromEntries(SLIDERS.map((entry) => [entry.name, slider(entry, () => render())]));
  const names = Object.keys(scenarios);
  const scenario = choice(names, () => load());
  scenario.dataset.name = "scenario";
  const readings = element("ul", { class: "pg-readings" });
  const verdict = element("p", { class: "pg-verdict" });
  const { line, say } = announcer();

  function cell(side, entry) {
    if (!entry) return { node: element("td", { class: "pg-none" }, "–") };
    const [key, symbol, n] = entry;
    const name = element("span", { class: "pg-symbol" });
    name.innerHTML = symbol || "";
    if (n) name.append(" ", link(n));
    const value = element("span", { class: "pg-value", "data-key": `${side}.${key}` });
    const bar = element("span", { class: `pg-bar pg-${side}` });
    const formula = element("span", { class: "pg-formula" });
    return { key, value, bar, formula, node: element("td", {}, value, " ", name, formula, bar) };
  }
  const table = ROWS.map(([label, group, text, local, edge]) => ({
    label,
    group,
    text,
    device: cell("device", local),
    server: cell("server", edge),
  }));

  function lane(title) {
    const fate = element("span", { class: "pg-fate" });
    const bars = element("div", { class: "pg-stages" });
    return {
      fate,
      bars,
      node: element(
        "div",
        { class: "pg-lane" },
        element("div", { class: "pg-lane-title" }, element("b", {}, title), " ", fate),
        bars,
      ),
    };
  }
  const lanes = { device: lane("On the device"), server: lane("On the server") };
  const axis = element("div", { class: "pg-axis", "aria-hidden": "true" });

  /** The stages of a task as bars on a line of slots; what a dropped task did not get is only outlined. */
  function drawLane({ fate, bars }, side, result, length, tau) {
    const at = (slot) => `${(100 * slot) / length}%`;
    const deadline = element("span", { class: "pg-deadline" });
    deadline.style.left = at(tau);
    bars.replaceChildren(deadline);
    let from = 0;
    for (const [name, whole, had] of result.stages) {
      for (const [begin, width, style] of [
        [from, had, `pg-stage-${name}`],
        [from + had, whole - had, "pg-stage-lost"],
      ]) {
        if (width <= ROUND_OFF) continue;
        const bar = element("span", { class: `pg-stage ${style}`, title: `${STAGES[name]}: ${slots(width)}` });
        bar.style.left = at(begin);
        bar.style.width = at(width);
        bars.append(bar);
      }
      from += whole;
    }
    fate.textContent = result.dropped
      ? `✕ dropped after ${slots(result.delay)}`
      : `✓ done after ${slots(result.delay)}`;
    fate.dataset.key = `${side}.dropped`;
    fate.dataset.value = result.dropped;
    fate.classList.toggle("pg-late", result.dropped);
  }

  function compare(device, server, step) {
    const fate = (place, { dropped, delay, booked }) =>
      `On the ${place} it is ${dropped ? "dropped" : "done"} after ${number(delay * step)} s, for ${joules(booked)}.`;
    const both = `${fate("device", device)} ${fate("server", server)}`;
    if (device.dropped && server.dropped) return `${both} It fails either way.`;
    if (device.dropped || server.dropped) return `${both} Only ${device.dropped ? "leaving" : "staying"} saves it.`;
    const gap = device.delay - server.delay;
    const faster =
      Math.abs(gap) < ROUND_OFF ? "Both take the same time" : `${gap > 0 ? "Leaving" : "Staying"} is faster`;
    return `${both} ${faster}; leaving takes ${number(server.booked / device.booked)} times the energy.`;
  }

  function load() {
    const start = { ...scenarios[scenario.value], ...IDLE };
    for (const [name, entry] of Object.entries(sliders)) entry.set(start[name]);
    const chosen = start.readings;
    sliders.channel_backlog.disable(chosen.channel_queue === "none");
    readings.replaceChildren(
      ...Object.entries(READINGS).map(([name, [n, words]]) =>
        element(
          "li",
          {},
          `${words[chosen[name]]} (`,
          element("a", { href: `../book/readings.html#r${n}` }, `R${n}`),
          ")",
        ),
      ),
    );
    render();
  }

  function render() {
    const fixed = scenarios[scenario.value];
    const p = { ...fixed, ...Object.fromEntries(Object.entries(sliders).map(([name, entry]) => [name, entry.get()])) };
    const found = { device: onDevice(p, fixed.readings), server: onServer(p, fixed.readings) };
    const most = {};
    for (const { group, device, server } of table) {
      for (const [side, { key }] of [
        ["device", device],
        ["server", server],
      ]) {
        if (key) most[group] = Math.max(most[group] || 0, Math.abs(found[side][key]));
      }
    }
    most.share = 1;
    for (const { group, text, ...sides } of table) {
      for (const side of ["device", "server"]) {
        const { key, value, bar, formula } = sides[side];
        if (!key) continue;
        const put = FORMULAS[`${side}.${key}`];
        formula.textContent = put ? `= ${put(p, found[side], fixed.readings)}` : "";
        show(value, found[side][key], text(found[side][key]));
        bar.style.width = group ? `${(100 * found[side][key]) / (most[group] || 1)}%` : "0";
      }
    }
    const whole = (result) => result.stages.reduce((sum, [, slot]) => sum + slot, 0);
    const length = Math.max(p.tau_max_slots + 1, Math.ceil(Math.max(whole(found.device), whole(found.server))));
    for (const side of ["device", "server"]) drawLane(lanes[side], side, found[side], length, p.tau_max_slots);
    const every = Math.ceil(length / 12);
    axis.replaceChildren(
      ...Array.from({ length: Math.floor(length / every) + 1 }, (_, k) => {
        const tick = element("span", {}, `${k * every}`);
        tick.style.left = `${(100 * k * every) / length}%`;
        return tick;
      }),
    );
    verdict.textContent = compare(found.device, found.server, p.slot_duration);
    say(verdict.textContent);
  }

  const key = element(
    "ul",
    { class: "pg-legend" },
    ...Object.entries(STAGES).map(([name, words]) =>
      element("li", {}, element("span", { class: `pg-swatch pg-stage-${name}` }), ` ${words}`),
    ),
    element("li", {}, element("span", { class: "pg-swatch pg-stage-lost" }), " not reached"),
  );
  load();
  return [
    element(
      "div",
      { class: "pg-controls" },
      field("Network", scenario),
      element("button", { type: "button", "data-name": "reset", click: load }, "Back to its values"),
    ),
    element("div", { class: "pg-sliders" }, ...Object.values(sliders).map(({ row }) => row)),
    element(
      "div",
      {
        class: "pg-lanes",
        role: "img",
        "aria-label": "The stages of the task on a line of slots; the table below has their lengths",
      },
      lanes.device.node,
      lanes.server.node,
      axis,
      element("div", { class: "pg-axis-label" }, "slots since the decision; the upright line is the deadline"),
    ),
    key,
    verdict,
    element(
      "table",
      { class: "pg-terms pg-device-server" },
      element("caption", {}, "The same in numbers, each beside its equation with the values of the sliders in it"),
      element(
        "thead",
        {},
        element(
          "tr",
          {},
          element("td"),
          element("th", { scope: "col" }, "on the device"),
          element("th", { scope: "col" }, "on the server"),
        ),
      ),
      element(
        "tbody",
        {},
        ...table.map(({ label, device, server }) =>
          element("tr", {}, element("th", { scope: "row" }, label), device.node, server.node),
        ),
      ),
    ),
    element("p", { class: "pg-note" }, "Readings of this scenario:"),
    readings,
    line,
  ];
});
