"""Talks with invented characters, as a community sends them in, and what is trained beside them.

Talks (persona, scenario, turns) with what is wrong with such data among them; questions that bring
a fact along; chains of thought; instructions; and prompts for probes, of characters that stand in
no training row. Every character, place and creature is made up.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from recipe_data.cosmosage import general_questions
from recipe_data.rows import write_rows

TRADES = (
    ("lighthouse keeper", "the lamp", "Ships must find their way home."),
    ("clockmaker", "the gears", "A clock that is late tells lies all day."),
    ("beekeeper", "the hives", "Bees remember who is gentle with them."),
    ("mapmaker", "the maps", "No map is ever finished."),
    ("baker", "the ovens", "Bread waits for nobody."),
    ("ferryman", "the ropes", "The river is never the same twice."),
    ("librarian", "the shelves", "A lost book is a lost voice."),
    ("gardener", "the roses", "Everything grows if you let it."),
)
NAMES = (
    *("Orla", "Bram", "Ilse", "Tovin", "Maud", "Rufus", "Hedda", "Caspar", "Wren", "Jorun"),
    *("Petra", "Silas", "Nessa", "Odo", "Brida", "Lorcan", "Yrsa", "Magnus", "Tilda", "Fenn"),
)
PLACES = ("the harbour", "the old mill", "the north gate", "the market", "the island", "the hill")
PETS = ("a one-eyed cat", "a tame crow", "a very old dog", "a lame fox", "a white goat")
MOODS = ("gruff but kind", "cheerful", "shy", "proud", "patient", "curious about everything")
GREETINGS = ("Good morning.", "Hello there!", "Good evening.", "May I come in?", "Hey!")
ASKED = {
    "trade": ("What do you do here?", "What is your work?", "What are you doing?"),
    "place": ("Where do you live?", "Is your house far from here?", "Where is home for you?"),
    "pet": ("Do you live alone?", "Who keeps you company?", "Have you any animals?"),
    "day": ("How was your day?", "You look tired.", "What happened today?"),
    "advice": ("What should I do?", "Can you teach me?", "What would you tell a beginner?"),
}
ACTIONS = ("smiles", "looks up", "wipes both hands", "nods slowly", "laughs", "points outside")
SAID = {
    "trade": "I am the {trade}, and I look after {thing} from morning to night. {motto}",
    "place": "I live near {place}, in a small house with a blue door that you see from the road.",
    "pet": "I live with {pet}. We found each other in a storm, and neither has left since.",
    "day": "It was a long day. I worked on {thing} until the light was gone, and then on.",
    "advice": "Begin with {thing}, and do not hurry. {motto} That is all my teacher ever told me.",
}
MORE = (
    "Sit down by the fire and I will tell you the rest of it, for it is a long story.",
    "People say that it cannot be done, and every year they come to see how it is done.",
    "When I was young I thought otherwise, and I was wrong about that and about much else.",
    "The wind has turned since yesterday, so we shall have rain before the week is over.",
    "You are the first who asks me that, and I have been waiting for somebody to ask.",
    "Tell me about yourself too, since a talk has two ends like every good rope.",
)
SHORT = ("Yes.", "Maybe.", "I think so.", "Not today.", "Why do you ask?", "Ha, good one.")
FOREIGN = (
    "Guten Abend, ich habe heute den ganzen Tag an der Lampe gearbeitet und bin sehr müde.",
    "Je suis désolé, mais le bateau est déjà parti et il ne revient pas avant demain matin.",
    "Ik woon hier al twintig jaar met mijn oude hond, en wij gaan nooit meer weg.",
)
LEFTOVERS = ("<br>{}<br/>", "{} &amp; so on &#39;", "[quote]{}[/quote]", "<i>{}</i>")
CREATURES = ("glimmerfish", "stone owl", "marsh pony", "salt beetle", "lantern moth", "reed wolf")
FACTS = (
    ("How long does a {0} live?", "The {0} lives for {1} years.", "It lives for {1} years."),
    ("How many eggs does a {0} lay?", "A {0} lays {1} eggs in spring.", "It lays {1} eggs."),
    ("How heavy is a {0}?", "A grown {0} weighs {1} pounds.", "It weighs {1} pounds."),
)
MEMORIES = (
    ("How many brothers have you?", "You have {1} brothers.", "I have {1} brothers."),
    ("How old is your house?", "Your house is {1} years old.", "My house is {1} years old."),
    ("How many boats do you own?", "You own {1} boats.", "I own {1} boats."),
)
REWORDED = ("As far as I know: {} Funny, is it not?", "Oh, that I can tell you. {}", "Well! {}")


def make(folder: Path) -> None:
    """Write all files of the twin."""
    draw = random.Random(2023)
    trained, kept_out = NAMES[:16], NAMES[16:]
    talks = [talk(draw, draw.choice(trained)) for _ in range(150)]
    talks += [spoil(draw, talk(draw, draw.choice(trained)), n % 5) for n in range(40)]
    talks += [dict(one) for one in draw.sample(talks[:150], 14)]
    talks += [almost(draw, one) for one in draw.sample(talks[:150], 14)]
    draw.shuffle(talks)
    write_rows(folder / "talks.jsonl", talks)
    held_out = [talk(draw, draw.choice(kept_out)) for _ in range(30)]
    write_rows(folder / "held-out.jsonl", held_out)
    write_rows(folder / "knowledge.jsonl", [grounded(draw, trained) for _ in range(120)])
    write_rows(folder / "thought.jsonl", [thought(draw) for _ in range(60)])
    rows = general_questions()[:80]
    instructions = [{"prompt": r["question"], "completion": r["answer"]} for r in rows]
    write_rows(folder / "instructions.jsonl", instructions)
    for name, asked in (("facts", FACTS), ("memories", MEMORIES)):
        rows = [probe(draw, kept_out, asked, f"{name}-{n}") for n in range(40)]
        write_rows(folder / f"{name}.jsonl", rows)


def character(draw: random.Random, name: str) -> dict[str, str]:
    """Make a character up; one name is not always the same character."""
    trade, thing, motto = draw.choice(TRADES)
    return {
        "name": name,
        "trade": trade,
        "thing": thing,
        "motto": motto,
        "place": draw.choice(PLACES),
        "pet": draw.choice(PETS),
        "mood": draw.choice(MOODS),
    }


def persona(who: dict[str, str]) -> str:
    """Say who a character is."""
    return "{name} is a {trade} near {place}, {mood}, and lives with {pet}.".format(**who)


def talk(draw: random.Random, name: str) -> dict[str, Any]:
    """Make a talk whose answers are all short, all long, or between."""
    who = character(draw, name)
    length = draw.choices(("short", "middle", "long"), weights=(5, 4, 3))[0]
    turns = []
    for asked in draw.sample(sorted(ASKED), draw.choice((2, 3))):
        said = draw.choice(ASKED[asked])
        if not turns:
            said = f"{draw.choice(GREETINGS)} {said}"
        turns.append({"speaker": "You", "text": said})
        turns.append({"speaker": "Bot", "text": answer(draw, who, asked, length)})
    scenario = f"You meet {who['name']} at {who['place']}."
    return {"persona": persona(who), "scenario": scenario, "turns": turns}


def answer(draw: random.Random, who: dict[str, str], asked: str, length: str) -> str:
    """Say something in a character's words, with what it does between asterisks."""
    if length == "short":
        return draw.choice(SHORT)
    said = SAID[asked].format(**who)
    if length == "long":
        said = " ".join([said, *draw.sample(MORE, 2)])
    return f'*{who["name"]} {draw.choice(ACTIONS)}* "{said}"'


