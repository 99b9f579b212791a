"""Certificates: the file format, complete enough to write a verifier from this text alone.

1. The file
-----------
One JSON object (UTF-8). Numbers come in three ways, and each place below says which it uses:

- *exact*: a JSON string that denotes one rational number exactly, a decimal ("-0.6", "1.25e-9") or a fraction ("1/3").
  Python reads both by ``fractions.Fraction``. It is not rounded to binary: "0.6" is 3/5.
- *binary64*: a JSON number that denotes the binary64 number nearest to its decimal; that number, not the decimal, is
  meant. Python's ``json`` followed by ``Fraction(float)`` does this. Infinite and NaN values do not occur.
- *integer*: a JSON integer.

Top level::

    format          "critpoints certificate"
    schema          1
    kind            "strict_minimum" | "strict_saddle" | "strict_maximum" | "degenerate_minimum" | "global_minimum" |
                    "channel"
    problem         section 2
    critical_point  section 4; absent for global_minimum; null where all neurons are silent (section 11)
    split           section 5; only where the point is symmetry-induced, always for degenerate_minimum
    zero_output     section 11; only for a strict_saddle with silent neurons
    zero_loss_point section 6; for global_minimum alone
    channel         section 9; for channel alone, and there is no split then
    global          true | false | null, section 7
    point           section 8
    statement       free text for people: no claim
    method          free: how it was found (precision_bits, program); no claim, at most a hint for the verifier

A verifier refuses a file with a key, kind, type or form that this text does not name, with a key missing, with a
number that is not finite or not of its type, with lists whose lengths do not fit each other, and one that is not
schema 1. It trusts nothing: every claim is recomputed from ``problem``. A tie (section 10) is a file of its own.

2. ``problem``
--------------
``{"type": "polynomial", "variables": P, "terms": [{"powers": [integer, ..], "coefficient": exact}, ..]}``: the
objective L(theta) = sum of coefficient * theta_1^p_1 .. theta_P^p_P, powers >= 0, P of them in every term.

``{"type": "two_layer", ..}``: a student of width m with parameters theta computes

    f(x) = sum_{k=1..m} a_k s(w_k . x~) + b,        L(theta) = scale * sum_{i=1..N} q_i (f(x_i) - y_i)^2,

x~ = x, or (x, 1) with hidden biases; D = the length of x~; b = 0 without output bias. There is no 1/2 but in scale.

    activation   "sigmoid" s = 1/(1+e^-z) | "tanh" | "erf" | "softplus" ln(1+e^z) | "softplus_sigmoid" ln(1+e^z) +
                 1/(1+e^-4z) | "silu" z/(1+e^-z) | "gelu" z (1 + erf(z/sqrt 2))/2
    hidden_bias  boolean: x~ has the constant 1 as its last entry
    output_bias  boolean: b is the last parameter
    scale        exact, positive
    inputs       {"form": "grid", "axes": [{"start": exact, "step": exact, "count": integer}, ..]}: all combinations
                 (start_1 + j_1 step_1, .., start_d + j_d step_d), 0 <= j < count, the last axis running fastest; or
                 {"form": "rows", "values": [[binary64 x d], ..]}; or a checksum of shape [N, d]
    weights      {"form": "uniform"}: every q_i is the rational 1/N; or {"form": "values", "values": [binary64 x N]},
                 nonnegative and used as they are, not normalised again; or a checksum of shape [N]
    labels       {"form": "teacher", "w": [[exact x D], ..], "a": [exact, ..], "bias": exact}: y_i is the output at x_i
                 of the network with these exact parameters (bias "0" without output bias), hence no rational number
                 but a ball at any precision; or {"form": "values", "values": [binary64 x N]}; or a checksum, [N]

A checksum, ``{"form": "checksum", "shape": [..], "sha256": hex}``, stands for an array of binary64 numbers that are
not in the file: the hash is over their little-endian bytes, row by row. The verifier must be given the array.

3. Parameters of a network
--------------------------
``network``: ``{"ordinary": o, "pairs": 0, "constant": boolean, "linear": false}``. The parameters are
theta = (w_1, .., w_o, a_1, .., a_o [, b]), each w_k with D entries, so P = o (D + 1) [+ 1]; "constant" equals
``output_bias``, but for a constant that is paid for (section 5). A polynomial has no ``network``.

For kind "channel" it is a limit network, ``{"ordinary": o, "pairs": p, "constant": boolean, "linear": boolean,
"triples": [sigma_1, .., sigma_t]}``, sigma = 1 | -1 ("triples" occurs for this kind alone, and always, perhaps empty),
with p + t > 0 or linear. Parameters, in this order: phi = (w_1, .., w_o, a_1, .., a_o, then of the pairs all centres w,
all gates v, all c, then of the triples all centres w, all gates v, all bends q, all c [, K] [, b]). Vectors have D
entries, a, c, K are numbers, K is there if "constant", b (D entries) if "linear". With z = w.x~, g = v.x~, h = q.x~

    f(x) = sum_ordinary a s(z) + sum_pairs [c s(z) + g s'(z)] + sum_triples [c s(z) + g s'(z) + (sigma/2) h^2 s''(z)]
           + K + b.x~

and the blocks of D2 f (section 4) are, for a pair, d2f/dw dw = (c s'' + g s''') x~x~^T, d2f/dw dv = s'' x~x~^T,
d2f/dw dc = s' x~; for a triple, d2f/dw dw = (c s'' + g s''' + (sigma/2) h^2 s'''') x~x~^T, d2f/dw dv = s'' x~x~^T,
d2f/dw dq = sigma h s''' x~x~^T, d2f/dw dc = s' x~, d2f/dq dq = sigma s'' x~x~^T. Half the work (section 4) goes through
with sum a + sum c (of pairs and triples) for sum a and K for b: the other terms are odd functions of x.

4. ``critical_point``
---------------------
::

    network    section 3; absent for a polynomial
    centre     [exact x P], c
    radius     exact, r > 0
    accuracy   exact, delta with 0 <= delta <= r
    inertia    {"negative": integer, "zero": 0, "positive": integer}, adding up to P
    loss       {"lower": exact, "upper": exact}

Claims, with |.| the largest absolute value of an entry, about the objective L of ``problem`` on networks of this
size:

(a) exactly one theta* with |theta* - c| <= r has grad L(theta*) = 0;  (b) |theta* - c| <= delta;
(c) the Hessian of L at every theta with |theta - c| <= r is nonsingular and has this inertia;
(d) lower <= L(theta*) <= upper.

Why they hold (Krawczyk). Let G enclose grad L(c), let the matrix of intervals H enclose the Hessian at every theta of
the box |theta - c| <= r, and let A be any matrix, good if near the inverse of the Hessian at c. Compute upper bounds

    kappa >= max_i sum_j |(1 - A H)_ij|,        g >= max_i |(A G)_i|.

If g + kappa r < r (so kappa < 1), then T(theta) = theta - A grad L(theta) maps the box into its interior, since
T(theta) - c is in -A G + (1 - A H)(theta - c) by the mean value theorem, and contracts with factor kappa; Banach's
theorem gives (a), as A is nonsingular. At theta* the same formula reads |theta* - c| <= g + kappa |theta* - c|, so
|theta* - c| <= g / (1 - kappa), which must not exceed delta: (b). (delta is a thousand times what the prover found,
near 1e-40, so G needs balls of about ``precision_bits``.) Every matrix in H is nonsingular, so no eigenvalue of the
Hessian changes sign on the box, which is connected: (c) needs the inertia at one point of the box alone, say by
Sylvester's law from the pivots of an L D L^T factorisation in balls of Q^T H(c) Q, Q approximate eigenvectors
(nonzero pivots prove Q nonsingular), or by Gershgorin's discs. (d) follows from an enclosure of L over |theta - c| <=
delta.

The Hessian needs care to be narrow enough: over the box z = w.x~ is an interval Z, and derivatives of s should be
enclosed by s^(n)(mid Z) + s^(n+1)(Z) (Z - mid Z), or tighter, not by polynomials in the interval s(Z). The radius is
chosen such that kappa is at most 0.6 with such enclosures, so that a verifier whose Hessian is wider by up to a half
confirms it too. With J the P x N matrix of df(x_i)/dtheta, e_i = f(x_i) - y_i and Q = scale diag(q):

    grad L = 2 J Q e,   Hess L = 2 J Q J^T + 2 scale sum_i q_i e_i D2 f_i,
    D2 f_i = 0 but for a block a neuron: d2/dw dw = a s''(z) x~ x~^T, d2/dw da = s'(z) x~.

Half the work, if wanted. Let s(-z) = k - s(z) (sigmoid k = 1; tanh, erf k = 0), no hidden bias, inputs and weights
symmetric under x -> -x, and labels with y(-x) = c - y(x) for one c (with a teacher always, c = k sum a + 2 bias;
otherwise to be checked in exact numbers, so that labels given as values rarely are). Then f(-x) = k sum a + 2 b -
f(x), so with B = k sum a + 2 b - c and e~(x) = sum a (s(w.x) - k/2) - (y(x) - c/2) the residuals at x and -x are e~ +
B/2 and B/2 - e~, and

    L = scale * ( sum over one of each pair (x, -x) of 2 q e~^2  +  (sum_i q_i) B^2 / 4 ).

A sample at x = 0 has e~ = 0. This identity holds for every theta, so its derivatives may be taken instead. The first
sum depends on b not at all. It is not part of the file: whoever uses it proves it from ``problem``.

5. ``split``
------------
The point is a larger student made of the smaller one in ``critical_point``::

    neurons              [{"of": t, "share": exact, "sign": 1 | -1}, ..], one for every neuron of the larger student;
                         t counts the neurons of the smaller student from 0, and each occurs
    splitting_matrices   [{"neuron": t, "inertia": {"negative", "zero": 0, "positive"}}, ..]: every t that occurs more
                         than once, and no other; inertias of D x D matrices
    inertia              {"negative", "zero", "positive"}, adding up to the larger student's number of parameters

Neuron j of the larger student has w = sign * w*_t and a = sign * share * a*_t, theta* being the proven point; the
output bias is that of theta*. Call the result Theta*. Conditions: the shares of the neurons of each t add up to 1
exactly, and a t that occurs once has share 1; no share is 0; sign = -1 only for activations with k = 0 (tanh, erf);
a*_t is not 0 (by its ball of radius delta) for every t that occurs more than once.

Claims: Theta* computes the function of theta*, is a critical point of L among students of its width, and the Hessian
there has ``inertia``. Why: df/dtheta of the copies are multiples of those of neuron t. With Y_t = scale sum_i q_i e_i
a_t s''(w_t . x~_i) x~_i x~_i^T and U_t = scale sum_i q_i e_i s'(w_t . x~_i) x~_i at theta*, the gradient in w_t is 2
a_t U_t = 0, and in suitable coordinates the Hessian is that of the smaller student and, for each t with n_t copies, p
of positive and q of negative share, blocks with the inertia of (p - 1) times Y_t, q times -Y_t, and n_t - 1 zeros,
along which the shares move (K. Fukumizu and S. Amari, Neural Networks 13 (2000); B. Simsek et al., arXiv 2105.12221).
So

    inertia = inertia(critical_point) + sum_t [ (p_t - 1) inertia(Y_t) + q_t inertia(-Y_t) + (0, n_t - 1, 0) ],

inertia(-Y) being that of Y with negative and positive exchanged. A verifier encloses each Y_t over |theta - c| <=
delta and checks its inertia as in 4 (c).

A constant that is paid for. For a strict_saddle of a problem without output bias whose s has a k not 0,
``network.constant`` may be true: the smaller student then has an output bias B, its last parameter, and the larger one
has none. sign = -1 is allowed then, and "share" is null for exactly two neurons, copies of one t with sign 1 and -1.
With x the share of the second, F the sum of share_l a*_t over the other neurons l with sign -1, t = of(l),

    x = -(B/k + F) / a*_t,     the share of the first = 1 - x - the other shares of t;

both must be proven not to be 0, as a*_t must. The other conditions stand. Claims: as before, but (0, 1, 0) is taken
from ``inertia``. Why: neurons with sign -1 leave the constant k sum a = -k sum share_l a*_t over, which is B. With an
output bias B instead of it Theta* is a split, and the students without output bias are the hyperplane b = k sum a over
sign = -1 among those with one. The Hessian vanishes along the shares, and the shares of the open pair leave the
hyperplane, so that its restriction has the same inertia but for one zero.

6. ``zero_loss_point``
----------------------
``{"theta": [exact x P], "types": [text, ..]}``, P the number of parameters of ``point``; ``types`` are words for
people. Labels must have the form "teacher". Claim: L(theta) = 0 exactly. It suffices that student and teacher are the
same function by the following algebra in rationals. Put student and teacher neurons in groups of equal weight
vectors; if the activation has a k (sigmoid 1, tanh and erf 0; the others have none), of weight vectors equal up to
sign, a neuron on the negative side counting as flipped: a s(-z) = k a - a s(z); neurons with w = 0 form no group
then, a s(0) = a k/2. Check (i) for every group: sum of a over the student's neurons, minus a for flipped ones, equals
the same sum for the teacher's (0 for none); (ii) sum of k a over flipped neurons, of a k/2 over those with w = 0, and
b: the same number for student and teacher (without k: b alone).

7. ``kind`` and ``global``
--------------------------
The inertia that decides is that of ``split`` where there is one, else of ``critical_point``; n its total.

    strict_minimum      no split, positive = n
    strict_maximum      no split, negative = n
    strict_saddle       0 < negative < n
    degenerate_minimum  a split, negative = 0, zero > 0. The zeros number sum_t (n_t - 1), the dimension of the plane of
                        critical points of equal loss through Theta* (the shares), so that the Hessian is positive
                        definite across it and Theta* is a local minimum, not strict (Morse and Bott)
    global_minimum      a zero_loss_point, and no critical_point; L >= 0 everywhere
    channel             a channel; positive = n for the critical_point, which is of the limit network

``global``: true for global_minimum alone. false claims that the point is no global minimum: labels have the form
"teacher", the point's width is at least the teacher's (so that loss 0 is attained, by the teacher and neurons with
output weight 0), and ``loss.lower`` > 0. null claims nothing; it is the only value for saddles, maxima,
channels and polynomials.

8. ``point``
------------
``{"theta": [binary64 x P], "distance": exact}``, P the number of parameters of the proven point: the numerical point
that the certificate was asked for. Claim: its Euclidean distance from the proven point (theta* for critical_point,
Theta* for split, theta for zero_loss_point) is at most ``distance``. Nothing is claimed about the numerical point
itself but this. For channels see 9 (i).

9. ``channel``
--------------
A channel: students, some of whose neurons diverge, that approach the limit network phi* of ``critical_point``, a strict
minimum there (inertia positive = P). s must have a k (sigmoid, tanh, erf) where a sign is -1 or ``zero`` is not
empty; then s - k/2 is odd. m is the width of the student of ``point`` (the wide one if there are copies)::

    channel    {"ordinary": [[n, sign], ..],              o of them, the student's neuron n for each ordinary neuron
                "pairs": [[[i, sign], [j, sign]], ..],     p of them
                "triples": [[[i, sign], [j, sign], [k, sign]], ..],
                "zero": [] | [n] | [n, n'],                not empty if and only if "linear"
                "copies": null | [{"of": n, "share": exact, "sign": 1 | -1}, ..],
                "splitting_matrices": [{"neuron": t, "inertia": {..}}, ..],
                "coefficients": {"pairs": [C, ..], "triples": [C, ..], "zero": null | C},
                "scales": {"pairs": [d, ..], "triples": [d, ..], "zero": null | d},
                "excess": {"lower": exact, "upper": exact}}

with C and d of the form {"lower": exact, "upper": exact}, sign = 1 | -1, and neurons counted from 0. Every neuron of
the student occurs exactly once in ordinary, pairs, triples and zero together.

Copies. Without them (null) the student is theta. With them the neurons are those of a smaller student, of width r =
the number of places above, and the list has one entry for each neuron l of theta, saying of which neuron n < r it is
a copy; each n occurs, the shares of each add up to 1 exactly, none is 0, a single copy has share 1, and sign = -1
only if k = 0. The smaller student has a_n = sum sign_l a_l, w_n = sum share_l sign_l w_l over its copies (and the
output bias of theta). ``splitting_matrices``: as in section 5, at phi*, for every ordinary neuron t of the limit
network whose student neuron has several copies, and no other; [] without copies. There Y_t must have the sign that
its shares ask for: positive definite if all are positive, negative definite if exactly one is, and no other case is
accepted.

Conditions on signs. Call a cluster (pair or triple) flipped if its signs are not all equal. "Tied" means: k is there
and is not 0, and there is no output bias. "constant" is output_bias or (k not 0 and (a flipped cluster or zero not
empty)). If k is not 0 and "constant" is false, all signs are 1. If the problem is tied: there must not be exactly one
flipped cluster with zero = []; zero = [n] asks for a flipped cluster; zero = [n, n'] asks that there be none.

Coordinates of a student. With W_n = sign w_n, A_n = sign a_n:

    ordinary  (W_n, A_n)
    pair      c = A_i + A_j, w = (W_i + W_j)/2, delta = A_i - A_j, v = delta (W_i - W_j)/2; d = |delta| (not 0)
    triple    c = A_i + A_j + A_k, B_n = sigma (A_n - c/3); needs B_i > 0 > B_j and B_k > 0; rho = B_i/B_k,
              X = sqrt(3/(1 + rho + rho^2)), t_j = (rho - 1) X/3, t_i = t_j + X, t_k = t_j - rho X,
              d = B_i X^2 (1 + rho); v = sum (A_n - c/3) W_n, q = sigma d^(-1/2) sum t_n (A_n - c/3) W_n,
              w = (sum W_n)/3 - (2/3) (sigma/d) v
    zero      b = s'(0) sum a_n w_n; d = |a_n| for one neuron, |a_n - a_n'| for two (not 0)
    constant  K = (output bias) + k (sum of a_n, not A_n, over all with sign -1) + (k/2) (sum of a_n over zero)

Claims.

(a)-(d) of section 4 for phi*; L_inf = L(phi*).
(e) "coefficients" enclose, at phi*, with E = sum_i scale q_i over the data and e = f(x) - y:

    pair    C = 2 E[e ((c/2) g^2 s''(z) + (1/6) g^3 s'''(z))]
    triple  C = 2 E[e ((sigma/2) g^2 s''(z) + (1/2) g h^2 s'''(z) + (sigma/24) h^4 s''''(z))]
    zero    C = (1/3) (s'''(0)/s'(0)^3) E[e (b.x~)^3]

(f) C > 0 as follows. Let T be the flipped clusters if the problem is tied, else none, and zero belong to T if the
problem is tied and zero = [n]. Every C outside T is positive. If T holds triples, their C are positive and nothing is
asked of the pairs and of zero in T. Else, if T has two elements, the sum of their C is positive, and if it has more,
every C is. (That is said of "lower" in the file.)
(g) If zero = [n, n']: Z = (s'''(0)/s'(0)) E[e (b.x~) x~x~^T] is positive definite at phi*. The same is asked where a
neuron of zero has several copies, whose shares must all be positive then.
(h) "excess" encloses L(theta) - L_inf, and its lower is > 0. "scales" enclose d of every
cluster and of zero, with lower > 0.
(i) ``point.distance`` (section 8) is here an upper bound of the Euclidean norm of: all coordinates of the student
less those of phi*; if zero = [n, n'], (w_n + w_n')/2; and for every copy l of a neuron n with several, sign_l w_l -
w_n and a_l - sign_l share_l a_n.

What (a)-(g) prove (certification/channels.py has the theorem): students with coordinates phi* have a loss that tends
to L_inf, and decreases to it from some point on, as all scales grow in proportion. And if no neuron of a cluster or
of zero has several copies: there are neighbourhoods of phi* and of the student's shape (the ratios of its scales and
of the members of its triples, and its shares) and a d_0 such that every student in them all of whose scales exceed
d_0 has a loss above L_inf and is not critical, and that the least loss at given scales is taken there at exactly one
phi, up to shares, and decreases to L_inf as the scales grow in proportion. The neighbourhoods and d_0 are not
quantified, nor is it claimed that theta is in them; (h) and (i) say how far out it is and how near.

10. Ties
--------
A tie says that another point of the same study is the same critical point, moved by a symmetry. It is a JSON object::

    format       "critpoints tie"
    schema       1
    certificate  hex SHA-256 of the certificate's file (its bytes)
    kind         that of the certificate: "strict_minimum" | "strict_saddle" | "strict_maximum" | "degenerate_minimum" |
                 "channel"
    negated      boolean
    neurons      a list as in section 5; absent for channel
    channel      as in section 9, without "coefficients" and "splitting_matrices"; for channel alone
    point        section 8 (for channel, section 9 (i))
    statement    free text

There are no ties for polynomials and global minima. Let theta' be theta, or -theta (all parameters) if negated.
Negation needs L(-theta) = L(theta): s has a k, no hidden bias, inputs and weights symmetric under x -> -x, and y(-x)
= -y(x) (with a teacher: k sum a + 2 bias = 0). Claim: theta' lies within point.distance of a point of the
certificate's kind, namely

- ``neurons``: the point Theta* that section 5 makes of theta* of the certificate with this list, under the conditions
  there; if the certificate has no split, every share is 1 and every t occurs once, so that the list is a permutation
  with signs. A t that occurs more than once must have a splitting matrix in the certificate. The inertia by the
  formula of section 5 must fit ``kind`` as section 7 says;
- ``channel``: sections 9 (f) to (i) hold for theta' with the lists of the tie, the limit network phi*, the
  coefficients and the inertias of splitting matrices of the certificate. Every ordinary neuron that has several
  copies must have a splitting matrix there.

There are no ties to certificates of section 11 and of constants that are paid for.

11. ``zero_output``
-------------------
The student has silent neurons, of output weight 0, beside those of a base: theta* of ``critical_point``, or Theta* of
``split`` (whose ``inertia`` is the base's), or, if ``critical_point`` is null (no ``split``, no output bias), no neuron
at all and f = 0. kind is "strict_saddle" and ``global`` null::

    neurons   [{"neuron": n, "centre": [exact x D], "direction": [exact x D]}, ..], at least one; n counts the neurons
              of the student from 0, and the others are those of the base in their order
    inertia   {"negative", "zero", "positive"}, of the student

Claims: for each silent neuron there is a t in [-1, 1] such that the student with its weights w = centre + t direction
and with output weight 0 is a critical point whose Hessian has ``inertia``. Why: with e the residual of theta* put
phi(w) = scale sum_i q_i e_i s(w.x~_i) and U(w) = scale sum_i q_i e_i s'(w.x~_i) x~_i. The derivatives of L in a and
w of a silent neuron are 2 phi(w) and 0, the others are those of the base. phi is continuous, so that opposite signs at
centre - direction and centre + direction, proven for every theta* in |theta - c| <= delta, give a zero between. There
the Hessian is the base's, 0 for w, 2 U between w and a, something between a and all else. If U does not vanish on the
segment (for the same theta*), those terms are a times one linear form in which w occurs along U: so

    inertia = inertia(base) + (1, D - 1, 1) for every silent neuron.

``point.distance`` (section 8) holds for every w on the segments.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from critpoints.errors import InvalidData
from critpoints.verdict import Kind

FORMAT_NAME = "critpoints certificate"
TIE_NAME = "critpoints tie"
SCHEMA = 1


@dataclass(frozen=True)
class Certificate:
    """A proven claim about a point, as the document that another program can replay (see the module's docstring).

    A tie (section 10) is one as well, of another format.

    Attributes:
        document: the JSON object.
    """

    document: dict[str, Any]

    @property
    def kind(self) -> Kind:
        """What the point is proven to be."""
        return Kind(self.document["kind"])

    @property
    def statement(self) -> str:
        """The claim in words."""
        return self.document["statement"]

    @property
    def distance(self) -> float:
        """An upper bound of the Euclidean distance from the numerical point to the proven one, to rounding."""
        return float(self.document["point"]["distance"])

    def to_dict(self) -> dict[str, Any]:
        """The document."""
        return dict(self.document)

    def to_json(self) -> str:
        """The document as text: one key a line at the top, so that people can read it."""
        lines = [f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in self.document.items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, by which ties name it."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Writes the file."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Certificate:
        """Reads a file back; this checks its form, not its claims.

        Raises:
            InvalidData: the file is no certificate of this schema.
        """
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise InvalidData(f"{path} is no certificate: {error}") from error
        if not isinstance(document, dict) or document.get("format") not in (FORMAT_NAME, TIE_NAME):
            raise InvalidData(f"{path} is no certificate: it has no 'format': '{FORMAT_NAME}'")
        if document.get("schema") != SCHEMA:
            raise InvalidData(f"{path} has schema {document.get('schema')!r}; this program reads {SCHEMA}")
        return cls(document)
