"""How well random masks are found over their filling, with and without BatchNorm: the numbers, and what they say.

Section 4.2 of Skorokhodov and Burtsev 2019, "Loss patterns of neural networks" (arXiv 1910.03867).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from critpoints.landscape.criteria import Criterion
from critpoints.landscape.patterns import measure_contrast
from critpoints.landscape.results import Result

UNTRAINED = 1.5  # times the accuracy of guessing, 1 / N_CLASSES: a plane whose black cells have no more learnt nothing
N_CLASSES = 10  # of every data set here


@dataclass(frozen=True)
class FillingStudy:
    """How well random masks are found, with and without BatchNorm.

    Attributes:
        fillings: (F,).
        runs: R, masks of each filling.
        result: the arrays of all planes: run after run, in each filling after filling, without BatchNorm and with it.
    """

    fillings: np.ndarray
    runs: int
    result: Result

    def array(self, name: str) -> np.ndarray:
        """An array of the result as (2, F, R, ...); index 1 of the first axis is with BatchNorm."""
        values = self.result.arrays[name]
        return values.reshape(self.runs, len(self.fillings), 2, *values.shape[1:]).swapaxes(0, 2)

    def accuracies(self, part: str = "test") -> np.ndarray:
        """Mean accuracy of black and of white cells, (2, F, R, 2); NaN where a mask has no cells of a colour."""
        levels, maps = self.array("levels"), self.array(f"{part}_accuracy")
        contrasts = [
            measure_contrast(mask, accuracy) for mask, accuracy in zip(_planes(levels), _planes(maps), strict=True)
        ]
        return np.array([(each.black, each.white) for each in contrasts]).reshape(*levels.shape[:3], 2)

    def differences(self, part: str = "test") -> np.ndarray:
        """Accuracy of black minus white cells, (2, F, R)."""
        accuracies = self.accuracies(part)
        return accuracies[..., 0] - accuracies[..., 1]

    def harder_with_batch_norm(self, part: str = "test") -> Criterion:
        """The paper's claim: masks are harder to find with BatchNorm; one value a run, the mean over the fillings."""
        without, with_norm = self.differences(part)
        return Criterion(
            f"{part} accuracy difference without BatchNorm minus with",
            tuple(np.nanmean(without - with_norm, axis=0).tolist()),
            bar=0.0,
            above=True,
        )

    def higher_scores_with_batch_norm(self, part: str = "test") -> Criterion:
        """The paper's second remark: networks with BatchNorm attain higher accuracies, black and white cells alike."""
        without, with_norm = self.accuracies(part)
        return Criterion(
            f"{part} mean accuracy with BatchNorm minus without",
            tuple(np.nanmean(with_norm - without, axis=(0, 2)).tolist()),
            bar=0.0,
            above=True,
        )

    def untrained(self) -> np.ndarray:
        """Which planes do no better than guessing, (2, F, R): by the training accuracy of their black cells.

        Not by the loss: a few skipped cells with a loss of hundreds outweigh all others.
        """
        return self.accuracies("train")[..., 0] <= UNTRAINED / N_CLASSES  # False without black cells

    @property
    def sentence(self) -> str:
        """Whether the claim appears, for the reader."""
        claim, remark = self.harder_with_batch_norm(), self.higher_scores_with_batch_norm()
        side = "larger" if claim.mean >= 0 else "smaller"
        other = "higher" if remark.mean >= 0 else "lower"
        difference, score = (self._with_error(each) for each in (claim, remark))
        text = (
            f"That random masks are harder to find with BatchNorm is {claim.outcome} here: the accuracy of black minus"
            f" white cells is {difference} {side} without it (test, {self.runs} runs). That the mean accuracy of all"
            f" cells is higher with it is {remark.outcome}: it is {score} {other}. All planes had equally many steps,"
            " so that the speed of training is part of both."
        )
        without, with_norm = self.untrained().sum((1, 2)).tolist()
        if not without + with_norm:
            return text
        n = self.runs * len(self.fillings)
        return (
            f"{text} But the black cells of {without} of {n} planes without BatchNorm and of {with_norm} of {n} with it"
            " do no better than guessing: the difference is one of training, and says little about the landscape."
        )

    def _with_error(self, measured: Criterion) -> str:
        error = f" ± {measured.standard_error:.3f}" if self.runs > 1 else ""
        return f"{abs(measured.mean):.3f}{error}"

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        parts = {part: self.differences(part) for part in ("train", "test")}
        return {
            "fillings": self.fillings.tolist(),
            "runs": self.runs,
            "differences_without": {part: each[0].tolist() for part, each in parts.items()},
            "differences_with": {part: each[1].tolist() for part, each in parts.items()},
            "untrained": self.untrained().sum((1, 2)).tolist(),
            "claims": [self.harder_with_batch_norm().to_dict(), self.higher_scores_with_batch_norm().to_dict()],
            "sentence": self.sentence,
        }


def _planes(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, *values.shape[-2:])
