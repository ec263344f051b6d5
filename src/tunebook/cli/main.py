"""The frame of the command line: find the verb, run it, turn every failure into one sentence.

A verb lives in `tunebook.cli.<verb>` as a click command named `command` and is imported only when
it is called, so that `tunebook --help` answers at once.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import io
import os
import re
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import click

from tunebook import __version__
from tunebook.errors import TunebookError, UsageError
from tunebook.terminal import fill_closed_streams, shown_safely

VERBS: dict[str, str] = {
    "demo": "Train, compare and write a notebook page on the embedded model.",
    "recipes": "Run one of five notebooks from nothing to its report.",
    "init": "Make a book: the folder that holds runs and their notebook.",
    "new": "Write a run file for a new run.",
    "plan": "Show what a run will need and what is wrong with it, before step 1.",
    "train": "Train a run and write its notebook page.",
    "sweep": "Train over combinations of settings, and say which of them differ.",
    "resume": "Go on with a paused run from its newest good checkpoint.",
    "stop": "Ask a running run to save and pause.",
    "watch": "Show a run live in the terminal.",
    "replay": "Take the steps around a spike again with one change at a time: its cause.",
    "chat": "Talk to a run's weights, beside its base or another run.",
    "serve": "Offer a run's weights over the OpenAI protocol, by a server of others.",
    "judge": "Let a language model score answers from 0 to 100.",
    "ui": "Show the book on pages in the browser, live.",
    "runs": "List the runs as a table, Markdown, CSV or JSON.",
    "show": "Show one run: result, data, predictions, findings.",
    "verdicts": "Say what was wrong with a run, why, and what to do about it.",
    "lineage": "Show which run comes from which.",
    "diff": "Show what differs between two runs.",
    "compare": "Compare scores on the same items: different, equivalent or cannot tell.",
    "note": "Add a dated note to runs.",
    "notebook": "Write the notebook's pages again.",
    "chess": "Measure legal moves, puzzles, games and Elo of a run, or of games in a file.",
    "evaluate": "Score a run's weights and its base: loss, perplexity, bits per byte.",
    "probe": "Measure what training changed on its own domain and off it.",
    "grid": "Compare ways of sampling on the same prompts.",
    "release": "Write a run's weights for others, verified against the trained model.",
    "data": "Look at data as the model will see it.",
    "clean": "Delete what no run needs any more.",
    "import": "Read somebody else's runs into the book: logs, event files, tables.",
    "convert": "Make a run file of axolotl's or TRL's, or safetensors of pickles.",
    "reindex": "Rebuild the index from the run folders.",
    "schema": "Print the JSON Schema of the run file, for editors.",
    "doctor": "Print versions, devices, memory and disk, to paste into a report.",
}
"""Every verb with the line that `--help` shows for it."""

_KEEP_GOING = frozenset(("evaluate", "probe", "judge", "grid", "chess"))

_NO_NUMBER = re.compile(
    r" is not (a valid (integer|float)( range)?|in the range [-+.\w]*<?=?x?[<>=]*[-+.\w]*)\.?$"
)
"""How click says that something is no number, or none of a range."""

BROKEN_PIPE_EXIT = 141  # 128 + SIGPIPE, what a shell reports for `yes | head`


@dataclass
class Options:
    """What holds for every verb; found in a command as `ctx.obj`."""

    verbose: bool = False
    debug: bool = False


class _Verbs(click.Group):
    """A group that imports a verb's module only when that verb is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [verb for verb in VERBS if importlib.util.find_spec(f"tunebook.cli.{verb}")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"tunebook.cli.{cmd_name}").command
        _accept_common_options(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        verbs = self.list_commands(ctx)
        if args[0] not in verbs and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], verbs, n=1, cutoff=0.5)
            hint = f"did you mean `{near[0]}`?" if near else f"there is {', '.join(verbs)}"
            raise click.UsageError(f"there is no command `{args[0]}`; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(verb, VERBS[verb]) for verb in self.list_commands(ctx)]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


def _accept_common_options(command: click.Command) -> None:
    """Let `--verbose` and `--debug` also stand after the verb, where people type them."""
    if isinstance(command, click.Group):
        for sub in command.commands.values():
            _accept_common_options(sub)
        return
    known = {opt for param in command.params for opt in param.opts}
    for flag in ("--verbose", "--debug"):
        if flag not in known:
            command.params.append(_common_option(flag))


def _common_option(flag: str) -> click.Option:
    def remember(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value and isinstance(ctx.obj, Options):
            setattr(ctx.obj, flag[2:], True)

    return click.Option(
        [flag], is_flag=True, expose_value=False, hidden=True, callback=remember, is_eager=True
    )


@click.group(
    cls=_Verbs,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="tunebook", message="%(prog)s %(version)s")
@click.option("--verbose", is_flag=True, help="Say more while working.")
@click.option("--debug", is_flag=True, help="Show a traceback when something fails.")
@click.pass_context
def cli(ctx: click.Context, verbose: bool, debug: bool) -> None:
    """Fine-tune open-weight language models and keep the lab notebook as you go."""
    options = ctx.ensure_object(Options)
    options.verbose = options.verbose or verbose
    options.debug = options.debug or debug
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; nothing but `--debug` shows a traceback.

    A command may return its exit code as an integer; anything else it returns counts as done.
    """
    if argv is None:
        fill_closed_streams()
    _never_fail_on_encoding()
    if argv is None:
        _take_memory_as_training_does()
        _import_nothing_from_here()
    with shown_safely():
        return _main(argv, Options())


def _main(argv: Sequence[str] | None, options: Options) -> int:
    try:
        return _run(list(sys.argv[1:] if argv is None else argv), options)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as wrong:
        return _report(_usage_sentence(wrong), wrong.exit_code, options)
    except (KeyboardInterrupt, click.Abort):
        asked = sys.argv[1:] if argv is None else argv
        if _KEEP_GOING.intersection(asked):
            way_out = "what was asked so far is kept, and the same command goes on from there"
            print(f"tunebook: stopped; {way_out}", file=sys.stderr, flush=True)
        return 130
    except BrokenPipeError:
        _silence_stdout()
        return BROKEN_PIPE_EXIT
    except TunebookError as failure:
        return _report(" ".join(str(failure).split()), failure.exit_code, options)
    except Exception as bug:
        from tunebook.book.atomic import describe_any_disk

        if (sentence := describe_any_disk(bug)) is not None:
            return _report(sentence, 1, options)
        hint = "" if options.debug else "; run again with --debug for the traceback"
        message = " ".join(f"{type(bug).__name__}: {bug}".split())
        return _report(f"this is a bug in tunebook: {message}{hint}", 1, options)


def _import_nothing_from_here() -> None:
    """Keep this process, and those that libraries start, from importing from a stranger's book.

    An empty part of PYTHONPATH, as `PYTHONPATH=$PYTHONPATH:/x` leaves it, is the working folder.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    if "PYTHONPATH" not in os.environ:
        return
    parts = os.environ["PYTHONPATH"].split(os.pathsep)
    if "" in parts:
        os.environ["PYTHONPATH"] = os.pathsep.join(part for part in parts if part)
        with suppress(OSError):  # the folder is gone
            here = os.getcwd()
            sys.path[:] = [path for path in sys.path if path not in ("", here)]


def _take_memory_as_training_does() -> None:
    """Start `plan` anew with the allocator of training, whose heap it is to measure.

    The C library reads these settings only when a process starts.
    """
    from tunebook.allocator import allocator_settings

    missing = {k: v for k, v in allocator_settings().items() if os.environ.get(k) != v}
    if sys.argv[1:2] == ["plan"] and missing and "--history" not in sys.argv:
        sys.stdout.flush()
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **missing})


