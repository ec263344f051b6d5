// A page of the notebook on a narrow screen begins with its words, its sections folded.
"use strict";
if (matchMedia("(max-width: 900px)").matches) {
  document.querySelector(".contents details")?.removeAttribute("open");
}
