// What test_pages.py asks a page in the browser. The file is one expression: an object of functions.
({
  /** What cannot be read on a page as it stands; `smallest` is the least height of letters in a figure [px]. */
  flaws(smallest) {
    const visible = (selector) => [...document.querySelectorAll(selector)].filter((node) => node.checkVisibility());

    const cut = visible("article pre")
      .filter((block) => block.scrollWidth > block.clientWidth + 1)
      .map((block) => `cut off: ${block.textContent.trim().slice(0, 60)}`);

    const side = (cell) => getComputedStyle(cell).textAlign.replace("start", "left").replace("end", "right");
    const box = (cell) => {
      const range = document.createRange();
      range.selectNodeContents(cell);
      return range.getBoundingClientRect();
    };
    const beside = (left, right) => left.top < right.bottom && right.top < left.bottom;
    const touch = (left, right) =>
      left.width && right.width && beside(left, right) && right.left - left.right < 6;
    const tables = visible("article table:not(.indextable)").flatMap((table) => {
      const rows = [...table.rows].map((row) => [...row.cells]).filter((row) => row.every((cell) => cell.colSpan === 1));
      const heads = rows.find((row) => row.every((cell) => cell.tagName === "TH")) ?? [];
      const body = rows.find((row) => row.some((cell) => cell.tagName === "TD")) ?? [];
      const apart = heads.filter((head, k) => body[k] && head.textContent.trim() && side(head) !== side(body[k]));
      const touching = rows.flatMap((row) => row.slice(1).filter((cell, k) => touch(box(row[k]), box(cell))));
      return [
        ...apart.map((head) => `head apart from its column: ${head.textContent}`),
        ...touching.map((cell) => `touches its neighbour: ${cell.textContent.slice(0, 40)}`),
      ];
    });

    const height = (text) => {
      const { a, b } = text.getScreenCTM();
      return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(a, b);
    };
    const overlap = (p, q) =>
      Math.min(p.right, q.right) - Math.max(p.left, q.left) > 2 &&
      Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 2;
    const figures = visible("article .drawing svg").flatMap((drawing) => {
      const texts = [...drawing.querySelectorAll("text")].filter((text) => text.textContent.trim());
      const boxes = texts.map((text) => text.getBoundingClientRect());
      const small = texts.filter((text) => height(text) < smallest);
      const pairs = texts.flatMap((text, i) =>
        texts.slice(i + 1).flatMap((other, k) => (overlap(boxes[i], boxes[i + 1 + k]) ? [[text, other]] : [])),
      );
      return [
        ...small.map((text) => `small: ${text.textContent}`),
        ...pairs.map((pair) => `overlap: ${pair.map((text) => text.textContent).join(" | ")}`),
      ];
    });
    return [...cut, ...tables, ...figures];
  },

  /** What a chapter is made of. */
  form() {
    const article = document.querySelector("article");
    const shown = (selector) => [...article.querySelectorAll(selector)].filter((node) => node.checkVisibility());
    const text = article.cloneNode(true);
    const aside = "pre, table, dl.verdicts, form, details, figcaption, script, style, svg, .solution, mjx-container, .playground";
    text.querySelectorAll(aside).forEach((node) => node.remove());
    const late = [...article.querySelectorAll("form.predict")].filter((form) => {
      const figure = document.getElementById(form.dataset.figure);
      return !figure || form.compareDocumentPosition(figure) !== Node.DOCUMENT_POSITION_FOLLOWING;
    });
    return {
      answers: article.querySelectorAll("aside.answer").length,
      cells: shown("div.cell_input").filter((cell) => !cell.closest(".solution")).length,
      words: text.textContent.split(/\s+/).filter(Boolean).length,
      predictions: article.querySelectorAll("form.predict").length,
      late: late.map((form) => form.textContent.slice(0, 60)),
      pixels: shown("div.cell_output img[src$='.png']").length,
    };
  },
})
