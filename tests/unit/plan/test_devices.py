from __future__ import annotations

import re
from pathlib import Path

import pytest

from tunebook.errors import UsageError
from tunebook.plan.devices import _CARDS, memory_here, parse_device, planned_precision
from tunebook.recipe.device_names import CARDS


def test_every_name_that_a_run_file_may_give_is_known_and_read_without_a_gpu() -> None:
    assert tuple(_CARDS) == CARDS
    for name in CARDS:
        device = parse_device(name, 2)
        assert (device.kind, device.count) == ("cuda", 2)
        assert device.tflops["fp16"] >= device.tflops["fp32"] > 0
        assert device.bf16 == ("bf16" in device.tflops)


def test_a_t4_shows_15_gib_and_has_no_bf16() -> None:
    t4 = parse_device("T4")
    assert t4.total_bytes == 15 * 2**30
    assert planned_precision("auto", t4) == "fp32"
    assert planned_precision("auto", parse_device("l4")) == "bf16"
    assert planned_precision("bf16", t4) == "bf16"


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("cuda:15GiB", 15 * 2**30), ("cuda:16 gb", 16 * 10**9), ("cuda:0.5GiB", 2**29)],
)
def test_a_size_stands_for_any_card(text: str, n_bytes: int) -> None:
    assert parse_device(text).total_bytes == n_bytes


@pytest.mark.parametrize(
    ("text", "nearest"), [("a100", "a100-40"), ("h20", "h200"), ("rtx4091", "rtx4090")]
)
def test_a_wrong_name_is_told_the_nearest(text: str, nearest: str) -> None:
    with pytest.raises(
        UsageError, match=f"device '{text}' must be one of .* did you mean {nearest}"
    ):
        parse_device(text)


@pytest.mark.parametrize("text", ["cuda:15", "cuda:0GiB", "", "gpu"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="or a size such as cuda:15GiB"):
        parse_device(text)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


GIB = 2**30
SECOND = {
    "proc/self/cgroup": "0::/box/job\n",
    "groups/box/job/memory.max": "max\n",
    "groups/box/job/memory.current": f"{GIB // 2}\n",
    "groups/box/memory.max": f"{GIB}\n",
    "groups/box/memory.current": f"{GIB // 2}\n",
    "groups/box/memory.stat": f"anon 5\ninactive_file {GIB // 4}\n",
}
FIRST = {
    "proc/self/cgroup": "3:cpu:/\n9:memory:/docker/1a2b\n",
    "groups/memory/memory.limit_in_bytes": f"{GIB}\n",
    "groups/memory/memory.usage_in_bytes": f"{GIB // 2}\n",
    "groups/memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {GIB // 4}\n",
}


@pytest.mark.parametrize("files", [SECOND, FIRST], ids=["version 2", "version 1"])
def test_a_container_has_the_memory_of_its_limit(tmp_path: Path, files: dict[str, str]) -> None:
    """The second kind names its group, here the one above; the first sees its own as the root."""
    write(tmp_path, files)
    total, free = memory_here(tmp_path / "proc", tmp_path / "groups")
    assert (total, free) == (GIB, GIB - GIB // 4)


def test_without_a_limit_the_machine_has_its_own_memory(tmp_path: Path) -> None:
    import psutil

    write(tmp_path, {**SECOND, "groups/box/memory.max": f"{1 << 62}\n"})
    total, free = memory_here(tmp_path / "proc", tmp_path / "groups")
    assert total == psutil.virtual_memory().total
    assert 0 < free <= total
    assert parse_device("cpu").total_bytes == memory_here()[0]


def test_no_name_of_a_driver_fits_two_cards() -> None:
    shown = {
        "Tesla T4": "t4",
        "Tesla P100-PCIE-16GB": "p100",
        "Tesla V100-SXM2-16GB": "v100",
        "Tesla V100S-PCIE-32GB": "v100-32",
        "NVIDIA A10": "a10",
        "NVIDIA A10G": "a10g",
        "NVIDIA L4": "l4",
        "NVIDIA L40S": "l40s",
        "NVIDIA A100-SXM4-40GB": "a100-40",
        "NVIDIA A100 80GB PCIe": "a100-80",
        "NVIDIA H100 80GB HBM3": "h100",
        "NVIDIA H200": "h200",
        "NVIDIA GeForce RTX 4090": "rtx4090",
    }
    found = {
        title: [name for name, card in _CARDS.items() if re.search(card.title, title)]
        for title in shown
    }
    assert found == {title: [name] for title, name in shown.items()}
