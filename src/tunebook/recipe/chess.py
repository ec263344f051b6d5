"""The knobs of a source of chess games."""

from __future__ import annotations

import string
from typing import Literal, get_args

from pydantic import Field, field_validator, model_validator

from tunebook.recipe.section import Section

ChessTask = Literal["result", "next_move", "masked_moves", "last_move", "best_move"]

TEMPLATE_FIELDS = ("question", "header", "moves", "side", "task", "fen", "mask")
"""What a prompt template may hold between braces."""


_ONE_TASK: list[ChessTask] = ["next_move"]


class Chess(Section):
    """How games of format chess-uci or pgn become prompts and answers."""

    tasks: list[ChessTask] | dict[ChessTask, float] = Field(
        _ONE_TASK,
        description="What is asked: result, next_move, masked_moves, last_move, best_move; as "
        "{next_move: 3, result: 1} with shares.",
    )
    per_game: int = Field(1, gt=0, le=1000, description="Examples of each game, at most.")
    template: str = Field(
        "{question}\n\n{header}{moves}",
        description="The prompt: {question}, {header}, {moves}, {side}, {task}, {fen}, {mask}.",
    )
    header: bool | list[str] = Field(
        True,
        description="Header tags shown: true is Result, WhiteElo, BlackElo, ECO, TimeControl, "
        "Termination as given; or a list of tags. Task result never shows how the game ended.",
    )
    mask: str = Field("[?]", min_length=1, description="What stands for a masked move.")
    masked: int = Field(3, gt=0, description="Moves hidden by task masked_moves, at most half.")
    min_ply: int = Field(
        0, ge=0, description="Fewest moves shown before the next or best one is asked for."
    )
    max_ply: int | None = Field(None, ge=0, description="Most moves shown before it.")
    seed: int = Field(0, ge=0, lt=2**32, description="Decides tasks and places of each game.")
    engine: str | None = Field(
        None,
        description="Stockfish for best_move, by the name it has on PATH (stockfish-16); another "
        "engine is named by TUNEBOOK_ENGINE in the environment.",
    )
    depth: int = Field(12, gt=0, le=60, description="How many plies deep it searches.")
    nodes: int | None = Field(None, gt=0, description="Positions it searches, instead of a depth.")

    @field_validator("tasks", mode="before")
    @classmethod
    def _known_tasks(cls, tasks: object) -> object:
        known = get_args(ChessTask)
        for name in tasks if isinstance(tasks, (list, dict)) else ():
            if name not in known:
                raise ValueError(f"must name tasks, not {name!r}; there is {', '.join(known)}")
        return tasks

    @field_validator("tasks")
    @classmethod
    def _some_task(
        cls, tasks: list[ChessTask] | dict[ChessTask, float]
    ) -> list[ChessTask] | dict[ChessTask, float]:
        if not tasks:
            raise ValueError("must name at least one task")
        if isinstance(tasks, list) and len(set(tasks)) < len(tasks):
            raise ValueError("must name each task once; give shares as {next_move: 2, result: 1}")
        if isinstance(tasks, dict) and not all(share > 0 for share in tasks.values()):
            raise ValueError("must have shares above 0; leave out what shall not be asked")
        return tasks

    @field_validator("template")
    @classmethod
    def _known_fields(cls, template: str) -> str:
        known = ", ".join(f"{{{name}}}" for name in TEMPLATE_FIELDS)
        try:
            parsed = list(string.Formatter().parse(template))
        except ValueError as error:
            raise ValueError(f"must be a template with {known} ({error})") from None
        found = [part for part in parsed if part[1] is not None]
        for _, name, spec, conversion in found:
            if name not in TEMPLATE_FIELDS or spec or conversion:
                raise ValueError(f"must hold no other fields than {known}, not {{{name}}}")
        if not {"moves", "fen"} & {part[1] for part in found}:
            raise ValueError("must hold {moves} or {fen}, or nothing is asked about the game")
        return template

    @field_validator("mask")
    @classmethod
    def _one_word(cls, mask: str) -> str:
        if len(mask.split()) != 1 or mask.split()[0] != mask:
            raise ValueError("must be one word without spaces")
        return mask

    @model_validator(mode="after")
    def _consistent(self) -> Chess:
        if self.max_ply is not None and self.max_ply < self.min_ply:
            raise ValueError("`max_ply` must not be below `min_ply`")
        if "masked_moves" in self.tasks and "{moves}" not in self.template:
            raise ValueError("`template` must hold {moves} for task masked_moves")
        return self

    @property
    def shares(self) -> dict[ChessTask, float]:
        """Give each task its share, 1 when only named."""
        if isinstance(self.tasks, dict):
            return dict(self.tasks)
        return dict.fromkeys(self.tasks, 1.0)
