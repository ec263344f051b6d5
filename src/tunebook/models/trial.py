"""Try a stranger's chat template and patterns on made-up talk, and see whether they come to an end.

Run as a script in a process of its own, with limits on its time and memory: `tunebook.models.tried`
starts it. Nothing of this project is imported there, and neither torch nor transformers.
"""

from __future__ import annotations

import json
import re
import string
import sys
from collections.abc import Sequence
from typing import Any

MAX_RENDERED = 1 << 20
"""Characters that a short talk may become."""

_LONG = "Tell me more about it, please! " * 40
_TALKS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("user", "Hello"),),
    (("user", "Hello"), ("assistant", "Good day.")),
    (("system", "Be brief."), ("user", _LONG), ("assistant", "1\n2\n"), ("user", "And {{ 7 }}?")),
    (("user", "a"), ("assistant", "b")) * 6,
)


def limit(cpu_seconds: int, memory_bytes: int) -> None:
    """Bound this process; where the system knows no such limits, its parent's clock is left."""
    try:
        import resource
    except ImportError:
        return
    for kind, most in (
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        try:
            resource.setrlimit(kind, (most, most))
        except (OSError, ValueError):
            continue


def environment() -> Any:
    """Make a sandbox like that of transformers, without its account of what the assistant said."""
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """Let `{% generation %}` stand for what is in it."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    made.filters["tojson"] = lambda value, **_options: json.dumps(value, default=str)
    made.globals["raise_exception"] = refuse
    made.globals["strftime_now"] = lambda _format: "2026-01-01"
    return made


def try_template(template: str, tokens: dict[str, str]) -> str | None:
    """Render some talks; gives what is wrong with the template, None where it is harmless.

    One that does not parse, or refuses a talk, does no harm: whoever uses it is told then.
    """
    from jinja2.exceptions import SecurityError

    try:
        made = environment().from_string(template)
    except MemoryError:
        raise
    except Exception:
        return None
    for talk in _TALKS:
        messages = [{"role": role, "content": content} for role, content in talk]
        for asking in (False, True):
            size = 0
            try:
                for part in made.generate(
                    messages=messages,
                    add_generation_prompt=asking,
                    tools=None,
                    documents=None,
                    **tokens,
                ):
                    size += len(part)
                    if size > MAX_RENDERED:
                        return "makes over a million characters of them"
            except SecurityError:
                return "reaches for what the sandbox of transformers forbids"
            except MemoryError:
                raise
            except Exception:
                continue
    return None


def try_patterns(parts: dict[str, Any]) -> str | None:
    """Encode texts that make a pattern go back and forth, with a tokenizer that has no words.

    Gives what is wrong, None when it encodes them all, and a text of some thousand signs does not
    become a thousand times as long.
    """
    from tokenizers import Tokenizer

    settings = {
        "version": "1.0",
        "model": {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"},
        "added_tokens": [],
        **parts,
    }
    try:
        tokenizer = Tokenizer.from_str(json.dumps(settings))
    except Exception:  # whoever loads it says what is wrong with it
        return None
    if _grows(tokenizer, parts):
        return "makes over a million characters of them"
    signs = sorted(set(json.dumps(parts)) & set("abcdefghijklmnopqrstuvwxyzABCXYZ019 _-.,!'\n"))
    # What fits a pattern many times and then does not is what takes it longest.
    for sign in dict.fromkeys([*signs, "a", "1", " ", "\n", "é"]):
        for end in ("!", "\n", "x", "\0"):
            try:
                tokenizer.encode(sign * 60 + end)
            except MemoryError:
                raise
            except BaseException as error:  # a panic in Rust is no Exception
                return f"gave up ({' '.join(str(error).split())[:100]})"
    return None


def _grows(tokenizer: Any, parts: dict[str, Any]) -> bool:
    """Tell whether what replaces texts makes a very long one of all that it replaces."""
    text = f"{string.printable}é一" + "".join(_texts(parts))[: MAX_RENDERED >> 8]
    normalizer, decoder = tokenizer.normalizer, tokenizer.decoder
    if normalizer is not None and len(normalizer.normalize_str(text)) > MAX_RENDERED:
        return True
    return decoder is not None and len(decoder.decode([text])) > MAX_RENDERED


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, (dict, list)):
        within = value.values() if isinstance(value, dict) else value
        return [text for one in within for text in _texts(one)]
    return []


def try_expressions(expressions: Sequence[str], names: Sequence[str]) -> None:
    """Hold regular expressions against names; one that is none is whoever's who uses it."""
    for expression in expressions:
        try:
            known = re.compile(expression)
        except (re.error, RecursionError, OverflowError):
            continue
        for name in names:
            known.fullmatch(name)


def ready(asked: dict[str, Any]) -> str | None:
    """Import what the trial needs, by its parent's paths; gives what is missing, None if nothing.

    Done before the limits are set: what it takes is the machine's affair and not a template's.
    """
    known = set(sys.path)
    sys.path.extend(path for path in asked["paths"] if path not in known)
    try:
        if asked["templates"]:
            environment()
        if asked["patterns"] is not None:
            import tokenizers  # noqa: F401
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def main() -> None:
    """Read what is to be tried as JSON; say that it begins, then what is wrong, as JSON lines."""
    asked = json.load(sys.stdin)
    missing = ready(asked)
    print(json.dumps({"missing": missing}), flush=True)
    if missing is not None:
        return
    limit(asked["cpu_seconds"], asked["memory_bytes"])
    wrong = None
    try:
        for template in asked["templates"]:
            wrong = wrong or try_template(template, asked["tokens"])
        if wrong is None and asked["patterns"] is not None:
            wrong = try_patterns(asked["patterns"])
        try_expressions(asked["expressions"], asked["names"])
    except MemoryError:
        wrong = "takes all the memory it is given"
    print(json.dumps({"wrong": wrong}))


if __name__ == "__main__":
    main()
