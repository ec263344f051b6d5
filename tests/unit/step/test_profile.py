"""A step looked at kernel by kernel, and its times taken without waiting for the device."""

from __future__ import annotations

import warnings
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from made_runs import make_step
from tunebook.step import stopwatch
from tunebook.train import profile
from tunebook.train.profile import Timed, Watched, covered, group_of, sum_up

RECORD = replace(make_step(3), seconds=1.0, data_seconds=0.05)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("aten::addmm", "matrix products"),
        ("aten::mkldnn_rnn_layer", "matrix products"),
        ("nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_NNT", "matrix products"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n", "matrix products"),
        ("void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm>", "matrix products"),
        ("fmha_cutlassF_bf16_aligned_64x64_rf_sm80", "attention"),
        ("void pytorch_flash::flash_bwd_dq_dk_dv_loop_kernel<...>", "attention"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "attention"),
        ("void at::native::(anonymous namespace)::multi_tensor_apply_kernel<...>", "optimizer"),
        ("aten::_fused_adamw_", "optimizer"),
        ("Optimizer.step#AdamW.step", "optimizer"),
        ("ncclDevKernel_AllReduce_Sum_f32_RING_LL", "communication"),
        ("void at::native::vectorized_elementwise_kernel<4, ...>", "moving memory"),
        ("Memcpy HtoD (Pageable -> Device)", "moving memory"),
        ("triton_poi_fused_addmm_gelu_3", "moving memory"),
        ("## Call CompiledFxGraph abc ##", "moving memory"),
        ("aten::native_layer_norm", "moving memory"),
        ("aten::_softmax", "moving memory"),
        ("AddmmBackward0", "Python and launching"),
        ("autograd::engine::evaluate_function: MulBackward0", "Python and launching"),
        ("aten::view", "Python and launching"),
        ("aten::transpose", "Python and launching"),
    ],
)
def test_kernels_and_operators_are_put_where_a_way_out_is(name: str, group: str) -> None:
    assert group_of(name) == group


def test_groups_add_up_to_the_step_and_what_is_left_is_python() -> None:
    kernels = [Timed("aten::mm", 0.4), Timed("aten::mul", 0.2), Timed("aten::gelu", 0.1)]
    found = sum_up(RECORD, kernels, busy=0.7, flops=8.0)
    assert sum(found.groups.values()) == pytest.approx(1.0)
    assert list(found.groups) == [
        "matrix products", "moving memory", "Python and launching", "reading rows",
    ]  # fmt: skip
    assert found.groups["Python and launching"] == pytest.approx(0.25)
    assert found.largest == pytest.approx({"aten::mm": 0.4})


def test_kernels_that_overlap_share_the_time_they_cover() -> None:
    assert covered([(0, 2), (1, 3), (5, 6)]) == 4
    found = sum_up(RECORD, [Timed("nccl", 0.4), Timed("gemm", 0.4)], busy=0.4, flops=None)
    assert found.groups["communication"] == pytest.approx(0.2)
    assert found.groups["Python and launching"] == pytest.approx(0.55)


def test_a_profiler_that_fails_leaves_the_step_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: Any) -> None:
        raise RuntimeError("no counters here")

    monkeypatch.setattr(profile, "profile", broken)
    watched = Watched(torch.device("cpu"))
    assert watched.take(lambda: 7) == 7
    assert watched.profile_of(RECORD) is None
    assert watched.reason == "RuntimeError: no counters here"
    with pytest.raises(ValueError, match="of the step"):
        watched.take(lambda: int("of the step"))


def test_a_real_step_is_taken_apart() -> None:
    watched = Watched(torch.device("cpu"))
    left = torch.ones(64, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watched.take(lambda: (left @ left.T).exp())
        found = watched.profile_of(RECORD)
    assert found is not None, watched.reason
    assert found.product_flops == 2 * 64 * 64 * 32
    assert found.groups.keys() >= {"matrix products", "moving memory"}


def test_cuda_is_timed_by_marks_in_its_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    queue: list[float] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            queue.append(10.0 * len(queue))
            self.at = queue[-1]

        def elapsed_time(self, other: Any) -> float:
            return float(other.at - self.at)

    monkeypatch.setattr(stopwatch.torch, "cuda", SimpleNamespace(Event=Event))
    watch = stopwatch.Stopwatch(torch.device("cuda"))
    watch.stop()
    assert watch.seconds == 0.01
    assert len(queue) == 2
    mps = stopwatch.Stopwatch(torch.device("mps"))
    mps.stop()
    assert mps.seconds is None
