// What the pages of the playground share. Each page loads this file and one of its kind, without any library.
"use strict";

window.playground =
  window.playground ||
  (() => {
    const SVG = "http://www.w3.org/2000/svg";
    let ids = 0;

    function fill(node, attributes, children) {
      for (const [name, value] of Object.entries(attributes)) {
        if (typeof value === "function") node.addEventListener(name, value);
        else node.setAttribute(name, value);
      }
      node.append(...children);
      return node;
    }

    /** An HTML element; attributes that are functions become listeners. */
    const element = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

    /** The same for SVG. */
    const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

    const digits = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

    /** A number for the eye. */
    const number = (value) => (Number.isFinite(value) ? digits.format(value) : "–");

    /** An energy for the eye. */
    const joules = (value) => (value >= 1e3 ? `${number(value / 1e3)}\u00a0kJ` : `${number(value)}\u00a0J`);

    /** Show a number in a node and keep the whole of it as `data-value`. */
    function show(node, value, text) {
      node.dataset.value = value;
      node.textContent = text;
    }

    /** Two nodes, a label and what it labels. */
    function labelled(text, control) {
      control.id = `playground-${++ids}`;
      return [element("label", { for: control.id }, text), control];
    }

    /** A control and its label, which stay on one line. */
    const field = (text, control) => element("span", { class: "pg-field" }, ...labelled(text, control));

    /** A `select` of names. */
    const choice = (names, listener) =>
      element("select", { change: listener }, ...names.map((name) => element("option", { value: name }, name)));

    /**
     * A row with a label, a range and its value. `scale` turns what the range shows into SI units; `text` puts it into
     * words. The row has `get`, in SI units, and `set`.
     */
    function slider({ name, label, min, max, step, scale = (value) => value, unscale = scale, text }, listener) {
      const input = element("input", { type: "range", min, max, step, "data-name": name, input: listener });
      const value = element("span", { class: "pg-value", "data-key": name });
      const row = element("div", { class: "pg-slider" }, ...labelled(label, input), value);
      const get = () => scale(Number(input.value));
      const refresh = () => {
        show(value, get(), text(Number(input.value)));
        input.setAttribute("aria-valuetext", value.textContent);
      };
      input.addEventListener("input", refresh, { capture: true }); // before the listener reads it
      const set = (si) => {
        input.value = unscale(si);
        refresh();
      };
      return { row, get, set, disable: (off) => (input.disabled = off) };
    }

    /** A line that only screen readers meet, and only when what it says has come to rest. */
    function announcer() {
      const line = element("p", { class: "pg-hidden", "aria-live": "polite" });
      let timer = 0;
      const say = (text) => {
        clearTimeout(timer);
        timer = setTimeout(() => (line.textContent = text), 600);
      };
      return { line, say, hush: () => clearTimeout(timer) };
    }

    /** Bring every section of a kind to life that is not yet alive. */
    function mount(kind, build) {
      for (const section of document.querySelectorAll(`[data-playground="${kind}"]:not([data-ready])`)) {
        section.dataset.ready = "";
        const data = JSON.parse(section.querySelector('script[type="application/json"]').textContent);
        const parts = build(data, section);
        section.querySelector(".playground-fallback").remove();
        section.append(...parts);
      }
    }

    return { element, svg, number, joules, show, labelled, field, choice, slider, announcer, mount };
  })();
