// Keys of a ballot: 1, 2, t and s press its buttons. Elsewhere t and s mean something else, so
// these are taken before the keys of every page; `g s` still goes where it goes. It is loaded
// before the page is shown, so that no key of a quick voter is lost.
"use strict";
(() => {
  // The second half of a double click may come when the next question is there already.
  const page = document.documentElement;
  setTimeout(() => (page.dataset.ready = ""), 350);
  let sent = false;
  let after = "";
  document.addEventListener("submit", (event) => {
    if (event.target.id !== "ballot") return;
    if (sent || !("ready" in page.dataset)) event.preventDefault();
    else sent = true;
  });
  document.addEventListener(
    "keydown",
    (event) => {
      const going = after === "g";
      after = event.key;
      if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || going) return;
      if (!["1", "2", "t", "s"].includes(event.key) || event.target.closest("input, dialog")) return;
      event.preventDefault();
      event.stopPropagation();
      if (!sent) document.querySelector(`#ballot button[value="${event.key}"]`)?.click();
    },
    true,
  );
})();
