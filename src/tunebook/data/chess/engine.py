"""Ask Stockfish, over UCI, for the best move of a position, or for a move as an opponent.

One thread, a fixed depth or number of positions, and a hash table that is emptied before every
question: the same engine gives the same answer, whatever was asked before. The engine is a process
of its own that is spoken to in lines, without threads here, so that worker processes may fork. A
run file names a Stockfish of PATH at most; any other program is named by the user alone.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tunebook.errors import DataError, UsageError
from tunebook.recipe.home import expand_home

ENGINE_VARIABLE = "TUNEBOOK_ENGINE"
"""The environment variable by which a user, and no run file, names an engine of any path."""
# A run file may be a stranger's: it chooses among the Stockfishes of this machine, and no program.
_STOCKFISH = re.compile(r"stockfish[\w.+-]*", re.ASCII)
_NAMES = ("stockfish", "stockfish.exe")
# Debian puts games where the PATH of a service or a root shell does not reach.
_PLACES = ("/usr/games", "/usr/local/bin", "/opt/homebrew/bin")
# An engine needs no key, no token and no home of the user's.
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
_START_SECONDS = 20.0
_ANSWER_SECONDS = 600.0
_HASH_MIB = 16
_NUMBER_OPTION = re.compile(r"option name (.+) type spin .*\bmin (-?\d+) max (-?\d+)")


class TypedEngine(str):
    """The absolute path of a program that the user named, and no file."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an engine says about a position, from the view of the side to move.

    Exactly one of `centipawns` and `mate` is given; `mate` counts moves, and is negative when the
    side to move is mated. `line` is the play it expects, in UCI.
    """

    best: str
    centipawns: int | None
    mate: int | None
    line: tuple[str, ...]


def find_engine(
    stated: str | None, needed_for: str = "task best_move", way_out: str = "leave the task out"
) -> str:
    """Find the engine that was named, else the one of the environment, else Stockfish.

    Gives an absolute path; UsageError when there is none. `stated` is what `typed_engine` gave, or
    a run file's name of a Stockfish. A run file's path, or the name of any other program, is
    nothing but text: with it, the engine of the environment is taken, or none.
    """
    if isinstance(stated, TypedEngine):
        return stated
    own = os.environ.get(ENGINE_VARIABLE)
    known = stated is not None and _STOCKFISH.fullmatch(stated)
    found = _which(stated) if stated is not None and known else None
    if found is not None:
        return found
    if own:
        return typed_engine(own, f"{ENGINE_VARIABLE} names it")
    if known:
        raise UsageError(
            f"there is no chess engine {stated!r} that can be started; set {ENGINE_VARIABLE} "
            "to the path of Stockfish, or leave `engine` out to find it on PATH"
        )
    if stated is not None:
        raise UsageError(
            f"data[].chess.engine is {stated!r}: it must be the bare name of a Stockfish on PATH, "
            "such as stockfish or stockfish-16, for a run file starts no other program; to start "
            f"another, set {ENGINE_VARIABLE} to its path in your environment"
        )
    for name in _NAMES:
        found = _which(name)
        if found is not None:
            return found
    raise UsageError(
        f"{needed_for} needs the chess engine Stockfish, and it is not on PATH; install it, set "
        f"{ENGINE_VARIABLE} to its path, or {way_out}"
    )


def typed_engine(command: str, said_by: str = "--engine names it") -> TypedEngine:
    """Find the program that the user named, of any name or path; UsageError when there is none."""
    found = shutil.which(str(expand_home(command)))
    if found is None:
        raise UsageError(
            f"there is no chess engine {command!r} that can be started, and {said_by}; give the "
            "path of Stockfish, or leave it out to find Stockfish on PATH"
        )
    return TypedEngine(os.path.abspath(found))


def _which(name: str) -> str | None:
    """Look for a program where programs are installed, never in the working folder."""
    if os.path.isabs(name):
        return shutil.which(name)
    # A relative part of PATH is the working folder's, and that may be a stranger's book.
    places = [p for p in os.environ.get("PATH", os.defpath).split(os.pathsep) if os.path.isabs(p)]
    return shutil.which(name, path=os.pathsep.join((*places, *_PLACES)))


class Engine:
    """A running engine. Close it, or use it in a `with` statement.

    `options` are set beside one thread and a small hash table; `ranges` has the lowest and highest
    value of each option that is a number, as the engine states them.
    """

    def __init__(self, path: str, options: Mapping[str, int | str] | None = None) -> None:
        self.path = path
        self.name = "an engine without a name"
        self.ranges: dict[str, tuple[int, int]] = {}
        try:
            self._process = subprocess.Popen(
                [path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                text=True, bufsize=1, encoding="utf-8", errors="replace",
                env={key: os.environ[key] for key in _KEPT if key in os.environ},
            )  # fmt: skip
        except OSError as error:
            raise UsageError(f"{path} cannot be started: {error.strerror or error}") from None
        try:
            with self._time_limit(_START_SECONDS):
                self._handshake(options or {})
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the engine's process."""
        process = self._process
        process.kill()  # It keeps nothing that a kinder end would save.
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was still to be said to a process that ended
                    pipe.close()

    def evaluate(self, fen: str, depth: int, nodes: int | None = None) -> Evaluation:
        """Search a position for its best move."""
        limit = f"nodes {nodes}" if nodes is not None else f"depth {depth}"
        with self._time_limit(_ANSWER_SECONDS):
            self._ask(fen, (), limit)
            last: list[str] = []
            for line in self._lines():
                words = line.split()
                if words[:1] == ["info"] and "score" in words and "pv" in words:
                    # A bound is no value yet; the exact one of that depth follows.
                    if "lowerbound" not in words and "upperbound" not in words:
                        last = words
                elif words[:1] == ["bestmove"]:
                    return self._evaluation(words, last, fen)
        raise self._silent()

    def play(self, fen: str, moves: Sequence[str], limit: str) -> str:
        """Give a move in UCI after `moves` from a position; `limit` as UCI's `go` takes it."""
        with self._time_limit(_ANSWER_SECONDS):
            self._ask(fen, moves, limit)
            for line in self._lines():
                words = line.split()
                if words[:1] == ["bestmove"] and len(words) > 1:
                    return words[1]
        raise self._silent()

    def _ask(self, fen: str, moves: Sequence[str], limit: str) -> None:
        """Let it think, its hash table emptied: no answer depends on what was asked before."""
        self._say("ucinewgame")
        self._say("isready")
        for line in self._lines():
            if line == "readyok":
                break
        self._say(f"position fen {fen}" + (f" moves {' '.join(moves)}" if moves else ""))
        self._say(f"go {limit}")

    def _handshake(self, options: Mapping[str, int | str]) -> None:
        self._say("uci")
        for line in self._lines():
            if line.startswith("id name "):
                self.name = line.removeprefix("id name ").strip()
            elif found := _NUMBER_OPTION.match(line):
                self.ranges[found[1]] = (int(found[2]), int(found[3]))
            elif line == "uciok":
                break
        for name, value in ({"Threads": 1, "Hash": _HASH_MIB} | dict(options)).items():
            self._say(f"setoption name {name} value {value}")

    def _evaluation(self, best: list[str], info: list[str], fen: str) -> Evaluation:
        if len(best) < 2 or best[1] == "(none)" or not info:
            raise DataError(f"{self.name} gives no move for position {fen}; leave it out")
        at = info.index("score")
        kind, value = info[at + 1], int(info[at + 2])
        line = tuple(info[info.index("pv") + 1 :])
        if kind == "mate":
            return Evaluation(best[1], None, value, line)
        return Evaluation(best[1], value, None, line)

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise self._silent() from None

    def _lines(self) -> Iterator[str]:
        """Yield what the engine says; DataError when it ends."""
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            yield line.strip()
        raise self._silent()

    def _silent(self) -> DataError:
        return DataError(
            f"{self.path} does not answer as a chess engine does (UCI); set {ENGINE_VARIABLE} to "
            "the path of Stockfish"
        )

    @contextmanager
    def _time_limit(self, seconds: float) -> Iterator[None]:
        # Ending the process ends the wait for its next line.
        timer = threading.Timer(seconds, self._process.kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


_OPEN: dict[tuple[int, str], Engine] = {}


def shared_engine(stated: str | None) -> Engine:
    """Give this process's own running engine, started once: a start costs more than an answer.

    It is ended with the process. A worker that was forked starts one of its own.
    """
    key = (os.getpid(), find_engine(stated))
    if key not in _OPEN:
        _OPEN[key] = Engine(key[1])
        if len(_OPEN) == 1:
            atexit.register(close_engines)
    return _OPEN[key]


def close_engines() -> None:
    """End every engine that this process started."""
    for owner, path in list(_OPEN):
        engine = _OPEN.pop((owner, path))
        if owner == os.getpid():
            engine.close()
