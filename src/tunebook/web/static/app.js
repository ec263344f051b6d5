// What every page does: keys, theme, copying, and telling when a request did not work.
"use strict";
(() => {
  const root = document.documentElement;
  const kept = localStorage.getItem("theme");
  if (kept) root.dataset.theme = kept;

  function isDark() {
    return (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  }
  function turnTheme() {
    root.dataset.theme = isDark() ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
    document.dispatchEvent(new CustomEvent("theme"));
  }

  // What went wrong stays until somebody does something, or the server answers again.
  let silence;
  let lost = false;
  function say(text, wrong = false) {
    const place = document.getElementById("said");
    place.setAttribute("role", wrong ? "alert" : "status");
    place.setAttribute("aria-live", wrong ? "assertive" : "polite");
    if (place.textContent !== text) place.textContent = text;
    clearTimeout(silence);
    if (!wrong) silence = setTimeout(hush, 4000);
  }
  function hush() {
    document.getElementById("said").textContent = "";
    lost = false;
  }
  for (const act of ["click", "submit"]) document.addEventListener(act, hush, true);
  document.addEventListener("keydown", (event) => event.key === "Escape" && hush(), true);
  document.addEventListener("htmx:afterRequest", (event) => lost && event.detail.successful && hush());

  async function copyFrom(url) {
    const answer = await fetch(url);
    if (!answer.ok) return say("there is nothing to copy: the page says why", true);
    await navigator.clipboard.writeText(await answer.text());
    say("copied");
  }

  // --- keys ---------------------------------------------------------------------------------
  const rows = () => [...document.querySelectorAll("tr[data-row]")];
  const places = { r: "/", c: "/compare", s: "/side", l: "/lineage", n: "/notebook" };
  let waiting = false;

  function move(by) {
    const all = rows();
    if (!all.length) return;
    const now = all.findIndex((row) => row.getAttribute("aria-selected") === "true");
    const next = all[Math.min(Math.max(now + by, 0), all.length - 1)];
    all.forEach((row) => row.removeAttribute("aria-selected"));
    next.setAttribute("aria-selected", "true");
    next.scrollIntoView({ block: "nearest" });
  }
  const current = () => document.querySelector('tr[data-row][aria-selected="true"]');

  const actions = {
    "/": () => document.querySelector("[data-filter]")?.focus(),
    j: () => move(1),
    k: () => move(-1),
    Enter: () => current()?.querySelector("a")?.click(),
    x: () => current()?.querySelector('input[type="checkbox"]')?.click(),
    c: () => document.querySelector("[data-compare]")?.click(),
    t: turnTheme,
    "?": () => document.getElementById("keys").showModal(),
    g: () => (waiting = true),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const field = event.target.closest("input, textarea, select, dialog");
    if (field) {
      if (event.key === "Escape") field.blur();
      return;
    }
    // What has the focus may have a use for Enter, and without a row the page has none.
    if (event.key === "Enter" && (!current() || event.target.closest("a, button, summary"))) return;
    if (waiting) {
      waiting = false;
      if (places[event.key]) location.href = places[event.key];
      return;
    }
    const action = actions[event.key];
    if (action) {
      event.preventDefault();
      action();
    }
  });

  document.addEventListener("click", (event) => {
    const copy = event.target.closest("[data-copy]");
    if (copy) copyFrom(copy.dataset.copy).catch(() => say("the browser did not let this page copy", true));
    if (event.target.closest("#theme")) turnTheme();
  });
  for (const kind of ["htmx:responseError", "htmx:sendError"]) {
    document.addEventListener(kind, (event) => {
      const text = event.detail.xhr?.responseText || "";
      const found = new DOMParser().parseFromString(text, "text/html").querySelector(".mistake");
      lost = kind === "htmx:sendError";
      say(found?.textContent || (lost ? "the server does not answer; is `tunebook ui` running?" : text.slice(0, 200)), true);
    });
  }

  // A page that asks to be loaded again waits until nothing in its forms is left to save.
  document.addEventListener("htmx:beforeOnLoad", (event) => {
    if (!event.detail.xhr.getResponseHeader("HX-Refresh")) return;
    const fields = document.querySelectorAll("form[method=post] :is(textarea, input:not([type]), input[type=text])");
    if ([...fields].some((field) => field.value !== field.defaultValue)) event.preventDefault();
  });

  window.tunebook = { isDark, say };
})();
