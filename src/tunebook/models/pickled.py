"""Find the files of pickled weights in a folder; none of them is opened."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tunebook.errors import ModelError, UsageError
from tunebook.models.find import PICKLED
from tunebook.models.screen import ADAPTER_CONFIG, ADAPTER_WEIGHTS, INDEX, read_settings

_PICKLED_INDEX = "pytorch_model.bin.index.json"
_PICKLED_WHOLE = "pytorch_model.bin"
_PICKLED_ADAPTER = "adapter_model.bin"
# What a Trainer leaves beside weights, and an adapter's, which are not those of a model.
_NO_WEIGHTS = re.compile(
    r"(training_args|optimizer|scheduler|scaler|rng_state|adapter_model).*\.(bin|pt|pth)"
)


@dataclass(frozen=True, slots=True)
class Pickled:
    """Files of pickled weights, in their order, and what their safetensors are called."""

    files: tuple[Path, ...]
    stem: str


def find_pickled(folder: Path, model: str) -> Pickled:
    """Find the pickled weights of a model or of an adapter.

    Raises UsageError where there is nothing to convert, ModelError where it is not known which
    files are the weights, or an index names what is not there.
    """
    if (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file():
        if (folder / ADAPTER_WEIGHTS).is_file():
            raise _converted_already(model, ADAPTER_WEIGHTS)
        if not (folder / _PICKLED_ADAPTER).is_file():
            raise UsageError(f"{model} has no {_PICKLED_ADAPTER}, so there is nothing to convert")
        return Pickled((folder / _PICKLED_ADAPTER,), Path(ADAPTER_WEIGHTS).stem)
    for name in ("model.safetensors", INDEX):
        if (folder / name).is_file():
            raise _converted_already(model, name)
    if (folder / _PICKLED_WHOLE).is_file():
        return Pickled((folder / _PICKLED_WHOLE,), "model")
    if (folder / _PICKLED_INDEX).is_file():
        return Pickled(_shards(folder, model), "model")
    found = sorted(
        path
        for pattern in PICKLED
        for path in folder.glob(pattern)
        if path.is_file() and not _NO_WEIGHTS.fullmatch(path.name)
    )
    if not found:
        raise UsageError(
            f"{model} holds no pickled weights ({_PICKLED_WHOLE}, or one .bin, .pt, .pth or .ckpt "
            "file), so there is nothing to convert"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:4])
        raise ModelError(
            f"{model} holds {len(found)} files that may be its weights ({names}); keep the one "
            "that is, in a folder with its config.json and tokenizer"
        )
    return Pickled((found[0],), "model")


def _converted_already(model: str, name: str) -> UsageError:
    return UsageError(f"{model} holds {name}, which is read as it is: nothing is to be converted")


def _shards(folder: Path, model: str) -> tuple[Path, ...]:
    whose = f"model {model!r}"
    names = read_settings(folder / _PICKLED_INDEX, whose).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ModelError(f"{whose}: {_PICKLED_INDEX} has no weight_map; fetch the model anew")
    files = sorted({str(name) for name in names.values()})
    for name in files:
        if not re.fullmatch(r"[^/\\\0]+\.bin", name):
            raise ModelError(
                f"{whose}: {_PICKLED_INDEX} names {name[:80]!r}, which is no .bin file of this "
                "folder; fetch the model anew"
            )
        if not (folder / name).is_file():
            raise ModelError(f"{whose}: {name} is missing in {folder}; fetch the model anew")
    return tuple(folder / name for name in files)
