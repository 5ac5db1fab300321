// Predictions: whoever has chosen an answer is told what the results say. Without this script they can be unfolded.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  for (const form of document.querySelectorAll("form.predict")) {
    const details = form.querySelector("details");
    const reply = form.querySelector(".reply");
    const labels = [...form.querySelectorAll("label")];
    const right = Number(form.dataset.right);
    details.hidden = true;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", (event) => {
      const chosen = labels.findIndex((label) => label.contains(event.target));
      const words = document.createElement("strong");
      words.textContent = chosen === right ? "Right." : "No.";
      const text = details.querySelector("p").cloneNode(true);
      reply.replaceChildren(words, ` ${labels[chosen].dataset.hint} `, ...text.childNodes);
      reply.classList.toggle("right", chosen === right);
    });
  }
});
