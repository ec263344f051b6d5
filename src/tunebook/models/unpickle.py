"""Read pickled weights and write them as safetensors: the one place where a pickle is opened.

Run in a process of its own, which `tunebook.models.converted` starts, and never imported
elsewhere. torch's reader for weights alone is asked, which builds tensors and calls nothing a file
names; should it have a hole, whoever comes through it stands in a process without network, keys or
programs. Each answer is a line of JSON on standard output.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tunebook.models.shut_in import end_with, keep_to_folders, leave_network, limit

OLDEST_TORCH = (2, 10)
"""From here on no way is known to run code through the reader of weights alone."""
_INSIDE = ("state_dict", "model_state_dict", "model", "module")
_MAX_NAME = 500
_GLOBAL = re.compile(r"GLOBAL ([\w.]{1,100})")
_OPERAND = re.compile(r"Unsupported operand (\d{1,3})")
_METADATA = {"format": "pt"}  # which transformers asks for


class Refused(Exception):
    """What keeps a file from being converted, as the end of a sentence about it."""


def main() -> None:
    """Read what is to be done as JSON, shut this process in, and do it."""
    asked = json.load(sys.stdin)
    end_with(asked["parent"])
    limit(asked["cpu_seconds"], asked["memory_bytes"], asked["most_bytes"])
    open_network = leave_network()  # before torch, which starts threads
    end_with(asked["parent"])
    if open_network is not None and asked["isolated"]:
        _say(not_isolated=open_network)
        return
    try:
        _import()
    except Exception as error:
        _say(not_started=f"{type(error).__name__}: {error}")
        return
    sources = [Path(path) for path in asked["sources"]]
    target = Path(asked["target"])
    known = [*map(Path, asked["paths"]), Path(sys.prefix), Path(sys.base_prefix)]
    kept = keep_to_folders(target, [*known, *sources, Path("/usr"), Path("/lib"), Path("/lib64")])
    _say(began=True, no_network=open_network is None, kept_to_folders=kept)
    try:
        left = _convert(sources, target, asked)
    except Refused as error:
        _say(refused=str(error))
    except MemoryError:
        _say(refused="it takes more memory than its size accounts for")
    except Exception as error:
        _say(failed=f"{type(error).__name__}: {error}"[:2000])
    else:
        _say(done=True, left_out=left)


def _say(**words: object) -> None:
    print(json.dumps(words), flush=True)


def _import() -> None:
    """Import what is needed while all may still be read."""
    import safetensors.torch  # noqa: F401
    import torch

    found = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if found < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        raise ImportError(f"torch {torch.__version__} is older than {oldest}")
    torch.set_num_threads(1)


def _convert(sources: list[Path], target: Path, asked: Mapping[str, Any]) -> list[str]:
    """Write each source as parts; gives what was in them beside tensors."""
    left_out: list[str] = []
    seen: set[str] = set()
    n_parts = n_bytes = 0
    for number, source in enumerate(sources):
        tensors, left = _tensors(source)
        left_out += left
        both = seen & tensors.keys()
        if both:
            raise Refused(f"it holds {min(both)[:80]!r}, which a file before it holds too")
        seen |= tensors.keys()
        dropped = _tied(tensors, asked["ties"])
        kept = {name: one for name, one in tensors.items() if name not in dropped}
        n_bytes += sum(one.nbytes for one in kept.values())
        # Many names for one storage, or a stride of 0, let a small file become a large one.
        if n_bytes > asked["most_bytes"]:
            raise Refused("its tensors are several times as large as the file")
        for part in _parts(kept, asked["part_bytes"]):
            n_parts += 1
            name = f"part-{n_parts}.safetensors"
            _write_and_compare(target / name, part)
            size = sum(one.nbytes for one in part.values())
            _say(part=name, source=number, names=list(part), bytes=size)
        if dropped:
            _say(tied=dropped)
    return left_out


def _read(path: Path) -> Any:
    """Let torch build the tensors of a file; what is in it is not called."""
    import torch

    with open(path, "rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    try:
        # A file of before torch 1.6 is no zip, and is then held in memory as a whole.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except MemoryError:
        raise
    except Exception as error:
        wanted = _GLOBAL.search(str(error))
        if wanted:
            raise Refused(f"it asks for {wanted[1]!r}, which is no part of a tensor") from None
        instruction = _OPERAND.search(str(error))
        if instruction:
            raise Refused(
                f"it holds the pickle instruction {instruction[1]}, which saved tensors have not"
            ) from None
        words = " ".join(str(error).split())
        # torch's own words tell how to have such a file run what it likes.
        said = "" if "weights_only" in words else f": {words[:200]}"
        raise Refused(f"torch cannot read it as weights ({type(error).__name__}{said})") from None


def _tensors(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Give the tensors of a file by name, and the names of what else it holds."""
    import torch

    whole = _read(path)
    found: Any = whole
    if isinstance(whole, Mapping) and not any(_is_tensor(one) for one in whole.values()):
        found = next((whole[key] for key in _INSIDE if isinstance(whole.get(key), Mapping)), whole)
    if not isinstance(found, Mapping) or not any(_is_tensor(one) for one in found.values()):
        raise Refused("it holds no tensors by name")
    left = [] if found is whole else [str(key)[:80] for key in whole if whole[key] is not found]
    tensors: dict[str, Any] = {}
    for name, one in found.items():
        if not _is_tensor(one):
            left.append(str(name)[:80])
            continue
        if not isinstance(name, str) or len(name) > _MAX_NAME or name == "__metadata__":
            raise Refused(f"{str(name)[:80]!r} is no name of a weight")
        if one.layout != torch.strided or one.is_quantized or one.is_meta:
            raise Refused(
                f"{name!r} is sparse, quantized or empty, which safetensors does not hold"
            )
        tensors[name] = one.detach()
    return tensors, left