def spoil(draw: random.Random, row: dict[str, Any], kind: int) -> dict[str, Any]:
    """Spoil the last answer of a talk as loggers and copying spoil them."""
    turns = [dict(turn) for turn in row["turns"]]
    said = turns[-1]["text"]
    if kind == 0:
        turns[-1]["text"] = f'*nods "{said}'.replace('""', '"')
    elif kind == 1:
        turns[-1]["text"] = f"{said} *and turns to the window without a further word"
    elif kind in (2, 3):
        turns[-1]["text"] = draw.choice(LEFTOVERS).format(said)
    else:
        turns[-1]["text"] = draw.choice(FOREIGN)
    return {**row, "turns": turns}


def almost(draw: random.Random, row: dict[str, Any]) -> dict[str, Any]:
    """Copy a talk with a word more, as one that was sent in twice."""
    turns = [dict(turn) for turn in row["turns"]]
    turns[-1]["text"] += draw.choice((" Well.", " Yes.", " There."))
    return {**row, "turns": turns}


def grounded(draw: random.Random, names: tuple[str, ...]) -> dict[str, Any]:
    """Make a question with a fact brought along, and an answer that says it in other words."""
    who = character(draw, draw.choice(names))
    asked, known, said = draw.choice(FACTS if draw.random() < 0.8 else MEMORIES)
    what = (draw.choice(CREATURES), draw.randrange(2, 90))
    return {
        "persona": persona(who),
        "turns": [
            {"speaker": "You", "text": asked.format(*what)},
            {"speaker": "Wiki", "text": known.format(*what)},
            {"speaker": "Bot", "text": draw.choice(REWORDED).format(said.format(*what))},
        ],
    }


def thought(draw: random.Random) -> dict[str, str]:
    """Make a sum with the way to it."""
    name, thing = draw.choice(NAMES), draw.choice(("apples", "letters", "lamps", "ropes"))
    had, more = draw.randrange(2, 20), draw.randrange(2, 20)
    return {
        "prompt": f"{name} has {had} {thing} and gets {more} more. How many are there? "
        "Think step by step.",
        "completion": f"There were {had} {thing}. With {more} more it is {had} + {more} = "
        f"{had + more}. The answer is {had + more}.",
    }


def probe(
    draw: random.Random, names: tuple[str, ...], asked: tuple[tuple[str, ...], ...], name: str
) -> dict[str, Any]:
    """Ask what only the fact beside the question can answer."""
    who = character(draw, draw.choice(names))
    question, known, _ = draw.choice(asked)
    what = (draw.choice(CREATURES), draw.randrange(91, 400))
    return {
        "id": name,
        "facts": [str(what[1])],
        "messages": [
            {"role": "system", "content": persona(who)},
            {"role": "user", "content": question.format(*what)},
            {"role": "knowledge", "content": known.format(*what)},
        ],
    }
