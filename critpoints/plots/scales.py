"""Numbers on axes: arrays from what the caller has, symmetric logarithmic axes, logarithmic ones with a place for 0."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from critpoints.errors import InvalidArgument

AxisName = Literal["x", "y"]

MAX_TICKS = 9
# Without a noise floor, a symmetric logarithmic axis turns linear at most this many decades below the largest value.
SYMLOG_DECADES = 8
# Share of a logarithmic axis that the rail for zeros takes.
RAIL_SHARE = 0.16
# Magnitudes beyond these are drawn here: the limits of an axis and their ratio must be finite.
SMALLEST, LARGEST = 1e-140, 1e140
RAIL_COLOR = "#E8F1F7"


def as_array(name: str, value: object, shape: tuple[int | None, ...] | None = None) -> np.ndarray:
    """A float64 array; ``shape`` has None for a length that is free.

    Raises:
        InvalidArgument: not numbers, or another shape.
    """
    try:
        if isinstance(value, torch.Tensor):
            value = value.detach().to(device="cpu", dtype=torch.float64).numpy()
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"{name} must be an array of numbers: {error}") from error
    if shape is not None:
        fits = len(shape) == array.ndim and all(n is None or n == m for n, m in zip(shape, array.shape, strict=True))
        if not fits:
            wanted = ", ".join("any" if n is None else str(n) for n in shape) + ("," if len(shape) == 1 else "")
            raise InvalidArgument(f"{name} must have shape ({wanted}), got {array.shape}")
    return array


def decade(value: float) -> float:
    """The power of ten at or just below a positive value."""
    return 10.0 ** math.floor(math.log10(max(value, SMALLEST)))


def linear_width(*values: np.ndarray, noise_floor: np.ndarray | None = None) -> float:
    """Where a symmetric logarithmic axis turns linear, a power of ten.

    The median noise floor where there is one; otherwise the smallest magnitude within ``SYMLOG_DECADES`` of the
    largest.
    """
    sizes = np.abs(np.concatenate([v.ravel() for v in values])) if values else np.zeros(0)
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    if noise_floor is not None:
        floors = noise_floor[np.isfinite(noise_floor) & (noise_floor > 0)]
        if floors.size:
            return decade(float(np.median(floors)))
    if not sizes.size:
        return 1.0
    return decade(float(sizes[sizes >= sizes.max() / 10.0**SYMLOG_DECADES].min()))


def symlog(values: np.ndarray, linthresh: float) -> np.ndarray:
    """Position on a symmetric logarithmic axis, in decades; the linear part is one decade a side."""
    size = np.abs(values) / linthresh
    logarithmic = 1 + np.log10(np.maximum(size, 1.0))
    return np.sign(values) * np.where(size <= 1, size, logarithmic)


def from_symlog(positions: np.ndarray, linthresh: float) -> np.ndarray:
    """The inverse of ``symlog``."""
    size = np.abs(positions)
    return np.sign(positions) * linthresh * np.where(size <= 1, size, 10.0 ** (np.maximum(size, 1) - 1))


def set_symlog(axes: Axes, name: AxisName, linthresh: float, values: np.ndarray) -> None:
    """Makes an axis symmetric logarithmic, with room around ``values`` and zero, and few enough ticks to read."""
    drawn = symlog(np.append(np.clip(values[np.isfinite(values)], -LARGEST, LARGEST), 0.0), linthresh)
    margin = 0.05 * float(np.ptp(drawn)) + 0.4
    low, high = float(drawn.min()) - margin, float(drawn.max()) + margin
    # matplotlib gives the linear part linscale / (1 - 1/10) decades a side: one, as in symlog()
    {"x": axes.set_xscale, "y": axes.set_yscale}[name]("symlog", linthresh=linthresh, linscale=0.9)
    axes.set(**{f"{name}lim": tuple(from_symlog(np.array([low, high]), linthresh))})
    axis = axes.xaxis if name == "x" else axes.yaxis
    stride = max(1, math.ceil((high - low) / MAX_TICKS))
    first = math.ceil(math.log10(linthresh) - 1e-9) + stride - 1
    above, below = (_decades_up_to(end, first, stride, linthresh) for end in (high, -low))
    labels = [power_of_ten(tick, "-") for tick in reversed(below)] + ["0"] + [power_of_ten(tick) for tick in above]
    axis.set_ticks([*(-tick for tick in reversed(below)), 0.0, *above], labels=labels)
    axis.set_minor_locator(NullLocator())


def _decades_up_to(end: float, first: int, stride: int, linthresh: float) -> list[float]:
    """Every stride-th power of ten up to a position on a symmetric logarithmic axis."""
    last = math.floor(end - 1 + math.log10(linthresh)) if end >= 1 else first - 1
    return [10.0**k for k in range(first, last + 1, stride)]


@dataclass(frozen=True)
class LogPositions:
    """Where values are drawn on a logarithmic axis that keeps a rail at its lower end for what has no logarithm.

    Attributes:
        positions: the values; those on the rail at ``rail``, NaN where a value is not finite.
        on_rail: which values are at most ``zero_below``.
        rail: the position of the rail; None where nothing is on it.
        zero_below: values up to this one go on the rail.
        limits: for the axis.
    """

    positions: np.ndarray
    on_rail: np.ndarray
    rail: float | None
    zero_below: float
    limits: tuple[float, float]

    @property
    def edge(self) -> float:
        """Where the rail ends and the logarithmic axis begins."""
        return self.limits[0] if self.rail is None else self.rail**2 / self.limits[0]


def log_positions(values: np.ndarray, *, zero_below: float = 0.0, include: tuple[float, ...] = ()) -> LogPositions:
    """Positions on a logarithmic axis; zeros, negative values and what is at most ``zero_below`` go on a rail.

    Args:
        values: of any shape.
        zero_below: at least 0.
        include: positive numbers that the limits take in too.
    """
    finite = np.isfinite(values)
    on_rail = finite & (values <= zero_below)
    positions, rail = np.where(finite & ~on_rail, np.clip(values, SMALLEST, LARGEST), np.nan), None
    proper = np.log10(np.append(positions[finite & ~on_rail], include))
    first, last = (float(proper.min()), float(proper.max())) if proper.size else (0.0, 0.0)
    room = 0.04 * (last - first) + 0.06
    low, high = first - room, last + room
    if on_rail.any():
        half = 0.5 * (high - low) * RAIL_SHARE / (1 - RAIL_SHARE)
        rail, low = 10.0 ** (low - half), low - 2 * half
        positions[on_rail] = rail
    return LogPositions(positions, on_rail, rail, zero_below, (10.0**low, 10.0**high))


def set_log(axes: Axes, name: AxisName, log: LogPositions) -> None:
    """Makes an axis logarithmic, with the rail, where there is one, shaded and labelled."""
    axes.set(**{f"{name}scale": "log", f"{name}lim": log.limits})
    axis = axes.xaxis if name == "x" else axes.yaxis
    gap = 1.0 if log.rail is None else (log.limits[1] / log.limits[0]) ** 0.04  # labels must not touch the rail's
    ticks = [tick for tick in log_ticks(log.edge, log.limits[1]) if gap * log.edge <= tick <= log.limits[1]]
    labels = [power_of_ten(tick) for tick in ticks]
    if log.rail is not None:
        shade_rail(axes, name, log)
        ticks.insert(0, log.rail)
        labels.insert(0, "0" if log.zero_below <= 0 else f"≤ {power_of_ten(log.zero_below)}")
    axis.set_ticks(ticks, labels=labels)
    axis.set_minor_locator(NullLocator())


def shade_rail(axes: Axes, name: AxisName, log: LogPositions) -> None:
    """Shades the rail; for panels that share an axis that ``set_log`` has set up."""
    if log.rail is not None:
        span = axes.axvspan if name == "x" else axes.axhspan
        span(log.limits[0], log.edge, color=RAIL_COLOR, linewidth=0, zorder=-1)


def log_ticks(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis: powers of ten, with multiples between them on a short one."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = math.log10(high / low)
    digits = (1, 2, 3, 5, 7) if decades < 0.8 else (1, 2, 5) if decades < 1.6 else (1, 3) if decades < 3.2 else (1,)
    stride = max(1, math.ceil((last - first) / MAX_TICKS))
    return [digit * 10.0**k for k in range(last, first - 1, -stride) for digit in reversed(digits)][::-1]


def power_of_ten(value: float, sign: str = "") -> str:
    """A positive number of at most two digits in mathematical notation: 2e-5 as 2 x 10^-5."""
    exponent = math.floor(math.log10(value) + 1e-9)
    digit = value / 10.0**exponent
    factor = "" if abs(digit - 1) < 1e-6 else f"{digit:.2g}\\times "
    return f"${sign}{factor}10^{{{exponent}}}$"
