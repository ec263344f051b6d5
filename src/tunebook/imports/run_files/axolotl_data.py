"""The data sets of a run file of axolotl, as sources of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunebook.imports.run_files.foreign import Foreign

_TYPES = {
    "alpaca": ("alpaca", "alpaca"),
    "alpaca_chat.load_qa": ("qa", "qa"),
    "chat_template": ("chat", "model"),
    "sharegpt": ("sharegpt", "model"),
    "completion": ("text", None),
    "pretrain": ("text", None),
}
"""Their type of a data set: our format and template; None is text, for stage cpt."""

_MESSAGES = {"chat": "messages", "sharegpt": "conversations"}
_FIXED: dict[str, tuple[list[Any], str]] = {
    "roles_to_train": (
        [["assistant"], ["gpt"], ["assistant", "gpt"], ["gpt", "assistant"]],
        "only answers carry loss; say train_on: all in the run file for every token",
    ),
    "train_on_eos": (["turn"], "the end of each answer is trained"),
    "chat_template": (["tokenizer_default"], "the chat template used is the model's own"),
}
"""Keys that may say one thing only, and what is said of another."""
_IDLE = ("ds_type", "trust_remote_code", "preprocess_shards", "num_proc")


class NotOurs(ValueError):
    """A data set that cannot be translated; says why."""


def read_data(file: Foreign) -> None:
    """Read all data sets, with the stage, the template and what is trained of them."""
    key = "datasets" if "datasets" in file else "pretraining_dataset"
    stated = file.get(key)
    if stated is None:
        return
    sets = stated if isinstance(stated, list) else [stated]
    sources: list[dict[str, Any]] = []
    templates: set[str | None] = set()
    for number, one in enumerate(sets):
        try:
            found, template = sources_of(one, "pretrain" if key != "datasets" else None)
        except NotOurs as error:
            file.refuse(f"entry {number}: {error}", key)
            return
        sources += found
        templates.add(template)
    if len(templates) > 1:
        kinds = ", ".join(sorted(t or "plain text" for t in templates))
        file.refuse(f"a run has one template, and these data sets need several ({kinds})", key)
        return
    file.put("data", sources, key)
    _read_targets(file, templates.pop(), key)


def _read_targets(file: Foreign, template: str | None, key: str) -> None:
    if template is None:
        file.put("stage", "cpt", key)
        file.leave("every token of a text is trained", "train_on_inputs")
        return
    if (
        template == "model"
        and file.get("chat_template", "tokenizer_default") != "tokenizer_default"
    ):
        file.refuse(_FIXED["chat_template"][1], "chat_template")
    file.put("template", template, "chat_template")
    file.put("train_on", "all" if file.get("train_on_inputs") else "response", "train_on_inputs")


def sources_of(one: Any, kind: str | None = None) -> tuple[list[dict[str, Any]], str | None]:
    """Give our sources for one data set, and its template; NotOurs says what is in the way."""
    stated = {"path": one} if isinstance(one, str) else one
    if not isinstance(stated, Mapping):
        raise NotOurs(f"{stated!r} is no data set")
    stated = {key: v for key, v in stated.items() if v not in (None, "", [], {}, False)}
    found_format, template, columns = _format_of(stated, kind)
    for key, (allowed, why) in _FIXED.items():
        if stated.pop(key, allowed[0]) not in allowed:
            raise NotOurs(why)
    for key in _IDLE:
        stated.pop(key, None)
    paths = _paths_of(stated)
    if stated:
        key = next(iter(stated))
        raise NotOurs(f"{key}: {stated[key]!r}: tunebook has nothing that does this")
    own = {"columns": columns} if columns else {}
    return [{"path": path, "format": found_format, **own} for path in paths], template


def _format_of(stated: dict[str, Any], kind: str | None) -> tuple[str, str | None, dict[str, str]]:
    """Take what says how rows look out of a data set: our format, template and columns."""
    columns: dict[str, str] = {}
    kind = stated.pop("type", kind)
    if isinstance(kind, Mapping):
        fields = {key: value for key, value in kind.items() if value not in (None, "")}
        for name in ("instruction", "input", "output"):
            if f"field_{name}" in fields:
                columns[name] = fields.pop(f"field_{name}")
        if fields:
            raise NotOurs(f"type.{next(iter(fields))} makes a template of its own, as none is here")
        kind = "alpaca"
    if kind not in _TYPES:
        raise NotOurs(f"type {kind} is none of {', '.join(_TYPES)}")
    found_format, template = _TYPES[kind]
    text = stated.pop("field", stated.pop("text_column", "text"))
    if text != "text":
        columns["text"] = text
    mapped = dict(stated.pop("message_property_mappings", {}))
    for name in ("role", "content"):
        if f"message_field_{name}" in stated:
            mapped[name] = stated.pop(f"message_field_{name}")
    if mapped == {"role": "from", "content": "value"}:
        found_format = "sharegpt"
    elif mapped not in ({}, {"role": "role", "content": "content"}):
        raise NotOurs("messages have role and content, or from and value")
    if "field_messages" in stated:
        name, usual = stated.pop("field_messages"), _MESSAGES.get(found_format, "messages")
        if name != usual:
            columns[usual] = name
    return found_format, template, columns


def _paths_of(stated: dict[str, Any]) -> list[str]:
    path, files = stated.pop("path", None), stated.pop("data_files", None)
    split, revision = stated.pop("split", "train"), stated.pop("revision", None)
    if "[" in str(split):
        raise NotOurs(f"split {split}: say data.sample in the run file")
    if files:
        return [files] if isinstance(files, str) else [str(file) for file in files]
    if not isinstance(path, str):
        raise NotOurs("it names no path")
    return [path + (f"@{revision}" if revision else "") + (f":{split}" if split != "train" else "")]
