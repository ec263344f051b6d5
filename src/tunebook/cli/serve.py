"""`tunebook serve`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tunebook.workflows.serve import Server


@click.command("serve")
@click.argument("run")
@click.option("--weights", default="final", show_default=True, help="final, best or step-N.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="0: any that is free.",
)
@click.option(
    "--engine",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "transformers", "vllm"]),
    help="Whose server; auto: vllm where it is installed and there is a CUDA device.",
)
@click.option("--device", help="auto, cpu, cuda or mps; vllm chooses by itself.")
def command(run: str, weights: str, host: str, port: int, engine: str, device: str | None) -> None:
    """Serve a run's weights over the OpenAI protocol; Ctrl-C ends it.

    The weights are released into the book's own folder, adapters merged and all of it verified,
    once for the same weights. Then `transformers serve` or `vllm serve` is started on them, and
    asks in the template of the run. It listens on this machine alone unless --host says otherwise,
    and asks for no key.
    """
    from tunebook.book.places import find_book
    from tunebook.workflows.weights import refuse_missing

    if engine == "vllm" and device not in (None, "auto"):
        raise click.UsageError("vllm chooses its device by itself; leave --device out")
    refuse_missing(find_book(), run, [weights])
    # What comes now takes seconds to import.
    from tunebook.workflows.serve import serve

    serve(
        run,
        find_book(),
        weights=weights,
        host=host,
        port=port,
        engine=engine,
        device=device,
        say=lambda text: click.echo(text, err=True),
        ready=_show,
    )


def _show(server: Server) -> None:
    """Say where the server is and how it is used."""
    served, release = server.served, server.served.release
    what = f"{release.weights} of run {release.run}, step {release.step}: {release.form}"
    lines = [
        ("serving", f"{what}, {release.precision}, by {server.engine}"),
        ("address", server.base_url),
        ("model", served.name),
    ]
    if release.chat_template is None:
        lines.append(("asks", "/v1/completions alone: the run has no chat template"))
    else:
        lines.append(("asks", f"in template {release.chat_template}; /v1/completions in none"))
    if served.context is not None:
        lines.append(("context", f"{served.context:,} tokens of prompt and max_tokens together"))
    if release.chat_template is not None:
        judge = f"--base-url {server.base_url} --judge-model {served.name}"
        lines.append(("judge", f"tunebook judge RUN {judge}"))
    for name, text in lines:
        click.echo(f"{name:<12}{text}")
    click.echo("Ctrl-C ends it", err=True)
