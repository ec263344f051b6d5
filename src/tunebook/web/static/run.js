// The page of a run: copying commands, links that zoom, and parts that are replaced while in use.
"use strict";
(() => {
  const controls = (place) => [...place.querySelectorAll("a, button, summary")];
  const sayingOf = (one) => one.parentElement.id || `${one.tagName} ${one.dataset.copyText ?? one.textContent}`;
  let held; // what had the focus in a part that is being replaced

  document.addEventListener("click", (event) => {
    const copy = event.target.closest("[data-copy-text]");
    if (copy)
      navigator.clipboard.writeText(copy.dataset.copyText).then(
        () => tunebook.say("copied"),
        () => tunebook.say("the browser did not let this page copy", true),
      );
    const zoom = event.target.closest("[data-zoom]");
    const curves = document.querySelector("[data-curves]")?.curves;
    if (zoom && curves) {
      event.preventDefault();
      curves.zoom(zoom.dataset.zoom.split(" ").map(Number), "step");
      document.getElementById("curves").scrollIntoView();
    }
  });

  // A live part that is replaced keeps its focus and what was unfolded in it.
  document.addEventListener("htmx:oobBeforeSwap", (event) => {
    const place = event.detail.target;
    held = {
      focus: place.contains(document.activeElement) ? sayingOf(document.activeElement) : null,
      open: [...place.querySelectorAll("details[open] > summary")].map(sayingOf),
    };
  });
  document.addEventListener("htmx:oobAfterSwap", (event) => {
    const place = document.getElementById(event.detail.target.id);
    if (!held || !place) return;
    for (const one of controls(place)) {
      if (one.tagName === "SUMMARY") one.parentElement.open = held.open.includes(sayingOf(one));
      if (sayingOf(one) === held.focus) one.focus({ preventScroll: true });
    }
    held = null;
  });
})();
