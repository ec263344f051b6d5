"""Write the pages of docs/ that come from the code; `--check` only says what is stale."""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
from pathlib import Path

import click

from tunebook.cli.main import VERBS, cli
from tunebook.data.filters.explain import filters_markdown
from tunebook.recipe.explain import fields_markdown

DOCS = Path(__file__).resolve().parent.parent / "docs"


def commands_markdown() -> str:
    """Write the reference page of all verbs, with what each one takes."""
    top = click.Context(cli, info_name="tunebook")
    verbs = cli.list_commands(top)
    lines = [
        "# Commands",
        "",
        "<!-- Made by tools/make_docs.py from src/tunebook/cli: edit those files. -->",
        "",
        "Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 usage or "
        "run file or data, 3 plan refused, 130/143 stopped by Ctrl-C/SIGTERM after a resumable "
        "checkpoint. `--verbose` and `--debug` go with every verb.",
        "",
        "| verb | what it does |",
        "|---|---|",
        *(f"| [`{verb}`](#tunebook-{verb}) | {VERBS[verb]} |" for verb in verbs),
    ]
    for verb in verbs:
        command = importlib.import_module(f"tunebook.cli.{verb}").command
        lines += _help_blocks(command, f"tunebook {verb}")
    return "\n".join(lines) + "\n"


def _help_blocks(command: click.Command, path: str) -> list[str]:
    arguments = [_argument(p) for p in command.params if isinstance(p, click.Argument)]
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    lines = ["", f"## {path}", "", f"`{' '.join([path, *arguments])}`", ""]
    # Written from the parameters, not from click's own help page, whose wording changes with it.
    lines += [inspect.cleandoc(command.help or "").replace("\b\n", "")]
    if options:
        lines += ["", "| option | meaning |", "|---|---|"]
        lines += [f"| `{', '.join(o.opts + o.secondary_opts)}` | {o.help or ''} |" for o in options]
    if isinstance(command, click.Group):
        for name, sub in sorted(command.commands.items()):
            lines += _help_blocks(sub, f"{path} {name}")
    return lines


def _argument(argument: click.Argument) -> str:
    if argument.metavar:
        return argument.metavar
    name = str(argument.name).upper()
    name += "..." if argument.nargs == -1 else ""
    return name if argument.required else f"[{name}]"


PAGES = {
    "fields.md": fields_markdown,
    "commands.md": commands_markdown,
    "filters.md": filters_markdown,
}


def stale_pages() -> list[str]:
    """Name the pages whose committed text is not what the code says."""
    stale = []
    for name, write in PAGES.items():
        path = DOCS / name
        if not path.exists() or path.read_text(encoding="utf-8") != write():
            stale.append(name)
    return stale


def main() -> int:
    """Write the pages, or with --check exit 1 when one is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when stale")
    if parser.parse_args().check:
        stale = stale_pages()
        for name in stale:
            print(f"docs/{name} is stale; run `make docs`", file=sys.stderr)
        return 1 if stale else 0
    for name, write in PAGES.items():
        (DOCS / name).write_text(write(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
