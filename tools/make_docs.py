"""Write the pages of docs/ that come from the code; `--check` only says what is stale."""

from __future__ import annotations

import argparse
import ast
import functools
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

import make_reports
from safety_page import safety_markdown
from speed_page import speed_markdown
from tunebook.cli.main import VERBS, cli
from tunebook.data.filters.explain import filters_markdown
from tunebook.recipe.explain import fields_markdown
from verdicts_page import verdicts_markdown

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
DEFECT_TESTS = ROOT / "tests" / "defects"

# Each was in code or data that somebody trained with, and no tool said so.
DEFECTS = (
    "bf16 weights updated in place by SGD: no update is large enough to change them",
    "a base built with random weights and then tuned",
    "padding tokens carried loss",
    "a cleaning rule that could never match",
    "refined answers computed, the originals written",
    "two prompt variants joined by a missing comma",
    "train and validation share documents",
    "a special token the model lacks stands in the data; an id outside the vocabulary; evaluation "
    "after every step",
    "gradient clipping starts in the middle of a run, where a spike is then seen",
    "adapters of unequal scale compared across ranks",
    "validation losses of other examples compared with each other",
    "labels overwritten: the answer was never trained",
    "the end of sequence was masked as padding and never trained",
    "every row padded to the full length; long rows cut",
    "the answer stands in the prompt",
    "a task to sort given sorted input",
    "chess labels of the position one ply later; signs of mate wrong for Black",
    "an adapter merged into the wrong parent",
    "bf16 on a device without it",
    "a filter that dropped nothing while its percentages were logged",
    "facts trained under one prefix and asked for under another",
    "the loss span of the first row used for the whole batch",
    "a token cache keyed by file name alone",
    "shards that lost their last file and the remainder",
    "batches that ran out of memory were skipped and logged as NaN",
    "an average that was none",
    "an overlong talk lost its whole history instead of its oldest turn",
)
CAUGHT_AT = {"P": "plan", "T": "training"}


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
        "run file or data, 3 plan refused, 4 a verdict that `--fail-if` names, 130/143 stopped by "
        "Ctrl-C/SIGTERM after a resumable checkpoint. `--verbose` and `--debug` go with all verbs.",
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


def defects_markdown() -> str:
    """Write which silent defects are caught, by what, and which test breaks a run to show it."""
    caught = list(_injected())
    lines = [
        "# Defects that are caught",
        "",
        "<!-- Made by tools/make_docs.py from the markers in tests/defects: edit those. -->",
        "",
        "Each of these was in code or data that somebody fine-tuned with, and no tool said so. A "
        "test breaks a real small run in the same way, and requires the finding of the broken run "
        "and not of its healthy twin. `tunebook plan` and `tunebook train` report findings of the "
        "plan before step 1, those of training as verdicts while it goes on.",
        "",
        "| # | defect | finding | caught at | test |",
        "|---|---|---|---|---|",
    ]
    missing = []
    for number, defect in enumerate(DEFECTS, 1):
        rows = dict.fromkeys(row[1:] for row in caught if row[0] == number)
        if not rows:
            missing.append(number)
            lines.append(f"| {number} | {defect} | not caught yet | | |")
        for place, (finding, at, test) in enumerate(rows):
            name, shown = (number, defect) if place == 0 else ("", "")
            lines.append(f"| {name} | {shown} | `{finding}` | {CAUGHT_AT.get(at, at)} | {test} |")
    counts = f"{len(DEFECTS) - len(missing)} of {len(DEFECTS)} are caught"
    rest = f"; not yet: {', '.join(map(str, missing))}" if missing else ""
    return "\n".join([*lines, "", f"{counts}{rest}."]) + "\n"


def _injected() -> Iterator[tuple[int, str, str, str]]:
    """Read (number, finding, caught at, file) off the markers, without running anything."""
    for path in sorted(DEFECT_TESTS.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.defect":
                number, finding, at = (ast.literal_eval(arg) for arg in node.args)
                yield number, finding, at, f"`{path.relative_to(ROOT).as_posix()}`"


PAGES = {
    "fields.md": fields_markdown,
    "commands.md": commands_markdown,
    "filters.md": filters_markdown,
    "defects.md": defects_markdown,
    "safety.md": safety_markdown,
    "speed.md": speed_markdown,
    "verdicts.md": verdicts_markdown,
    **{f"notebooks/{n}.md": functools.partial(make_reports.page, n) for n in make_reports.NAMES},
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
