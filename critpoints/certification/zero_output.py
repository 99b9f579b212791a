"""Critical points with a neuron of output weight zero, proven in balls.

Let theta* be a nondegenerate critical point of a student, proven in a box, and phi(w) = E[e s(w.x)] with its residual
e. A neuron (w, 0) added to theta* changes neither the function nor the gradient in the other directions, so that the
wider student is critical exactly where phi(w) = 0; with two inputs or more that is a hypersurface. Its Hessian has the
blocks Hess L(theta*), 0 for w, and 2 U between w and a, U = E[s'(w.x) x e] = grad phi; so for U != 0 its inertia is
that of Hess L(theta*) plus one negative, one positive and d - 1 zero eigenvalues (eliminate theta*, then a); the same
for each of several such neurons. By our own algebra; that phi has a zero follows from a change of its sign along U.
"""

from __future__ import annotations

from collections.abc import Sequence

from flint import arb, arb_mat
from torch import Tensor

from critpoints.certification.balls import ball, precision
from critpoints.certification.enclosures import NetworkEnclosure
from critpoints.certification.krawczyk import isolate
from critpoints.certification.prover import Prover
from critpoints.errors import NotCertified, require
from critpoints.symmetry.splitting import Inertia
from critpoints.verdict import Verdict

REACH = 1e-6  # relative to 1 + |theta|: farthest that the zero of phi may lie from a neuron's weights


def prove_zero_output(prover: Prover, small: Tensor, verdict: Verdict, silent: Sequence[int]) -> Inertia:
    """The inertia of the Hessian at a critical point next to ``verdict.theta``.

    Args:
        small: (P', ), the student without the neurons of output weight zero, in any order.
        silent: those neurons of ``verdict.theta``.

    Raises:
        NotCertified: the student is not nondegenerate, phi has no zero next to the weights, or U may vanish.
    """
    require(prover.data is not None, "neurons of output weight zero need a two-layer problem")
    assert prover.data is not None
    d, theta = prover.data.n_inputs, verdict.theta
    width = (len(theta) - int(prover.data.output_bias)) // (d + 1)
    reach = REACH * (1 + float(theta.norm()))
    with precision(prover.bits):
        narrow = NetworkEnclosure.of_width(prover.data, width - len(silent))
        isolation = isolate(narrow, small.tolist(), reach)
        wide = NetworkEnclosure.of_width(prover.data, width - len(silent) + 1)
        for k in silent:
            _prove_zero_of_phi(wide, isolation.point(), theta[k * d : (k + 1) * d].tolist(), reach)
    n = len(silent)
    return isolation.inertia + Inertia(n, n * (d - 1), n)


def _prove_zero_of_phi(wide: NetworkEnclosure, point: list[arb], weights: list[float], reach: float) -> None:
    """Proves that phi has a zero within ``reach`` of ``weights`` with U != 0 there; ``point`` is the narrow student.

    Raises:
        NotCertified: it is not proven.
    """
    d = len(weights)
    width = len(point) // (d + 1)
    at, last = width * d, (width + 1) * (d + 1) - 1

    def added(w: list[arb]) -> list[arb]:
        return [*point[:at], *w, *point[at : at + width], arb(0), *point[at + width :]]

    centre = [ball(value) for value in weights]
    slope = _slope(wide.enclose(added(centre)).hessian, last, at, d)
    length = sum((u * u for u in slope), arb(0)).sqrt()
    if not length > 0:
        raise NotCertified("the gradient U of phi may vanish at a neuron of output weight zero")
    step = [(u / length * ball(reach)).mid() for u in slope]
    ends = [
        wide.enclose(added([c + s * sign for c, s in zip(centre, step, strict=True)]), 1).gradient[last, 0]
        for sign in (-1, 1)
    ]
    if not (ends[0] < 0 < ends[1] or ends[1] < 0 < ends[0]):
        raise NotCertified(f"phi is not proven to change its sign within {reach:.0e} of a silent neuron's weights")
    segment = [c.union(c - s).union(c + s) for c, s in zip(centre, step, strict=True)]
    if all(u.contains(0) for u in _slope(wide.enclose(added(segment)).hessian, last, at, d)):
        raise NotCertified("the gradient U of phi may vanish next to a neuron of output weight zero")


def _slope(hessian: arb_mat, last: int, at: int, d: int) -> list[arb]:
    """2 U, the block of the Hessian between the added neuron's weights and its output weight."""
    return [hessian[last, at + j] for j in range(d)]
