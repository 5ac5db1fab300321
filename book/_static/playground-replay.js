// The replay of an episode: devices, channels and servers of each policy, slot by slot.
"use strict";

/** An episode under the policies of some names: its parts, and where the reader is. `moved` is told when that changes. */
playground.scene = (data, section, names, set, moved) => {
  const { element, svg, number, joules, show, labelled, field, choice, announcer } = playground;
  const { runs, last, longest, stage, count, EPS } = playground.episode(data);
  const { tasks, clocks, step } = data;
  const devices = clocks.device.length;
  const servers = clocks.server.length;
  const ROW = 3; // tasks side by side at a server
  const [WIDTH, BASE, AIR, TOP, PITCH] = [340, 92, 226, 248, 11]; // of the picture, and where things stand in it
  const deviceX = (m) => 5.5 + ((m + 0.5) * (WIDTH - 11)) / devices;
  const serverX = (n) => ((n - 0.5) * WIDTH) / servers;

  const SHAPES = {
    computing: "M-4.5-4.5h9v9h-9z",
    waiting: "M-3.7-3.7h7.4v7.4h-7.4z",
    sending: "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",
    queued: "M-3.4,0a3.4,3.4 0 1,0 6.8,0a3.4,3.4 0 1,0 -6.8,0z",
    dropped: "M-4-4L4,4M4-4L-4,4",
  };
  const WORDS = {
    computing: "being computed",
    waiting: "waiting for a processor",
    sending: "on the air",
    queued: "waiting for its channel",
    dropped: "dropped in the slot before",
  };

  /** Where tasks are drawn in the view of slot t: index -> [x, y, stage]. */
  function layout(run, t) {
    const at = new Map();
    const height = {}; // of each stack
    const stack = (key) => (height[key] = (height[key] || 0) + 1) - 1;
    const point = (i, along) => {
      const [x, to] = [deviceX(tasks.device[i]), serverX(run.place[i])];
      return [x + (to - x) * along, BASE + 12 + (AIR - BASE - 16) * along];
    };
    const place = (i, where) => {
      const [m, n] = [tasks.device[i], run.place[i]];
      if (!n) at.set(i, [deviceX(m), BASE - 6 - 10 * stack(`device ${m}`), where]);
      else {
        const k = stack(`server ${n}`);
        at.set(i, [serverX(n) + PITCH * ((k % ROW) - (ROW - 1) / 2), TOP + 10 + PITCH * Math.floor(k / ROW), where]);
      }
    };
    const lost = [];
    const oldest = tasks.slot.findIndex((slot) => slot >= t - longest); // all before have long been gone
    for (let i = Math.max(oldest, 0); i < tasks.slot.length && tasks.slot[i] <= t; i++) {
      const where = stage(run, i, t);
      if (where === "queued") {
        const [x, y] = point(i, 0);
        at.set(i, [x, y + 7 * stack(`channel ${tasks.device[i]}`), where]);
      } else if (where === "sending") {
        const along = (t - run.sent[i]) / (run.arrived[i] - run.sent[i]);
        at.set(i, [...point(i, 0.08 + 0.92 * along), where]);
      } else if (where === "dropped") {
        if (run.ended[i] > t - 1 + EPS) lost.push(i);
      } else if (where !== "done") place(i, where);
    }
    for (const i of lost) {
      const reached = !run.place[i] || run.ended[i] - run.arrived[i] > EPS;
      if (reached) place(i, "dropped");
      else at.set(i, [...point(i, run.sending[i] > EPS ? 0.8 : 0), "dropped"]);
    }
    return at;
  }

  // As high as the longest queues need it, so that the picture never jumps.
  const deepest = Math.max(
    ...Object.values(runs).flatMap((run) =>
      Array.from({ length: last + 1 }, (_, t) => Math.max(...[...layout(run, t).values()].map(([, y]) => y), TOP)),
    ),
  );
  const HEIGHT = deepest + 26;

  function panel(name) {
    const run = runs[name];
    const column = svg("rect", { class: "pg-column", y: 18, width: PITCH + 2, height: BASE + 10 - 18, rx: 2 });
    const lines = svg("g", { class: "pg-lines" });
    const marks = svg("g", { class: "pg-tasks" });
    const spots = clocks.device.map((clock, m) =>
      svg(
        "rect",
        { class: "pg-spot", "data-device": m, x: deviceX(m) - 4.5, y: BASE, width: 9, height: 4 },
        svg("title", {}, `Device ${m + 1}, ${number(clock)} GHz`),
      ),
    );
    const boxes = clocks.server.map((clock, i) => {
      const x = serverX(i + 1);
      const state = svg("text", { class: "pg-state", x, y: TOP + 14 });
      const box = svg("rect", {
        class: "pg-server",
        "data-server": i + 1,
        x: x - 19,
        y: TOP - 2,
        width: 38,
        height: HEIGHT - TOP,
        rx: 3,
      });
      const label = svg("text", { class: "pg-number", x, y: TOP - 7 }, `${i + 1}`);
      const speed = svg("text", { class: "pg-clock", x, y: HEIGHT - 7 }, number(clock));
      return {
        box,
        state,
        whole: svg("g", {}, svg("title", {}, `Server ${i + 1}, ${number(clock)} GHz`), box, label, state, speed),
      };
    });
    const caption = (y, text) => svg("text", { class: "pg-caption", x: 2, y }, text);
    const picture = svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT + 18}`, role: "img", click: (event) => pick(event, picture) },
      column,
      lines,
      ...spots,
      ...boxes.map((box) => box.whole),
      marks,
      caption(12, `devices 1 to ${devices}`),
      caption(HEIGHT + 12, `servers 1 to ${servers}, with their clocks in GHz`),
    );
    const figure = element(
      "figure",
      { class: "pg-panel", "data-policy": name },
      element("figcaption", {}, name),
      picture,
    );
    const drawn = new Map();

    function draw(t, chosen) {
      const at = layout(run, t);
      const now = count(run, t);
      for (const [i, node] of drawn) {
        if (!at.has(i)) {
          node.remove();
          drawn.delete(i);
        }
      }
      for (const i of at.keys()) {
        if (drawn.has(i)) continue;
        const node = svg("path", {});
        node.style.transform = `translate(${deviceX(tasks.device[i])}px, ${BASE - 6}px)`;
        drawn.set(i, node);
        marks.append(node);
      }
      marks.getBoundingClientRect(); // laid out once here, so that new tasks glide away from their devices
      for (const [i, [x, y, where]] of at) {
        const node = drawn.get(i);
        node.setAttribute("d", SHAPES[where]);
        node.setAttribute(
          "class",
          `pg-${where} ${run.place[i] ? "pg-away" : "pg-home"}${tasks.device[i] === chosen ? " pg-chosen" : ""}`,
        );
        node.style.transform = `translate(${x}px, ${y}px)`;
      }
      lines.replaceChildren();
      for (const [i, [, , where]] of at) {
        const own = tasks.device[i] === chosen && (where === "sending" || where === "queued");
        if (run.place[i] && (tasks.slot[i] === t || own)) {
          const ends = { x1: deviceX(tasks.device[i]), y1: BASE + 6, x2: serverX(run.place[i]), y2: AIR };
          lines.append(svg("line", { class: own ? "pg-chosen" : "", ...ends }));
        }
      }
      column.setAttribute("x", deviceX(chosen) - PITCH / 2 - 1);
      now.device.forEach((queue, m) => Object.assign(spots[m].dataset, queue));
      now.server.forEach((queue, i) => {
        Object.assign(boxes[i].box.dataset, queue);
        const rest = queue.computing ? "" : queue.waiting ? "held" : "idle";
        boxes[i].box.setAttribute("class", `pg-server pg-${rest || "busy"}`);
        boxes[i].state.textContent = rest;
        boxes[i].state.setAttribute(
          "y",
          rest === "held" ? TOP + 8 + PITCH * Math.ceil(queue.waiting / ROW) + 8 : TOP + 14,
        );
      });
      const inside = Object.entries(WORDS).map(([kind, words]) => [
        [...at.values()].filter((spot) => spot[2] === kind).length,
        words,
      ]);
      picture.setAttribute(
        "aria-label",
        `${name}, slot ${t}: ${inside.map(([n, words]) => `${n} ${words}`).join(", ")}`,
      );
      return now;
    }
    return { figure, draw };
  }

  function pick(event, picture) {
    const box = picture.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * WIDTH;
    const m = Math.round(((x - 5.5) * devices) / (WIDTH - 11) - 0.5);
    device.value = String(Math.min(Math.max(m, 0), devices - 1));
    render(false);
  }

  const ROWS = [
    ["new tasks that stay", "stay", (now) => [now.stay, `${now.stay}`]],
    ["new tasks that leave", "leave", (now) => [now.leave, `${now.leave}`]],
    ["of these to the same server", "crowd", (now) => [now.crowd, `${now.crowd}`]],
    ["servers idle", "idle", (now) => [now.idle, `${now.idle} of ${servers}`]],
    ["servers held", "held", (now) => [now.held, `${now.held} of ${servers}`]],
    ["tasks in the network", "present", (now) => [now.present, `${now.present}`]],
    ["of these waiting", "waiting", (now) => [now.waiting, `${now.waiting}`]],
    ["tasks done so far", "done", (now) => [now.done, `${now.done}`]],
    ["tasks dropped so far", "dropped", (now) => [now.dropped, `${now.dropped}`]],
    ["energy of done and dropped", "energy", (now) => [now.energy, joules(now.energy)]],
    ["mean delay of tasks done", "delay", (now) => [now.delay, `${number(now.delay)} s`]],
  ];

  const panels = names.map(panel);
  const cells = ROWS.map(([, key]) => names.map((name) => element("td", { "data-key": key, "data-policy": name })));
  const totals = element(
    "table",
    { class: "pg-totals" },
    element("caption", {}, "In this slot and so far"),
    element(
      "thead",
      {},
      element("tr", {}, element("td"), ...names.map((name) => element("th", { scope: "col" }, name))),
    ),
    element(
      "tbody",
      {},
      ...ROWS.map(([label], r) => element("tr", {}, element("th", { scope: "row" }, label), ...cells[r])),
    ),
  );

  let playing = 0;
  const { line, say, hush } = announcer();
  const slot = element("input", {
    type: "range",
    min: 0,
    max: last,
    step: 1,
    value: 0,
    "data-name": "slot",
    input: () => go(Number(slot.value)),
  });
  const where = element("span", { class: "pg-value", "data-key": "slot" });
  const button = (text, name, listener) =>
    element("button", { type: "button", "data-name": name, click: listener }, text);
  const play = button("Play", "play", () => (playing ? stop() : start()));
  const back = button("Step back", "back", () => go(Number(slot.value) - 1));
  const forth = button("Step forward", "forward", () => go(Number(slot.value) + 1));
  const speed = choice(["1", "2", "4", "8"], () => playing && (stop(), start()));
  speed.value = set.speed;
  const device = choice(
    clocks.device.map((_, m) => String(m)),
    () => render(false),
  );
  [...device.options].forEach((option, m) => (option.textContent = `${m + 1} (${number(clocks.device[m])} GHz)`));
  const stories = element("ul", { class: "pg-stories" });
  const shown = element(
    "fieldset",
    { class: "pg-shown" },
    element("legend", {}, "Show"),
    ...names.map((name, k) => {
      const radio = element("input", {
        type: "radio",
        name: `pg-shown-${names.join()}`,
        value: name,
        change: () => choose(name),
      });
      radio.checked = k === names.length - 1;
      return element("label", {}, radio, ` ${name}`);
    }),
  );
  const choose = (name) =>
    panels.forEach(({ figure }) => figure.classList.toggle("pg-unchosen", figure.dataset.policy !== name));

  const legend = element(
    "ul",
    { class: "pg-legend" },
    ...Object.entries(WORDS).map(([kind, words]) => {
      const mark = (place) =>
        svg(
          "svg",
          { viewBox: "-6 -6 12 12", "aria-hidden": "true" },
          svg("path", { d: SHAPES[kind], class: `pg-${kind} pg-${place}` }),
        );
      const marks =
        kind === "dropped"
          ? [mark("home")]
          : kind === "sending" || kind === "queued"
            ? [mark("away")]
            : [mark("home"), mark("away")];
      return element("li", {}, ...marks, ` ${words}`);
    }),
    element("li", {}, element("b", {}, "idle"), ": no task"),
    element("li", {}, element("b", {}, "held"), ": for a task decided earlier that is still on the air"),
  );

  /** A task in words, as far as it is known in slot t. */
  function story(run, i, t) {
    const place = run.place[i] ? `server ${run.place[i]}` : "the device";
    const where = stage(run, i, t);
    const took = `${number((run.ended[i] - tasks.slot[i]) * step)}\u00a0s, ${joules(run.energy[i])}`;
    if (where === "done") return `done on ${place}: ${took}`;
    if (where === "dropped") {
      const stages = {
        channel_wait: "waiting for its channel",
        sending: "on the air",
        wait: `waiting for ${place}`,
        computing: `being computed on ${place}`,
      };
      const reached = Object.keys(stages)
        .filter((name) => run[name][i] > EPS)
        .pop();
      return `dropped while ${stages[reached]}: ${took}`;
    }
    const since = { queued: tasks.slot[i], sending: run.sent[i], waiting: run.arrived[i], computing: run.begun[i] }[
      where
    ];
    const doing = {
      queued: `waits for its channel to ${place}`,
      sending: `on the air to ${place}`,
      waiting: `waits for ${place}`,
      computing: `computed on ${place}`,
    };
    const slots = Math.floor(t - since + EPS);
    return `${doing[where]}, ${slots ? `${slots} slot${slots > 1 ? "s" : ""} so far` : "since now"}`;
  }

  function tell(t, m) {
    const known = tasks.slot.map((_, i) => i).filter((i) => tasks.device[i] === m && tasks.slot[i] <= t);
    stories.replaceChildren(
      ...known
        .slice(-9)
        .reverse()
        .map((i) =>
          element(
            "li",
            { "data-task": i },
            `Slot ${tasks.slot[i]}: ${number(tasks.size[i])} Mbit, ${number(tasks.work[i])} Gcycles`,
            element(
              "dl",
              {},
              ...names.flatMap((name) => [
                element("dt", {}, name),
                element("dd", { "data-policy": name }, story(runs[name], i, t)),
              ]),
            ),
          ),
        ),
    );
    if (!known.length) stories.append(element("li", {}, "No task yet."));
  }

  function render(talk = true) {
    const [t, m] = [Number(slot.value), Number(device.value)];
    const found = panels.map(({ draw }) => draw(t, m));
    ROWS.forEach(([, , value], r) => found.forEach((now, k) => show(cells[r][k], ...value(now))));
    show(where, t, t < data.slots ? `slot ${t}` : `slot ${t}, no new tasks`);
    slot.setAttribute("aria-valuetext", where.textContent);
    tell(t, m);
    if (playing) hush();
    else if (talk)
      say(
        `Slot ${t}. ` +
          names
            .map(
              (name, k) =>
                `${name}: ${found[k].present} in the network, ${found[k].done} done, ${found[k].dropped} dropped`,
            )
            .join(". ") +
          ".",
      );
  }

  function go(t) {
    stop();
    slot.value = t;
    render();
    moved();
  }
  function start() {
    if (Number(slot.value) >= last) slot.value = 0;
    section.style.setProperty("--pg-glide", `${Math.min(0.4, 0.7 / Number(speed.value))}s`);
    play.textContent = "Pause";
    playing = setInterval(
      () => {
        slot.value = Number(slot.value) + 1;
        if (Number(slot.value) >= last) stop();
        render();
      },
      1000 / Number(speed.value),
    );
  }
  function stop() {
    clearInterval(playing);
    playing = 0;
    play.textContent = "Play";
  }

  slot.value = Math.min(Math.max(Math.round(set.at) || 0, 0), last);
  device.value = set.device;
  choose(names[names.length - 1]);
  render(false);
  const controls = element(
    "div",
    { class: "pg-controls" },
    play,
    back,
    forth,
    element("div", { class: "pg-slider" }, ...labelled("Slot", slot), where),
    field("Slots a second", speed),
  );
  const pictures = element("div", { class: "pg-panels" }, ...panels.map(({ figure }) => figure));
  const follow = element("div", { class: "pg-controls" }, field("Follow device", device));
  return {
    controls,
    rest: [legend, shown, pictures, totals, follow, stories, line],
    glance: () => [pictures, element("div", { class: "pg-controls" }, play, where), line],
    now: () => ({ at: Number(slot.value), speed: speed.value, device: device.value }),
    start,
    stop,
  };
};

playground.mount("replay", (data, section) => {
  const { element, field, choice } = playground;
  const { recordings } = data;
  const first = recordings[0];
  const state = { network: first.network, seed: first.seed, policies: data.shown, at: data.start };
  const set = { at: data.start, speed: "2", device: "0" };
  const [top, rest] = [element("div"), element("div")];
  let scene = null;

  const word = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, "-");
  const named = (entries, wanted) => entries.find((entry) => word(entry) === word(wanted || ""));
  const different = (key, entries) => [...new Set(entries.map((entry) => entry[key]))];
  const networks = different("network", recordings);
  const seeds = () =>
    different(
      "seed",
      recordings.filter((entry) => entry.network === state.network),
    );

  /** Take from the address what is recorded: `#at=45&network=...&seed=...&policies=one,other`. */
  function read() {
    const asked = new URLSearchParams(location.hash.slice(1));
    if (!asked.has("at")) return;
    set.at = Number(asked.get("at"));
    state.network = named(networks, asked.get("network")) || state.network;
    state.seed = named(seeds(), asked.get("seed")) || state.seed;
    if (state.policies && asked.has("policies")) state.policies = asked.get("policies").split(",");
  }

  /** Keep in the address what is shown, so that it can be passed on. */
  function write() {
    if (data.glance) return;
    const { at } = scene.now();
    const parts = [`at=${at}`];
    if (state.policies) {
      parts.push(`network=${word(state.network)}`, `seed=${word(state.seed)}`);
      parts.push(`policies=${state.policies.map(word).join()}`);
    }
    history.replaceState(null, "", `#${parts.join("&")}`);
  }

  const picks = ["network", "seed", "left", "right"].map((name) =>
    element("select", { "data-name": name, change: () => pick() }),
  );
  const [network, seed, ...sides] = picks;

  function fill(select, entries, chosen) {
    select.replaceChildren(...entries.map((entry) => element("option", { value: entry }, entry)));
    select.value = chosen;
  }

  function show() {
    state.seed = named(seeds(), state.seed) || seeds()[0];
    const recording = recordings.find(
      (entry) => entry.network === state.network && entry.seed === state.seed,
    );
    const able = Object.keys(recording.policies);
    if (state.policies) {
      state.policies = [0, 1].map((k) => named(able, state.policies[k]) || able[k]);
      fill(network, networks, state.network);
      fill(seed, seeds(), state.seed);
      sides.forEach((side, k) => fill(side, able, state.policies[k]));
    }
    if (scene) scene.stop();
    scene = playground.scene(recording, section, [...new Set(state.policies || able)], set, write);
    top.replaceChildren(scene.controls);
    rest.replaceChildren(...scene.rest);
  }

  function pick() {
    Object.assign(set, scene.now());
    Object.assign(state, { network: network.value, seed: seed.value });
    state.policies = sides.map((side) => side.value);
    show();
    write();
  }

  read();
  show();
  if (data.glance) {
    section.classList.add("pg-glance");
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) scene.start();
    return scene.glance();
  }
  addEventListener("hashchange", () => {
    read();
    show();
  });
  // Behind the theme's own link to the main text, for whoever comes by keyboard.
  const begin = () => section.querySelector("[data-name=play]").focus();
  const skip = element("a", { href: "#", click: (event) => (event.preventDefault(), begin()) }, "Skip to the replay");
  document
    .querySelector("#pst-skip-link")
    ?.after(element("div", { class: "skip-link d-print-none" }, skip));
  if (!state.policies) return [top, rest];
  const labels = ["Network", "Seed", "Left", "Right"];
  const moments = Object.entries(data.moments).map(([text, place]) =>
    element("li", {}, element("a", { href: `#${place}` }, text)),
  );
  return [
    top,
    element("div", { class: "pg-controls pg-picks" }, ...picks.map((pick, k) => field(labels[k], pick))),
    element("ul", { class: "pg-legend pg-moments", "aria-label": "Moments to look at" }, ...moments),
    rest,
  ];
});
