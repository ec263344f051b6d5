"""From the `model:` line of a run file to a folder of files that can be trusted to be a model."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tunebook.errors import ModelError
from tunebook.models.screen import (
    ADAPTER_CONFIG,
    screen_adapter,
    screen_folder,
    way_of_adapter,
    way_to_convert,
)
from tunebook.recipe.home import expand_home
from tunebook.recipe.hub_path import EMBEDDED

EMBEDDED_FOLDER = Path(__file__).parent.parent / "embedded" / "tiny"

# The card and the licence are for the card of what is trained from it.
_WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "README.md", "LICEN[SC]E*"]
# By name: an optimizer or another framework's copy beside them would be fetched in vain.
_PICKLED_ON_HUB = ("pytorch_model*.bin", "adapter_model.bin")
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
"""How files are called that can run code when they are opened."""
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")


def find_model(model: str) -> Path:
    """Give the folder of a model: embedded, local, or fetched from the hub into its cache.

    Raises ModelError with the way out when there is no such model, it is gated, there is no
    network, the folder holds no model, or its weights are only there as pickle.
    """
    folder = _found(model, _WANTED)
    _check_config(folder, model)
    hub = not expand_home(model).is_dir() and model != EMBEDDED
    if not any(folder.glob("*.safetensors")):
        if has_pickled_weights(folder):
            raise ModelError(
                f"model {model!r} has its weights only as pickle, which can run code when opened; "
                f"{way_to_convert(model)}"
            )
        raise ModelError(
            f"model {model!r}: {folder} holds no .safetensors weights; plan does without them, but "
            "to train, put them there, or go online once if the model is on the hub"
            + (f"; {way_to_convert(model)}, if it has pytorch_model.bin there" if hub else "")
        )
    return folder


def find_pickled_model(model: str) -> Path:
    """Give the folder of a model or an adapter whose weights may be pickled; none is opened.

    Of a model on the hub, its pickled weights are fetched where it has no safetensors. Raises
    ModelError as find_model does, except for what is wrong with the weights.
    """
    folder = _found(model, _WANTED)
    if not any(folder.glob("*.safetensors")):
        folder = _found(model, [*_WANTED, *_PICKLED_ON_HUB])
    if (folder / "config.json").is_file() or not (folder / ADAPTER_CONFIG).is_file():
        _check_config(folder, model)
    else:
        screen_adapter(folder, pickled=True)
    return folder


def find_tokenizer(model: str) -> Path:
    """Give a folder that holds all of a model but, perhaps, its weights; raises as find_config.

    An adapter beside it changes no tokenizer, so that one is no matter here.
    """
    folder = _found(model, [name for name in _WANTED if name != "*.safetensors"])
    _check_config(folder, model, for_its_tokenizer=True)
    return folder


def find_config(model: str) -> Path:
    """Give a folder that holds a model's config.json; its weights and tokenizer may be missing.

    Of a model on the hub, only config.json is fetched. Raises ModelError as find_model does, except
    for what is wrong with the weights.
    """
    folder = _found(model, ["config.json"])
    _check_config(folder, model)
    return folder


def _found(model: str, wanted: list[str]) -> Path:
    if model == EMBEDDED:
        return EMBEDDED_FOLDER
    folder = expand_home(model)
    if _is_open_folder(folder, model):
        return folder
    if model.startswith("tunebook/"):  # a slip: the hub has none of ours
        raise ModelError(
            f"model {model!r}: there is no such model, only {EMBEDDED} comes with tunebook; did "
            "you mean that?"
        )
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ModelError(
            f"model {model!r}: there is no such folder; give a folder, a hub id such as "
            f"openai-community/gpt2, or {EMBEDDED}"
        )
    return _from_hub(model, wanted)


def _is_open_folder(folder: Path, model: str) -> bool:
    """Tell whether there is a folder; ModelError where it may not be entered."""
    try:
        (folder / "config.json").exists()  # asks for the right to enter
        return folder.is_dir()
    except PermissionError as error:
        raise ModelError(
            f"model {model!r}: {folder} cannot be read: {error.strerror}; ask whose it is for the "
            "right to enter it, or name a copy of your own"
        ) from None


def _from_hub(model: str, wanted: list[str]) -> Path:
    repo_id, _, revision = model.partition("@")
    try:
        return Path(snapshot_download(repo_id, revision=revision or None, allow_patterns=wanted))
    except GatedRepoError:
        raise ModelError(
            f"model {model!r} is gated: accept its terms on its page and set HF_TOKEN to a token "
            "that may read it"
        ) from None
    except RevisionNotFoundError:
        raise ModelError(f"model {repo_id!r} has no revision {revision!r}") from None
    except RepositoryNotFoundError:
        raise ModelError(
            f"model {model!r} is not on the hub, or is private: check the name, or set HF_TOKEN "
            "to a token that may read it"
        ) from None
    except HFValidationError:
        raise ModelError(
            f"model {model!r} is neither a folder here nor a hub id such as openai-community/gpt2"
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"model {model!r} is neither a folder here nor in the local cache, and the hub cannot "
            f"be reached ({type(error).__name__}): check the network, unset HF_HUB_OFFLINE if it "
            f"is set, give HF_TOKEN if the model is private, or name a folder or {EMBEDDED}"
        ) from None


def _check_config(folder: Path, model: str, *, for_its_tokenizer: bool = False) -> None:
    config_file = folder / "config.json"
    if not config_file.is_file():
        if (folder / "adapter_config.json").is_file():
            raise ModelError(
                f"model {model!r} is an adapter, not a whole model; {way_of_adapter(folder)}"
            )
        raise ModelError(f"model {model!r}: {folder} holds no config.json, so it is no model")
    screen_folder(folder, model, for_its_tokenizer=for_its_tokenizer)


def has_pickled_weights(folder: Path) -> bool:
    """Tell whether a folder holds weights in a format that can run code when it is opened."""
    return any(path for pattern in PICKLED for path in folder.glob(pattern))


def has_tokenizer(folder: Path) -> bool:
    """Tell whether a folder holds a tokenizer of any kind."""
    return any((folder / name).is_file() for name in _TOKENIZER_FILES)
