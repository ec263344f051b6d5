"""What probes of a run came to, group by group, for its page and the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunebook.book.codec import to_record
from tunebook.pages.evaluations import comparison_text, interval_text, scored_text
from tunebook.pages.markdown import escape, table
from tunebook.records import Comparison, Evaluation
from tunebook.statistics.words import verdict_text
from tunebook.units import format_number, format_percent

_GROUPS = {
    "in": "held-out examples of its own data",
    "near": "same form, unseen keyword",
    "out": "general questions",
    "ladder": "from far to near",
    "general": "general text, read and not answered",
}
HEADER = ("number", "against", "its value", "tuned", "difference", "95 % interval", "verdict")


def write_probes(evaluations: Sequence[Evaluation]) -> str:
    """Write the numbers of the newest probe of each of the weights; empty without one."""
    newest = {one.subject: one for one in evaluations if one.kind == "probe"}
    sections = [_section(one) for one in newest.values()]
    return "\n".join(["## Probes\n", *sections]) if sections else ""


def _section(one: Evaluation) -> str:
    details: Mapping[str, Any] = one.details
    found = [f"### {escape(one.subject)} against base\n"]
    found += [f"{escape(line)}.\n" for line in _verdicts(details)]
    for group, measures in _by_group(details):
        rows = [[escape(cell) for cell in _cells(each)] for each in measures]
        n = details["prompts"].get(group)
        asked = f", {n} prompts" if n else ""
        found.append(f"**{group}**: {_GROUPS[group]}{asked}\n")
        found.append(table(HEADER, rows, ("its value", "tuned", "difference")))
    sampling = one.settings["sampling"]
    assert isinstance(sampling, Mapping)
    repeats = one.settings["repeats"]
    found.append(
        f"{repeats} {'answer' if repeats == 1 else 'answers'} to a prompt, "
        f"temperature {sampling['temperature']}, at most {sampling['max_new_tokens']} tokens, "
        f"seed {one.settings['seed']}. Verdicts are adjusted for "
        "the number of differences shown (Holm).\n"
    )
    return "\n".join(found)


def probe_rows(one: Evaluation) -> list[tuple[str, list[list[str]]]]:
    """Give each class of prompts in words, with the cells of `HEADER` for each of its numbers."""
    return [
        (f"{group}: {_GROUPS[group]}", [_cells(each) for each in measures])
        for group, measures in _by_group(one.details)
    ]


def probe_verdicts(one: Evaluation) -> list[str]:
    """Say in sentences what spilled over, narrowed and was kept."""
    return list(_verdicts(one.details))


def probe_lines(one: Evaluation) -> Iterator[str]:
    """Write a probe for the terminal."""
    details: Mapping[str, Any] = one.details
    yield f"{one.subject} against base"
    yield from (f"  {line}" for line in _verdicts(details))
    for group, measures in _by_group(details):
        n = details["prompts"].get(group)
        yield f"{group}: {_GROUPS[group]}" + (f", {n} prompts" if n else "")
        for each in measures:
            yield f"  {_line(each)}"
    for prompt in details.get("shown", ()):
        for who, answers in prompt["answers"].items():
            yield f"{prompt['prompt']}, {who}{_style_of(prompt, who)}"
            yield from (f"  {answer}" for answer in answers)


def _style_of(prompt: Mapping[str, Any], who: str) -> str:
    styled = prompt["in_style"]
    return "" if styled is None else f": {format_percent(styled[who])} in the style of its domain"


def _line(each: Mapping[str, Any]) -> str:
    tuned = each["tuned"]
    name = f"{each['name']} ({each['unit']})"
    if each["difference"] is None:
        return f"{name}: {scored_text(tuned['score'], tuned['interval'])}"
    difference = to_record(Comparison, each["difference"])
    other = format_number(each["other"]["score"])
    return (
        f"{name}: {each['against']} {other}, tuned {format_number(tuned['score'])}, difference "
        f"{comparison_text(difference)}"
    )


def _cells(each: Mapping[str, Any]) -> list[str]:
    name, tuned = f"{each['name']} ({each['unit']})", format_number(each["tuned"]["score"])
    if each["difference"] is None:
        return [name, "", "", tuned, "", interval_text(each["tuned"]["interval"]), ""]
    found = to_record(Comparison, each["difference"])
    return [
        name,
        each["against"],
        format_number(each["other"]["score"]),
        tuned,
        format_number(found.difference),
        interval_text(found.interval),
        verdict_text(found),
    ]


def _by_group(details: Mapping[str, Any]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    for group in _GROUPS:
        measures = [each for each in details["measures"] if each["group"] == group]
        if measures:
            yield group, measures


def _verdicts(details: Mapping[str, Any]) -> Iterator[str]:
    """Say in sentences what spilled over, narrowed and was kept."""
    retention = details["retention"]
    if retention["kept"] is None:
        yield "kept: unknown, the base reads the general text no better than a unigram does"
    else:
        kept = scored_text(retention["kept"], retention["interval"])
        yield f"kept of the base's general knowledge of language: {kept}"
    if (narrowed := details["narrowed"]) is not None:
        p, words = format_number(narrowed["p_one_sided"]), "narrowed to the words of its domain"
        said = {True: words, False: f"not {words}", None: f"{words}: too few prompts to say"}
        yield f"{said[narrowed['narrowed']]} (one-sided p {p})"
    if (spill := details["spill_over"]) is not None:
        apart = " and ".join(format_number(j) for j in spill["told_apart"])
        yield f"the style of its domain is told from general text with a Youden's J of {apart}"
