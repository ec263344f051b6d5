"""`tunebook release`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from tunebook.units import format_bytes, format_count

if TYPE_CHECKING:
    from tunebook.book.releases import Release
    from tunebook.workflows.push import PushPlan, Target


@click.command("release")
@click.argument("run_name", metavar="RUN", required=False)
@click.argument("out", required=False, type=click.Path(path_type=Path))
@click.option("--adapter", is_flag=True, help="An adapter stays one (the default).")
@click.option("--merged", is_flag=True, help="Merge an adapter into its base.")
@click.option(
    "--from",
    "weights",
    default="final",
    metavar="WEIGHTS",
    help="final (the default), best, step-N.",
)
@click.option(
    "--gguf",
    is_flag=False,
    flag_value="as-stored",
    type=click.Choice(("f32", "f16", "bf16", "q8_0", "as-stored")),
    metavar="[TYPE]",
    help="Also a GGUF file, by llama.cpp's converter: f32, f16, bf16, q8_0; else as stored.",
)
@click.option("--push", "repo", metavar="ORG/NAME", help="Upload the folder to the hub.")
@click.option("--private", is_flag=True, help="With --push: a private repository.")
@click.option("--revision", metavar="BRANCH", help="With --push: a branch in place of main.")
@click.option("--dry-run", is_flag=True, help="With --push: say what would be uploaded.")
@click.option(
    "--check",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Hold a released folder against what was released.",
)
@click.option("--run", "of_run", metavar="RUN", help="With --check: the run that released it.")
@click.option("--json", "as_json", is_flag=True, help="Print the release as JSON.")
def command(
    run_name: str | None,
    out: Path | None,
    adapter: bool,
    merged: bool,
    weights: str,
    gguf: str | None,
    repo: str | None,
    private: bool,
    revision: str | None,
    dry_run: bool,
    check: Path | None,
    of_run: str | None,
    as_json: bool,
) -> None:
    """Write a run's weights into a new folder, verified against the trained model.

    The folder has the layout of the Hugging Face Hub, with a model card. It is loaded in a fresh
    process and must give the trained model's log-probabilities, or nothing is left of it.
    """
    if check is not None:
        if run_name is not None:
            raise click.UsageError("--check takes the folder alone; name its run with --run")
        _refuse_beside_check()
        _check(check, of_run, as_json)
        return
    if run_name is None or out is None:
        raise click.UsageError("name a run and a new folder, or --check FOLDER")
    if of_run is not None:
        raise click.UsageError("--run goes with --check")
    if repo is None and (private or revision or dry_run):
        raise click.UsageError("--private, --revision and --dry-run go with --push ORG/NAME")
    if adapter and (merged or gguf):
        other = "--merged" if merged else "--gguf"
        raise click.UsageError(f"--adapter and {other} are two releases; ask for one of them")
    form = "adapter" if adapter else "merged" if merged or gguf else None
    target = None
    if repo is not None:
        from tunebook.workflows.push import find_target

        target = find_target(repo, private=private, revision=revision)
    made, was_there = _release(run_name, out, form, weights, gguf, again=target is not None)
    if not as_json:
        _print_release(made, out, was_there)
    sent = None if target is None else _push(out, target, made, dry_run, as_json)
    if as_json:
        from tunebook.book.codec import dump_json, to_plain

        more = {} if sent is None else {"push": sent}
        click.echo(dump_json({**to_plain(made), **more}, indent=True).decode(), nl=False)


def _refuse_beside_check() -> None:
    """Raise click.UsageError for options of a release, of which a check does nothing."""
    context = click.get_current_context()
    of_check = {"check", "of_run", "as_json"}
    stated = [
        parameter.opts[0]
        for parameter in context.command.params
        if isinstance(parameter, click.Option)
        and parameter.name not in of_check
        and context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
    ]
    if stated:
        raise click.UsageError(
            f"--check releases nothing and takes no {' and '.join(stated)}; leave it out"
        )


def _say(text: str) -> None:
    click.echo(text, err=True)


def _release(
    run: str, out: Path, form: str | None, weights: str, gguf: str | None, *, again: bool
) -> tuple[Release, bool]:
    """Release, or with `again` take up what was released there; tells which of the two."""
    from tunebook.book.places import find_book
    from tunebook.workflows.release_folder import released_before
    from tunebook.workflows.to_gguf import find_converter

    converter = None if gguf is None else find_converter(gguf)
    book = find_book()
    if again:
        before = released_before(run, out, book, form=form, weights=weights, gguf=gguf)
        if before is not None:
            return before, True
    # torch comes with it.
    from tunebook.workflows.release import release

    made = release(run, out, book, form=form, weights=weights, say=_say, converter=converter)
    return made, False


def _print_release(made: Release, out: Path, was_there: bool) -> None:
    from tunebook.pages.model_card import verification_words

    click.echo(f"{made.weights} of run {made.run}, step {made.step}: {made.form}, {made.precision}")
    click.echo(f"verified: {verification_words(made.verification)}")
    if made.gguf is not None:
        click.echo(f"gguf: {made.gguf.file}, made by {made.gguf.converter}, not verified")
    if was_there:
        click.echo(f"released {made.released}, and {out} is as it was")
    else:
        click.echo(f"released: {out}")


def _push(
    out: Path, target: Target, made: Release, dry_run: bool, as_json: bool
) -> dict[str, object]:
    from tunebook.book.codec import to_plain
    from tunebook.workflows.push import plan_push, push

    if dry_run:
        plan = plan_push(out, target)
        if not as_json:
            _print_plan(plan)
        return {"dry_run": True, **to_plain(plan)}
    message = f"{made.weights} of run {made.run}, step {made.step}: {made.form}"
    url = push(out, target, message, _say)
    if not as_json:
        click.echo(f"pushed: {url}")
    return {"dry_run": False, "repo": target.repo, "commit": url}


def _print_plan(plan: PushPlan) -> None:
    n, total = format_count(len(plan.files)), format_bytes(sum(plan.files.values()))
    click.echo(f"would push {n} files, {total}, to {plan.repo}, {plan.revision}")
    click.echo(f"visibility: {plan.visibility}")
    width = max(map(len, plan.files))
    for name, size in plan.files.items():
        click.echo(f"  {name:<{width}}  {format_bytes(size):>10}")
    click.echo("calls of huggingface_hub.HfApi, none of which was made:")
    for call in plan.calls:
        click.echo(f"  {call}")


def _check(folder: Path, run: str | None, as_json: bool) -> None:
    from tunebook.workflows.release_folder import check_release

    found = check_release(folder, run)
    if as_json:
        from tunebook.book.codec import dump_json

        click.echo(dump_json(found, indent=True).decode(), nl=False)
        return
    n, size = format_count(len(found.files)), format_bytes(found.total_bytes)
    click.echo(f"{folder}: {n} files, {size}, as in its manifest")
    record = found.release
    if record is None:
        click.echo(
            "no run's record of it was found: the manifest alone was asked, which whoever changes "
            "a file can write anew; `--run RUN` in its book asks the record"
        )
        return
    click.echo(
        f"released by run {record.run} on {record.released}: {record.weights}, step {record.step}, "
        f"{record.form}, {record.precision}, as in the run's own record"
    )