def _run(argv: list[str], options: Options) -> int:
    _refuse_no_text(argv)
    with cli.make_context("tunebook", argv, obj=options) as ctx:
        result = cli.invoke(ctx)
    sys.stdout.flush()
    return result if isinstance(result, int) else 0


def _refuse_no_text(argv: Sequence[str]) -> None:
    """Raise UsageError for a word that is not UTF-8, but for the name of something that is there.

    It could be neither printed nor written down nor sent. It is not repeated: it may be a secret.
    """
    for number, word in enumerate(argv, 1):
        try:
            word.encode()
        except UnicodeEncodeError:
            if not os.path.lexists(word) and argv[0] != "init":  # which makes a folder
                raise UsageError(
                    f"word {number} after `tunebook` is not UTF-8 and names no file that is there; "
                    "type it in UTF-8, or set the terminal to it"
                ) from None


def _usage_sentence(wrong: click.ClickException) -> str:
    sentence = " ".join(wrong.format_message().split()).rstrip(".")
    if isinstance(wrong, click.BadParameter) and wrong.param is not None:
        sentence = _NO_NUMBER.sub(f" is not {_number_words(wrong.param.type)}", sentence)
    if sentence and sentence.split()[0].istitle():
        sentence = sentence[0].lower() + sentence[1:]
    if isinstance(wrong, click.UsageError) and wrong.ctx is not None:
        return f"{sentence} (`{wrong.ctx.command_path} --help` shows how it is used)"
    return sentence


def _number_words(wanted: object) -> str:
    whole = isinstance(wanted, (click.types.IntParamType, click.IntRange))
    words = "a whole number" if whole else "a number"
    if not isinstance(wanted, (click.IntRange, click.FloatRange)):
        return words
    low, high = wanted.min, wanted.max
    if low is not None and high is not None:
        return f"{words} from {low} to {high}"
    above = "above" if wanted.min_open else "of at least"
    below = "below" if wanted.max_open else "of at most"
    return words + (f" {above} {low}" if low is not None else f" {below} {high}")


def _report(sentence: str, exit_code: int, options: Options) -> int:
    """Print the one sentence that every failure ends in."""
    if options.debug:
        traceback.print_exc()
    print(f"tunebook: {sentence}", file=sys.stderr, flush=True)
    return exit_code


def _never_fail_on_encoding() -> None:
    """Let a terminal that knows no UTF-8 show `?` for a sign instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _silence_stdout() -> None:
    """Point stdout elsewhere, or the interpreter complains about the closed pipe at its end."""
    with open(os.devnull, "w") as nowhere:
        try:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        except (OSError, ValueError):  # stdout is no real file, as under a test
            return
