// Keys of a ballot: 1, 2, t and s press its buttons. Elsewhere t and s mean something else, so
// these are taken before the keys of every page; `g s` still goes where it goes.
"use strict";
(() => {
  const form = document.getElementById("ballot");
  let sent = false;
  let after = "";
  form.addEventListener("submit", (event) => {
    if (sent) event.preventDefault();
    sent = true;
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
      if (!sent) form.querySelector(`button[value="${event.key}"]`).click();
    },
    true,
  );
})();
