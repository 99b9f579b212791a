"""The one iteration loop: rows leave it one by one, each with its status, and never disturb their neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from critpoints.errors import STATUS_CODES, STATUSES, Status
from critpoints.objectives.base import Objective

State = dict[str, Tensor]
Callback = Callable[[int, int], None]

RUNNING = STATUS_CODES[Status.RUNNING]


def to_plain(result: Any) -> dict[str, Any]:
    """A solver's result, a dataclass, as a JSON-ready dictionary: tensors as lists, statuses by name."""
    converted = {}
    for name, value in result.__dict__.items():
        if isinstance(value, Tensor):
            converted[name] = value.tolist()
        elif isinstance(value, tuple):
            converted[name] = [item.name.lower() if isinstance(item, Status) else item for item in value]
        else:
            converted[name] = value
    return converted


class Method(Protocol):
    """A solver as the loop sees it: a state of tensors with the row axis first.

    The state holds at least ``theta`` (S, P), ``loss`` (S,), ``gradient`` (S, P) and ``status`` (S,), the codes of
    ``Status``; rows stay in the loop as long as their status is RUNNING.
    """

    def start(self, objective: Objective, theta: Tensor) -> State:
        """The state at the start."""
        ...

    def advance(self, objective: Objective, state: State) -> State:
        """One iteration of every row given; must not mutate its argument."""
        ...

    def finish(self, state: State) -> Tensor:
        """Status codes (S,) for rows that are still running at the iteration limit."""
        ...


def codes(status: Status, like: Tensor) -> Tensor:
    """A tensor of one status, one entry a row of ``like``."""
    return torch.full((len(like),), STATUS_CODES[status], dtype=torch.int64, device=like.device)


def statuses(status_codes: Tensor) -> tuple[Status, ...]:
    """The statuses behind a tensor of codes."""
    return tuple(STATUSES[code] for code in status_codes.tolist())


def _mark_non_finite(state: State) -> None:
    finite = torch.isfinite(state["loss"]) & torch.isfinite(state["gradient"]).all(-1)
    state["status"] = torch.where(finite, state["status"], codes(Status.NON_FINITE, state["loss"]))


def iterate(
    method: Method, objective: Objective, theta: Tensor, *, max_iterations: int, callback: Callback | None = None
) -> State:
    """Runs ``method`` on every row until each has a status or ``max_iterations`` is reached.

    Args:
        callback: called as callback(rows finished, rows) after every iteration.
    """
    state = method.start(objective, theta)
    _mark_non_finite(state)
    for _ in range(max_iterations):
        active = torch.nonzero(state["status"] == RUNNING).squeeze(-1)
        if callback is not None:
            callback(len(theta) - len(active), len(theta))
        if not len(active):
            return state
        advanced = method.advance(objective, {name: value[active] for name, value in state.items()})
        _mark_non_finite(advanced)
        for name, value in advanced.items():
            state[name][active] = value
    left = torch.nonzero(state["status"] == RUNNING).squeeze(-1)
    if len(left):
        state["status"][left] = method.finish({name: value[left] for name, value in state.items()})
    return state
