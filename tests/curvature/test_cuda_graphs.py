"""Products replayed from CUDA graphs: what the operator does where recording works, fails, or gives something else.

Without a GPU the recording itself is replaced; ``test_a_recorded_product`` runs where there is one.
"""

from collections.abc import Callable

import pytest
import torch

from critpoints.curvature import operator
from critpoints.curvature.cuda_graphs import REPLAY_BYTES, RecordedGraph, can_record, require_agreement
from critpoints.curvature.operator import HessianOperator
from critpoints.objectives.module import ModuleObjective


def objective(device: str = "cpu") -> ModuleObjective:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double().to(device)
    data = torch.randn(20, 5, device=device).double(), torch.randn(20, 1, device=device).double()
    return ModuleObjective(model, torch.nn.functional.mse_loss, data)


class Replayed(RecordedGraph):
    """A recording that is none: the plain product."""

    def __init__(self, build: Callable, like: torch.Tensor) -> None:
        self._plain = build()
        self.value = self._plain.value

    def multiply(self, vector: torch.Tensor) -> torch.Tensor:
        return self._plain.multiply(vector)


def refuse(self: Replayed, build: Callable, like: torch.Tensor) -> None:
    raise RuntimeError("operation not permitted when stream is capturing")


def test_a_recorded_graph_is_used_and_gives_the_same_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator, "can_record", lambda like, size: True)
    monkeypatch.setattr(operator, "RecordedGraph", Replayed)
    H = HessianOperator(objective())
    assert H.strategy == "replayed" and H.not_replayed is None
    plain = HessianOperator(objective(), replay=False)
    assert plain.strategy == "kept"
    block = torch.randn(plain.dim, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float((H @ block - plain @ block).abs().max()) <= 1e-13


def test_what_cannot_be_recorded_is_kept_and_the_reason_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator, "can_record", lambda like, size: True)
    monkeypatch.setattr(Replayed, "__init__", refuse)
    monkeypatch.setattr(operator, "RecordedGraph", Replayed)
    H = HessianOperator(objective())
    assert H.strategy == "kept" and "capturing" in str(H.not_replayed)


def test_nothing_is_recorded_off_the_gpu_or_for_large_graphs() -> None:
    assert not can_record(torch.zeros(3), 0)
    assert HessianOperator(objective()).strategy == "kept"
    assert REPLAY_BYTES > 0


def test_a_product_that_was_frozen_while_recording_is_found_out() -> None:
    matrix = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    like, results = torch.zeros(4, dtype=torch.float64), []

    def frozen(vector: torch.Tensor) -> torch.Tensor:
        results.append(matrix @ vector)
        return results[0]

    require_agreement(lambda v: matrix @ v, lambda v: matrix @ v, like)
    with pytest.raises(RuntimeError, match="differs from the plain one"):
        require_agreement(frozen, lambda v: matrix @ v, like)
    with pytest.raises(RuntimeError, match="differs"):
        require_agreement(lambda v: matrix @ v * torch.nan, lambda v: matrix @ v, like)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_recorded_product() -> None:
    H = HessianOperator(objective("cuda"))
    assert H.strategy == "replayed", H.not_replayed
    plain = HessianOperator(objective("cuda"), replay=False)
    block = torch.randn(plain.dim, 3, dtype=torch.float64, device="cuda")
    assert float((H @ block - plain @ block).abs().max()) <= 1e-12
