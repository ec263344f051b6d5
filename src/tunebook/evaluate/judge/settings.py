"""Who judges: the endpoint, the model and how it is asked, as a YAML file or options say it.

The key itself is never part of this: only the name of the environment variable that holds it.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, JsonValue, ValidationError, field_validator

from tunebook.errors import UsageError
from tunebook.evaluate.judge.addresses import refuse_link_local
from tunebook.evaluate.judge.keys import is_variable_name
from tunebook.recipe.section import Section
from tunebook.recipe.yaml_text import parse_yaml, read_text

NEEDS_OPENAI = "judging needs openai; pip install 'tunebook[judge]'"


class Judge(Section):
    """An endpoint that speaks the chat protocol of OpenAI, and how to ask it."""

    base_url: str
    model: str = Field(min_length=1)
    key_env: str | None = None
    prompt: str = "default"
    temperature: float | None = Field(0.0, ge=0)
    max_tokens: int | None = Field(2048, ge=1)
    extra: dict[str, JsonValue] = {}
    timeout_seconds: float = Field(60.0, gt=0)
    retries: int = Field(6, ge=0, le=20)
    concurrency: int = Field(8, ge=1, le=256)
    rate_per_minute: float | None = Field(None, gt=0)
    input_price_per_million: float | None = Field(None, ge=0)
    output_price_per_million: float | None = Field(None, ge=0)

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an address such as http://127.0.0.1:8000/v1")
        if not url.isprintable() or " " in url:
            raise ValueError("must hold no blank and no control character")
        # Settings are written down; a key would be with them.
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must hold no user, password or query; name the key with key_env")
        return url.rstrip("/")

    @field_validator("key_env")
    @classmethod
    def _is_no_key(cls, name: str | None) -> str | None:
        if name is not None and not is_variable_name(name):
            raise ValueError(
                "that is no name of an environment variable that is set (is it the key itself?); "
                "put the key into one, and give its name"
            )
        return name

    def identity(self) -> dict[str, object]:
        """Give what decides the scores; scores of other identities are never mixed."""
        return self.model_dump(
            include={"base_url", "model", "temperature", "max_tokens", "extra"}, mode="json"
        )

    def cost(self, prompt_tokens: int | None, completion_tokens: int | None) -> float | None:
        """Give what tokens cost; None where a price or a count is unknown."""
        counted = (
            (prompt_tokens, self.input_price_per_million),
            (completion_tokens, self.output_price_per_million),
        )
        parts = [n * price / 1e6 for n, price in counted if n is not None and price is not None]
        return sum(parts) if len(parts) == 2 else None

    def key(self) -> str | None:
        """Read the key from its environment variable; UsageError when that is not set."""
        if self.key_env is None:
            return None
        if not (key := os.environ.get(self.key_env, "").strip()):
            raise UsageError(
                f"the environment variable {self.key_env} holds no key; "
                f"`export {self.key_env}=...` before judging"
            )
        if not (key.isascii() and key.isprintable()):
            raise UsageError(f"{self.key_env} holds signs that no key has; copy the key again")
        return key

    def refuse_unusable(self) -> None:
        """Raise UsageError for what keeps a judge from being asked, before any model is loaded."""
        if importlib.util.find_spec("openai") is None:
            raise UsageError(NEEDS_OPENAI)
        self.key()
        self.refuse_link_local()

    @property
    def is_local(self) -> bool:
        """Tell whether the judge runs on this machine, where no proxy leads."""
        return urlsplit(self.base_url).hostname in ("localhost", "127.0.0.1", "::1")

    def refuse_link_local(self) -> None:
        """Raise UsageError for an address that only the machine's own cloud answers."""
        refuse_link_local(urlsplit(self.base_url).hostname or "", self.base_url)


def usable_judge(file: Path | None, given: Mapping[str, Any]) -> Judge:
    """Make a judge that can be asked, as far as no model is needed to know; else UsageError."""
    judge = make_judge(file, given)
    judge.refuse_unusable()
    return judge


def make_judge(file: Path | None, given: Mapping[str, Any]) -> Judge:
    """Lay options that were given over a judge file; UsageError says what is wrong or missing."""
    if file is not None and not file.is_file():
        raise UsageError(f"{file}: there is no such judge file")
    text = parse_yaml(read_text(file), str(file)) if file is not None else None
    values = {} if text is None or text.values is None else text.values
    if not isinstance(values, dict):
        raise UsageError(f"{file}: a judge file is a mapping of keys such as `base_url: ...`")
    own = {key: value for key, value in given.items() if value is not None}
    if not {"base_url", "model"} <= {*values, *own}:
        raise UsageError(
            "nobody is named to judge; give --judge FILE.yaml, or --base-url URL and --judge-model "
            "NAME (and --key-env VARIABLE where a key is needed)"
        )
    try:
        return Judge.model_validate({**values, **own})
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        key = ".".join(map(str, wrong["loc"]))
        where = text.at(key) if text is not None and key not in own else "the judge"
        if wrong["type"] == "extra_forbidden":
            raise UsageError(
                f"{where}: unknown key `{key}`; a judge takes {', '.join(Judge.model_fields)}"
            ) from None
        what = str(wrong["msg"]).removeprefix("Value error, ")
        # An address may hold a secret, and so may what should be the name of one.
        shown = ":" if key in ("base_url", "key_env") else f" is {wrong['input']!r}:"
        raise UsageError(f"{where}: `{key}`{shown} {what}") from None
