// Predictions: who has chosen an answer is told what the results say of it. Without this script they can be unfolded.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  for (const form of document.querySelectorAll("form.predict")) {
    const details = form.querySelector("details");
    const reply = form.querySelector(".reply");
    const replies = [...details.querySelectorAll("dd")];
    const right = replies.findIndex((entry) => "right" in entry.dataset);
    const option = (k) => form.querySelectorAll("label")[k].textContent.trim();
    details.hidden = true;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", (event) => {
      const chosen = Number(event.target.value);
      const words = document.createElement("strong");
      words.textContent = chosen === right ? "Right. " : "No. ";
      reply.replaceChildren(words, ...replies[chosen].cloneNode(true).childNodes);
      if (chosen !== right) {
        reply.append(" ", `The results say: ${option(right)}. `, ...replies[right].cloneNode(true).childNodes);
      }
      reply.classList.toggle("right", chosen === right);
    });
  }
});
