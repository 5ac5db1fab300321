// A coin under the printed reward: its share at home on a slider, and what comes of it beside TOPPO's printed row.
"use strict";

playground.mount("coin", ({ shares, networks, printed }) => {
  const { element, svg, number, joules, show, field, choice, slider, announcer } = playground;
  const percent = (value) => `${number(100 * value)} %`;
  const ROWS = [
    ["delay", "delay", (v) => `${v.toFixed(3)}\u00a0s`],
    ["energy", "energy of a task", joules],
    ["drop_rate", "tasks dropped", percent],
    ["load", "load", (v) => v.toFixed(3)],
    ["reward", "reward of an episode", (v) => v.toFixed(1)],
  ];
  const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [480, 196, 44, 32, 26];
  const names = Object.keys(networks);
  const network = choice(names, () => render());
  network.dataset.name = "network";
  const { line, say } = announcer();
  const share = slider(
    { name: "share", label: "Share kept at home", min: 0, max: 100, step: 2, scale: (v) => v / 100, unscale: (v) => v * 100, text: (v) => `${v} %` },
    () => render(),
  );
  const button = (text, name, target) =>
    element("button", { type: "button", "data-name": name, click: () => (share.set(target()), render()) }, text);
  const at = (value) => shares.findIndex((entry) => Math.abs(entry - value) < 1e-6);
  const paid = () => networks[network.value].reward;
  const best = () => shares[paid().indexOf(Math.max(...paid()))];

  const x = (value) => LEFT + value * (WIDTH - LEFT - 26);
  const y = (value, most) => HEIGHT - BOTTOM - (value / most) * (HEIGHT - BOTTOM - TOP);
  const curve = svg("path", { class: "pg-curve" });
  const mark = svg("circle", { class: "pg-mark pg-possible", r: 6 });
  const top = svg("text", { class: "pg-tick pg-end", x: LEFT - 5, y: TOP + 4 });
  const wanted = svg("line", { class: "pg-wanted", y1: TOP - 4, y2: HEIGHT - BOTTOM });
  const wantedText = svg("text", { class: "pg-tick pg-end", y: HEIGHT - BOTTOM - 8 }, "TOPPO's printed load");
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((value) =>
    svg("text", { class: "pg-tick pg-middle", x: x(value), y: HEIGHT - BOTTOM + 15 }, `${100 * value} %`),
  );
  const chart = svg(
    "svg",
    { class: "pg-chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": "Reward against the share kept at home; the table has its values" },
    svg("line", { class: "pg-frame", x1: LEFT, x2: x(1), y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM }),
    svg("line", { class: "pg-frame", x1: LEFT, x2: LEFT, y1: TOP, y2: HEIGHT - BOTTOM }),
    wanted,
    wantedText,
    curve,
    mark,
    top,
    svg("text", { class: "pg-tick pg-end", x: LEFT - 5, y: HEIGHT - BOTTOM + 4 }, "0"),
    ...ticks,
    svg("text", { class: "pg-tick pg-middle", x: x(0.5), y: HEIGHT - 3 }, "kept at home"),
    svg("text", { class: "pg-tick", x: 0, y: 11 }, "reward"),
  );
  const cells = ROWS.map(([key]) => [
    element("td", { "data-key": key }),
    element("td"),
    element("td", { "data-key": `${key}.off` }),
  ]);
  ROWS.forEach(([key, , text], r) => (cells[r][1].textContent = text(printed[key])));
  const verdict = element("p", { class: "pg-verdict" });

  function render() {
    const k = at(share.get());
    const rows = networks[network.value];
    ROWS.forEach(([key, , text], r) => {
      const off = rows[key][k] / printed[key] - 1;
      show(cells[r][0], rows[key][k], text(rows[key][k]));
      show(cells[r][2], off, `${off > 0 ? "+" : "\u2212"}${number(Math.abs(100 * off))} %`);
    });
    const most = 1.05 * Math.max(...rows.reward);
    curve.setAttribute("d", shares.map((value, i) => `${i ? "L" : "M"}${x(value)},${y(rows.reward[i], most)}`).join(""));
    mark.setAttribute("cx", x(shares[k]));
    mark.setAttribute("cy", y(rows.reward[k], most));
    top.textContent = number(most);
    const above = rows.load.findIndex((load) => load >= printed.load);
    const before = Math.max(above - 1, 0);
    const part = (printed.load - rows.load[before]) / (rows.load[above] - rows.load[before] || 1);
    const there = shares[before] + part * (shares[above] - shares[before]);
    wanted.setAttribute("x1", x(there));
    wanted.setAttribute("x2", x(there));
    wantedText.setAttribute("x", x(there) - 6);
    const lost = 1 - rows.reward[k] / Math.max(...rows.reward);
    verdict.textContent =
      `A coin that keeps ${percent(shares[k])} at home earns ${rows.reward[k].toFixed(1)}` +
      (lost ? `, ${percent(lost)} less than the best one, which keeps ${percent(best())}.` : ": no coin earns more.");
    say(verdict.textContent);
  }

  share.set(0.5);
  render();
  return [
    element(
      "div",
      { class: "pg-controls" },
      field("Network", network),
      button("Best paid", "best", best),
      button("Nearly Random", "random", () => 0.12),
    ),
    element("div", { class: "pg-sliders" }, share.row),
    element(
      "div",
      { class: "pg-sides" },
      chart,
      element(
        "table",
        { class: "pg-terms" },
        element("caption", {}, "The coin beside TOPPO's row in the paper"),
        element(
          "thead",
          {},
          element("tr", {}, element("td"), ...["coin", "printed", "off by"].map((head) => element("th", { scope: "col" }, head))),
        ),
        element("tbody", {}, ...ROWS.map(([, label], r) => element("tr", {}, element("th", { scope: "row" }, label), ...cells[r]))),
      ),
    ),
    verdict,
    line,
  ];
});