def _is_tensor(value: object) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _tied(tensors: Mapping[str, Any], ties: Mapping[str, str]) -> dict[str, str]:
    """Name the tensors that the architecture makes of others and that are the same here.

    As transformers saves them: once, by the name that the others are tied to.
    """
    return {
        name: of
        for name, of in ties.items()
        if name in tensors
        and of in tensors
        and of not in ties
        and _same(tensors[name], tensors[of])
    }


def _same(one: Any, other: Any) -> bool:
    same = one.data_ptr() == other.data_ptr() and one.dtype == other.dtype
    return bool(same and one.shape == other.shape and one.stride() == other.stride())


def _parts(tensors: Mapping[str, Any], most_bytes: int) -> Iterator[dict[str, Any]]:
    """Divide tensors in their order, so that one part at a time is copied in memory."""
    part: dict[str, Any] = {}
    size = 0
    for name, one in tensors.items():
        if part and size + one.nbytes > most_bytes:
            yield part
            part, size = {}, 0
        part[name] = one
        size += one.nbytes
    if part:
        yield part


def _write_and_compare(path: Path, part: Mapping[str, Any]) -> None:
    """Write some tensors, read them back, and hold them against the file they came from."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    # Tensors that share memory are each written whole; what is a view becomes one of its own.
    seen: set[int] = set()
    own: dict[str, Any] = {}
    for name, one in part.items():
        at = one.untyped_storage().data_ptr()
        own[name] = one.clone().contiguous() if at in seen else one.contiguous()
        seen.add(at)
    try:
        save_file(own, path, metadata=_METADATA)
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(f"safetensors cannot hold it ({str(error)[:200]})") from None
    del own
    with safe_open(path, framework="pt") as file:
        if set(file.keys()) != part.keys():
            raise Refused("it was written under other names than it has")
        for name, one in part.items():
            back = file.get_tensor(name)
            same = back.dtype == one.dtype and back.shape == one.shape
            if not same or not torch.equal(_bytes(back), _bytes(one)):
                raise Refused(f"{name!r} was not written as it is")


def _bytes(tensor: Any) -> Any:
    """Give the bytes of a tensor: NaN is then equal to itself, and 0 is not -0."""
    import torch

    return tensor.contiguous().reshape(-1).view(torch.uint8)


if __name__ == "__main__":
    main()
