"""YAML 1.2 text -> plain values, remembering the line of every key.

Only plain data comes out: no tags, no merge keys, no dates. Alias expansion, depth and size are
bounded, so that a hostile file costs nothing but one sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from tunebook.errors import RunFileError
from tunebook.regular import NotReadable, open_regular, what_else

MAX_FILE_BYTES = 1 << 20
MAX_WRITTEN = 10_000
"""Keys and values as they are written: to compose more takes seconds."""
MAX_NODES = 50_000  # after aliases are expanded
MAX_DEPTH = 50
MAX_BITS = 1024
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class YamlText:
    """Values with the line (from 1) of every dotted key; `origin` is how messages name the file."""

    values: Any
    lines: dict[str, int]
    origin: str

    def at(self, key: str) -> str:
        """Name file and line of a dotted key, or of the nearest key around it."""
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
        return f"{self.origin}:{self.lines[key]}" if key else self.origin


def refuse_no_file(path: Path, *, is_run: bool = False) -> None:
    """Raise RunFileError for what can only be meant as a run file and is none.

    What may be the name of a run is left alone: one without a folder or an ending, unless a folder
    is there by that name and no such run (`is_run`).
    """
    meant = path.suffix in (".yaml", ".yml") or len(path.parts) > 1
    if (meant or not is_run) and path.is_dir():
        raise RunFileError(f"run file {str(path)!r} is a folder; name the run file in it")
    if not meant:
        return
    refuse_pipe(path)
    raise RunFileError(f"run file {str(path)!r}: there is no such file")


def refuse_pipe(path: Path) -> None:
    """Raise RunFileError for a pipe, a socket or a device, of which no run could be made again."""
    if (what := what_else(path)) in ("a pipe", "a socket", "a device"):
        raise RunFileError(f"{path}: it is {what}, not a file; write it to a file and name that")


def read_text(path: Path) -> str:
    """Read a run file as UTF-8; RunFileError when it is missing, too large or something else."""
    try:
        if path.is_dir():
            raise RunFileError(f"{path}: this is a folder; name the run file in it")
        with open_regular(path) as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise RunFileError(f"{path}: there is no such run file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        way_out = ""
        if isinstance(error, NotReadable):
            way_out = "; write it to a file and name that"
        raise RunFileError(f"{path}: the run file cannot be read: {reason}{way_out}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise RunFileError(f"{path}: the file is larger than 1 MiB; is this a run file?")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise RunFileError(
            f"{path}:{line}: byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from None


class _TooMany(Exception):
    """More is written than a run file holds; carries the line, from 1."""


class _CountingComposer(Composer):
    """Ends with the first node too many, before the rest of the text is read."""

    n_written = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.n_written += 1
        if self.n_written > MAX_WRITTEN:
            raise _TooMany(self.parser.peek_event().start_mark.line + 1)
        return super().compose_node(parent, index)


def parse_yaml(text: str, origin: str) -> YamlText:
    """Parse one YAML document; RunFileError names the line of what is wrong with it."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _CountingComposer
    yaml.composer.warn_double_anchors = False
    try:
        root = yaml.compose(text)
        if root is None:
            return YamlText(None, {}, origin)
        builder = _Builder(yaml, origin)
        return YamlText(builder.build(root, "", 0), builder.lines, origin)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{origin}:{mark.line + 1}" if mark is not None else origin
        raise RunFileError(f"{where}: this is not valid YAML: {_problem(error)}") from None
    except _TooMany as error:
        raise RunFileError(
            f"{origin}:{error}: here stand more than {MAX_WRITTEN:,} keys and values; is this a "
            "run file?"
        ) from None
    except RecursionError:
        raise RunFileError(f"{origin}: values are nested too deeply to be a run file") from None
    except (YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise RunFileError(f"{origin}: this is not valid YAML: {reason}") from None


def _problem(error: MarkedYAMLError) -> str:
    if "'\\t'" in str(error.problem):
        return "a Tab stands here, which YAML does not take; indent with spaces"
    parts = [str(part) for part in (error.context, error.problem) if part]
    return " ".join(", ".join(parts).split())


class _Builder:
    """Walks the node tree once; aliases are followed, counted, and refused when they circle."""

    def __init__(self, yaml: YAML, origin: str) -> None:
        self.construct = yaml.constructor
        self.origin = origin
        self.lines: dict[str, int] = {}
        self.n_nodes = 0

    def build(self, node: Node, key: str, depth: int) -> Any:
        self.n_nodes += 1
        if self.n_nodes > MAX_NODES:
            raise self.wrong(node, f"more than {MAX_NODES} values (do aliases repeat themselves?)")
        if depth > MAX_DEPTH:
            raise self.wrong(node, "values nested too deeply, or an alias that contains itself")
        if isinstance(node, MappingNode):
            self.expect(node, "map")
            return self.mapping(node, key, depth)
        if isinstance(node, SequenceNode):
            self.expect(node, "seq")
            items = []
            for index, item in enumerate(node.value):
                below = f"{key}.{index}" if key else str(index)
                self.lines[below] = item.start_mark.line + 1
                items.append(self.build(item, below, depth + 1))
            return items
        return self.scalar(node)

    def mapping(self, node: MappingNode, key: str, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name_node, value_node in node.value:
            if not isinstance(name_node, ScalarNode):
                raise self.wrong(name_node, "a key that is not a word")
            name = str(name_node.value)
            if str(name_node.tag) == _TAG + "null":
                raise self.wrong(name_node, "a key without a name")
            if name in values:
                first = self.lines.get(f"{key}.{name}" if key else name)
                raise RunFileError(
                    f"{self.origin}:{name_node.start_mark.line + 1}: `{name}` is there a second "
                    f"time (first on line {first})"
                )
            below = f"{key}.{name}" if key else name
            self.lines[below] = name_node.start_mark.line + 1
            values[name] = self.build(value_node, below, depth + 1)
        return values

    def scalar(self, node: Node) -> Any:
        kind = str(node.tag).removeprefix(_TAG)
        if kind == "null":
            return None
        if kind == "bool":
            # Only YAML 1.1, which a directive can ask for, also calls yes and on booleans.
            return {"true": True, "false": False}.get(node.value.lower(), str(node.value))
        if kind in ("int", "float"):
            return self.number(node, kind)
        if kind in ("str", "timestamp", "merge", "value"):  # YAML 1.2 knows only the first of these
            return str(node.value)
        raise self.wrong(node, f"the tag {node.tag}; only plain values are read")

    def number(self, node: Node, kind: str) -> Any:
        try:
            if kind == "int":
                found = self.construct.construct_yaml_int(node)
                # One in hex may be longer than Python is willing to write down.
                if found.bit_length() > MAX_BITS:
                    raise self.wrong(node, "a whole number with over 300 digits")
                return found
            return self.construct.construct_yaml_float(node)
        except ValueError:  # such as `_`, which looks like digits to the parser
            return str(node.value)

    def expect(self, node: Node, kind: str) -> None:
        if str(node.tag) != _TAG + kind:
            raise self.wrong(node, f"the tag {node.tag}; only plain values are read")

    def wrong(self, node: Node, what: str) -> RunFileError:
        return RunFileError(f"{self.origin}:{node.start_mark.line + 1}: here stands {what}")
