// Drawings: what is pointed at or focused is told below the drawing, and its lines stand out.
"use strict";
(() => {
  const about = document.getElementById("about");
  const first = about?.textContent;

  function mark(name) {
    document.querySelectorAll("[data-ends]").forEach((line) => {
      line.classList.toggle("lit", name !== undefined && line.dataset.ends.split(" ").includes(name));
    });
    document.querySelectorAll("[data-line]").forEach((line) => {
      line.classList.toggle("lit", name !== undefined && line.dataset.line === name);
    });
  }
  function tell(event) {
    const found = event.target.closest?.("[data-about], [data-lights]");
    mark(found?.dataset.node ?? found?.dataset.line ?? found?.dataset.lights);
    if (about && (found?.dataset.about || !found)) about.textContent = found?.dataset.about || first;
  }
  for (const kind of ["pointerover", "focusin"]) document.addEventListener(kind, tell);

  // A large drawing starts at the run it is about.
  const current = document.querySelector(".map .current");
  if (current) {
    const map = current.closest(".map");
    const to = current.getBoundingClientRect();
    const frame = map.getBoundingClientRect();
    map.scrollLeft += to.left + to.width / 2 - frame.left - frame.width / 2;
    map.scrollTop += to.top + to.height / 2 - frame.top - frame.height / 2;
  }
})();
