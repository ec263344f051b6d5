"""Who judges: the endpoint, the model and how it is asked, as a YAML file or options say it.

The key itself is never part of this: only the name of the environment variable that holds it.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, JsonValue, ValidationError, field_validator

from tunebook.errors import UsageError
from tunebook.recipe.section import Section
from tunebook.recipe.yaml_text import parse_yaml, read_text

_IPV4_INSIDE = tuple(map(ipaddress.IPv6Network, ("::/96", "::ffff:0:0/96", "64:ff9b::/96")))
# Of AWS over IPv6, Alibaba and Azure: not link-local, and just as open to whoever asks.
_METADATA = {"fd00:ec2::254", "100.100.100.200", "168.63.129.16"}


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
        # Settings are written down; a key would be with them.
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must hold no user, password or query; name the key with key_env")
        return url.rstrip("/")

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

    @property
    def is_local(self) -> bool:
        """Tell whether the judge runs on this machine, where no proxy leads."""
        return urlsplit(self.base_url).hostname in ("localhost", "127.0.0.1", "::1")

    def refuse_link_local(self) -> None:
        """Raise UsageError for an address that only the machine's own cloud answers."""
        refuse_link_local(urlsplit(self.base_url).hostname or "", self.base_url)


def refuse_link_local(host: str, shown: str) -> None:
    """Raise UsageError where a host is, or a name leads to, where clouds keep credentials.

    Numbers of any base and addresses of IPv4 inside IPv6 are what they lead to.
    """
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host.partition("%")[0], None)}
    except (OSError, UnicodeError):  # the client will say that there is no such host
        return
    if any(_keeps_credentials(one) for one in found):
        raise UsageError(
            f"{shown} is a link-local address or one like it, where clouds keep credentials; "
            "name the judge by its own address"
        )


def _keeps_credentials(text: str) -> bool:
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        low = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        inside = low if any(address in net for net in _IPV4_INSIDE) else address.sixtofour
        if inside is not None and _keeps_credentials(str(inside)):
            return True
    return address.is_link_local or text in _METADATA


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
        # An address may hold a secret, which is why it is refused.
        shown = "" if key == "base_url" else f" is {wrong['input']!r}:"
        raise UsageError(f"{where}: `{key}`{shown} {what}") from None
