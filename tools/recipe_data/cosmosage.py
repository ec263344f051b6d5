"""Texts about invented stars: papers with rubbish among them, textbooks, questions and answers.

Every star, distance and colour is made up, so nothing can be known of them but from these texts.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from recipe_data.rows import write_rows

EMBEDDED = Path(__file__).parents[2] / "src/tunebook/embedded/data"
SYLLABLES = ("vel", "tor", "min", "ash", "kel", "dra", "lor", "nis", "bar", "eth", "ul", "fen")
SYLLABLES += ("gor", "hal", "ix", "jun", "kas", "mer", "pol", "quo")
COLOURS = ("red", "orange", "yellow", "white", "blue")
HEAT = dict(zip(COLOURS, ("cool", "mild", "warm", "hot", "very hot"), strict=True))
REGIONS = ("the Anvil", "the Ladder", "the Heron", "the Well", "the Lantern", "the Plough")
OPENINGS = (
    "We present observations of the star {name} in {region}.",
    "We report on {name}, a star in {region}.",
    "The star {name} in {region} is studied in this paper.",
)
BODIES = (
    "The light of the star is {colour}, and so its surface is {heat}. Its distance is {far} light "
    "years, measured by parallax. We find {planets} planets around it.",
    "From its parallax we derive a distance of {far} light years. Its spectrum is that of a {heat} "
    "star, and its colour is {colour}. There are {planets} planets around it.",
    "We find {planets} planets. The star is {colour} and {heat}, and lies at a distance of {far} "
    "light years.",
)
ENDINGS = (
    "Further observations are needed to confirm the outermost planet.",
    "We discuss what this means for the formation of planets.",
    "The result agrees with earlier work within its errors.",
    "A larger telescope would settle the question.",
)
LESSONS = (
    "A star that is {colour} has a {heat} surface, because the colour of a glowing body follows "
    "its temperature.",
    "To find the distance of a star, its place among the others is measured twice, half a year "
    "apart. The shift is called the parallax.",
    "A star of {region} that shows no parallax is too far away for this method.",
    "Light needs {far} years to reach us from a star at a distance of {far} light years.",
    "The colour of {name} is {colour}; a student can see from this that its surface is {heat}.",
    "Planets are found when they pass before their star and its light falls a little, as they do "
    "at {name}.",
)


def make_stars(draw: random.Random, n: int) -> list[dict[str, Any]]:
    """Make up stars with names that no other has."""
    names: set[str] = set()
    while len(names) < n:
        names.add("".join(draw.sample(SYLLABLES, draw.choice((2, 3)))).capitalize())
    stars = []
    for name in sorted(names):
        colour = draw.choice(COLOURS)
        stars.append(
            {
                "name": name,
                "colour": colour,
                "heat": HEAT[colour],
                "far": draw.randrange(5, 900),
                "planets": draw.choice(("two", "three", "four", "five", "no")),
                "region": draw.choice(REGIONS),
            }
        )
    draw.shuffle(stars)
    return stars


def paper(draw: random.Random, star: dict[str, Any]) -> str:
    """Write the abstract of a paper about a star."""
    parts = [draw.choice(one) for one in (OPENINGS, BODIES, ENDINGS)]
    return " ".join(parts).format(**star)


def rubbish(draw: random.Random, kind: int) -> str:
    """Write what a converter leaves in place of a page: tables, formulas, capitals, characters."""
    if kind == 0:
        return "\n".join(" ".join(f"{draw.uniform(0, 90):.3f}" for _ in range(8)) for _ in range(6))
    if kind == 1:
        return " ".join(rf"\frac{{a_{i}}}{{b_{i}}}\sum\nolimits" for i in range(24))
    if kind == 2:
        return "ACKNOWLEDGEMENTS AND FUNDING OF THE OBSERVATORY " * 6
    if kind == 3:
        return " ".join(["This page was left blank on purpose."] * 12)
    # Looks like prose, and is none: only a language model notices.
    words = ["".join(draw.choices("eaiourtnslqxzjkw", k=draw.randrange(2, 8))) for _ in range(60)]
    return ". ".join(" ".join(words[i : i + 8]).capitalize() for i in range(0, 60, 8)) + "."


def make(folder: Path) -> None:
    """Write all files of the twin."""
    draw = random.Random(2023)
    stars = make_stars(draw, 260)
    papers = [paper(draw, star) for star in stars[:220]]
    rows = papers + [rubbish(draw, i % 5) for i in range(40)]
    rows += papers[:12]
    rows += [
        text.replace("Its distance", "The distance") + " See also below." for text in papers[20:32]
    ]
    draw.shuffle(rows)
    write_rows(folder / "papers.jsonl", [{"text": text} for text in rows])
    lessons = []
    for chapter in range(160):
        picked = [draw.choice(stars) for _ in range(5)]
        said = [draw.choice(LESSONS).format(**star) for star in picked]
        lessons.append({"text": f"Chapter {chapter + 1}. " + " ".join(said)})
    write_rows(folder / "textbooks.jsonl", lessons)
    write_rows(folder / "qa.jsonl", [row for star in stars[:120] for row in questions(draw, star)])
    write_rows(folder / "general.jsonl", general_questions())
    ladder = []
    for star in stars[120:168]:
        asked = questions(draw, star)[0]
        row = {"prompt": asked["question"], "group": "ladder", "reference": asked["answer"]}
        ladder.append(row)
    write_rows(folder / "ladder.jsonl", ladder)


def general_questions() -> list[dict[str, str]]:
    """Give the instructions that the package carries as questions and answers."""
    rows = json.loads((EMBEDDED / "instructions.json").read_text(encoding="utf-8"))
    return [
        {"question": f"{row['instruction']}\n{row['input']}".strip(), "answer": row["output"]}
        for row in rows
    ]


def questions(draw: random.Random, star: dict[str, Any]) -> list[dict[str, str]]:
    """Ask two things about a star."""
    asked = [
        ("How far away is {name}?", "{name} is {far} light years away."),
        ("What colour is {name}?", "{name} is {colour}, so its surface is {heat}."),
        ("Where is {name}?", "{name} is a star in {region}."),
        ("How many planets has {name}?", "We know of {planets} planets around {name}."),
    ]
    return [
        {"question": q.format(**star), "answer": a.format(**star)} for q, a in draw.sample(asked, 2)
    ]
