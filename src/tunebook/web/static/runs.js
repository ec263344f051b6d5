// The table of runs: what is chosen in it stays chosen, whatever of it is drawn anew.
"use strict";
(() => {
  const boxes = () => [...document.querySelectorAll('#runs-table input[name="run"]')];
  let chosen = new Set();
  let row = null;

  function show() {
    const button = document.querySelector("[data-compare]");
    if (!button) return;
    button.textContent = chosen.size ? `Compare ${chosen.size}` : "Compare";
    button.classList.toggle("primary", chosen.size > 1);
  }
  // The address tells what is chosen, so that a reload and a sent link show the same.
  function keep() {
    chosen = new Set(boxes().filter((box) => box.checked).map((box) => box.value));
    const address = new URL(location.href);
    if (chosen.size || address.searchParams.has("run")) {
      address.searchParams.delete("run");
      chosen.forEach((name) => address.searchParams.append("run", name));
      history.replaceState(history.state, "", address);
    }
    show();
  }

  document.addEventListener("change", (event) => {
    if (event.target.matches('#runs-table input[name="run"]')) keep();
  });
  document.addEventListener("submit", (event) => {
    if (event.target.id !== "compare" || (chosen.size > 1 && chosen.size <= 10)) return;
    event.preventDefault();
    window.tunebook.say("choose 2 to 10 runs to compare, with a click or x", true);
  });
  // A note that is being written is not swept away by the next look at a running run.
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target.id === "runs-poll" && document.querySelector("#runs-table form")) event.preventDefault();
  });
  document.addEventListener("htmx:beforeSwap", () => {
    row = document.querySelector('tr[aria-selected="true"]')?.id;
  });
  document.addEventListener("htmx:afterSettle", () => {
    if (row) document.getElementById(row)?.setAttribute("aria-selected", "true");
    boxes().forEach((box) => (box.checked = chosen.has(box.value)));
    if (boxes().length) keep();
  });
  keep();
})();
