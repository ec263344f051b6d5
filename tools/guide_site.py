"""Hooks of mkdocs: files of the repository that a page links to become pages of the guide.

On a forge such links open the file. In the built guide there is no forge, and it is read without a
network, so the file is taken in: Markdown as a page, code as a page that shows it. Notebooks and
decisions, whose number grows, are put into the navigation here too.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
DOCS = "docs"
TAKEN_IN = "repository"
_FENCE = re.compile(r"^( *)(`{3,}|~{3,})[^\n]*\n.*?^\1\2[`~]*[ \t]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".sbatch": "bash", ".json": "json"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put every notebook and every decision into the navigation."""
    docs = Path(config.docs_dir)
    nav: Any = config.nav
    notebooks = next(part["Notebooks"] for part in nav if "Notebooks" in part)
    told = [name for name in _names(docs / "notebooks") if name != "index.md"]
    notebooks += [{name.removesuffix(".md"): f"notebooks/{name}"} for name in told]
    nav.append({"Decisions": [f"decisions/{name}" for name in _names(docs / "decisions")]})
    return config


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.md"))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take in what pages link to outside of docs, and what the pages taken in link to."""
    waiting = [file.src_uri for file in files.documentation_pages()]
    while waiting:
        uri = waiting.pop()
        path = ROOT / _origin(uri)
        if path.suffix != ".md":
            continue
        for target, _ in _targets(_origin(uri), path.read_text(encoding="utf-8")):
            found = _uri_of(target)
            if not found.startswith(f"{TAKEN_IN}/") or files.get_file_from_path(found) is not None:
                continue
            if (ROOT / target).is_file():
                files.append(File.generated(config, found, content=_content(ROOT / target)))
                waiting.append(found)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files of the repository into links to their pages."""
    uri = page.file.src_uri
    origin = _origin(uri)
    if not origin.endswith(".md"):
        return markdown

    def link(match: re.Match[str]) -> str:
        mark, words, address = match.groups()
        place, hash_, anchor = address.partition("#")
        if _is_elsewhere(address) or not place:
            return match.group(0)
        target = _resolve(origin, place)
        if (ROOT / target).is_dir():
            return words  # a folder has no page
        if uri == origin.removeprefix(f"{DOCS}/") and target.startswith(f"{DOCS}/"):
            return match.group(0)  # mkdocs itself follows links within docs
        found = posixpath.relpath(_uri_of(target), posixpath.dirname(uri))
        return f"{mark}[{words}]({found}{hash_}{anchor})"

    return outside_fences(markdown, lambda text: _LINK.sub(link, text))


def outside_fences(markdown: str, change: Any) -> str:
    """Change a text but for its fenced blocks."""
    parts, end = [], 0
    for block in _FENCE.finditer(markdown):
        parts += [change(markdown[end : block.start()]), block.group(0)]
        end = block.end()
    return "".join([*parts, change(markdown[end:])])


def _targets(origin: str, markdown: str) -> Iterator[tuple[str, str]]:
    text = _FENCE.sub("", markdown)
    for _, _, address in _LINK.findall(text):
        place, _, anchor = address.partition("#")
        if not _is_elsewhere(address) and place:
            yield _resolve(origin, place), anchor


def _is_elsewhere(address: str) -> bool:
    return bool(re.match(r"[a-z]+:", address)) or address.startswith("/")


def _resolve(origin: str, place: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), place))


def _origin(uri: str) -> str:
    """Give the file of the repository that a page is made of."""
    if not uri.startswith(f"{TAKEN_IN}/"):
        return f"{DOCS}/{uri}"
    path = uri.removeprefix(f"{TAKEN_IN}/").removesuffix(".md")
    return path if (ROOT / path).is_file() else f"{path}.md"


def _uri_of(target: str) -> str:
    """Give the page of a file of the repository."""
    if target.startswith(f"{DOCS}/") and (ROOT / target).suffix in (".md", ".png", ".svg"):
        return target.removeprefix(f"{DOCS}/")
    return f"{TAKEN_IN}/{target if target.endswith('.md') else f'{target}.md'}"


def _content(path: Path) -> str:
    hidden = "---\nsearch: {exclude: true}\n---\n\n"
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return hidden + text
    shown = path.relative_to(ROOT).as_posix()
    language = _LANGUAGES.get(path.suffix, "text")
    return f"{hidden}# {shown}\n\n~~~~{language}\n{text.rstrip()}\n~~~~\n"
