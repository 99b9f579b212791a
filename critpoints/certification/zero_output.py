"""Critical points with a neuron of output weight zero, proven in balls.

Let theta* be a nondegenerate critical point of a student, proven in a box, and phi(w) = E[e s(w.x)] with its residual
e. A neuron (w, 0) added to theta* changes neither the function nor the gradient in the other directions, so that the
wider student is critical exactly where phi(w) = 0; with two inputs or more that is a hypersurface. Its Hessian has the
blocks Hess L(theta*), 0 for w, and 2 U between w and a, U = E[s'(w.x) x e] = grad phi; so for U != 0 its inertia is
that of Hess L(theta*) plus one negative, one positive and d - 1 zero eigenvalues (eliminate theta*, then a). By our own
algebra; the existence of a zero of phi follows from a change of its sign along U.
"""

from __future__ import annotations

from flint import arb, arb_mat
from torch import Tensor

from critpoints.certification.balls import ball, precision
from critpoints.certification.enclosures import NetworkEnclosure
from critpoints.certification.krawczyk import isolate
from critpoints.certification.prover import Prover
from critpoints.errors import NotCertified, require
from critpoints.symmetry.splitting import Inertia
from critpoints.verdict import Verdict

REACH = 1e-6  # relative to 1 + |theta|: farthest that the zero of phi may lie from the neuron's weights


def prove_zero_output(prover: Prover, small: Tensor, verdict: Verdict) -> Inertia:
    """The inertia of the Hessian at the critical point next to ``verdict.theta``, whose last silent neuron is added.

    Args:
        small: (P - d - 1,), the student without the neuron of output weight zero, in the order of the others.

    Raises:
        NotCertified: the student is not nondegenerate, phi has no zero next to the weights, or U may vanish.
    """
    require(prover.data is not None, "neurons of output weight zero need a two-layer problem")
    assert prover.data is not None
    d, theta = prover.data.n_inputs, verdict.theta
    width = (len(theta) - int(prover.data.output_bias)) // (d + 1)
    outputs = theta[width * d : width * (d + 1)].abs()
    weights = theta[int(outputs.argmin()) * d : int(outputs.argmin()) * d + d]
    reach = REACH * (1 + float(theta.norm()))
    with precision(prover.bits):
        narrow = NetworkEnclosure.of_width(prover.data, width - 1)
        isolation = isolate(narrow, small.tolist(), reach)
        wide, point = NetworkEnclosure.of_width(prover.data, width), isolation.point()
        at, last = (width - 1) * d, width * (d + 1) - 1

        def added(w: list[arb]) -> list[arb]:
            outer = point[at : at + width - 1]
            return [*point[:at], *w, *outer, arb(0), *point[at + width - 1 :]]

        centre = [ball(value) for value in weights.tolist()]
        slope = _slope(wide.enclose(added(centre)).hessian, last, at, d)
        length = sum((u * u for u in slope), arb(0)).sqrt()
        if not length > 0:
            raise NotCertified("the gradient U of phi may vanish at the neuron of output weight zero")
        step = [(u / length * ball(reach)).mid() for u in slope]
        ends = [
            wide.enclose(added([c + s * sign for c, s in zip(centre, step, strict=True)]), 1).gradient[last, 0]
            for sign in (-1, 1)
        ]
        if not (ends[0] < 0 < ends[1] or ends[1] < 0 < ends[0]):
            raise NotCertified(f"phi is not proven to change its sign within {reach:.0e} of the neuron's weights")
        segment = [c.union(c - s).union(c + s) for c, s in zip(centre, step, strict=True)]
        if all(u.contains(0) for u in _slope(wide.enclose(added(segment)).hessian, last, at, d)):
            raise NotCertified("the gradient U of phi may vanish next to the neuron of output weight zero")
    return isolation.inertia + Inertia(1, d - 1, 1)


def _slope(hessian: arb_mat, last: int, at: int, d: int) -> list[arb]:
    """2 U, the block of the Hessian between the added neuron's weights and its output weight."""
    return [hessian[last, at + j] for j in range(d)]
