"""The GPU kernels, interpreted: equal to the CPU's and to mpmath, the same bits in any company.

Run by ``test_gpu.py`` in a process of its own, with TRITON_INTERPRET=1 from the start.
"""

import functools
import math
from types import SimpleNamespace

import mpmath
import numpy as np
import pytest
import torch
import triton
import triton.language as tl
import triton.runtime.interpreter as interpreter
from two_layer_cases import EPS, Case, sizes_of_terms

from critpoints import train
from critpoints.activations import ACTIVATIONS
from critpoints.classification import settle
from critpoints.kernels import cpu, gpu, gpu_activations, gpu_arithmetic, reference
from critpoints.kernels.gpu_arithmetic import INTERPRETED
from critpoints.kernels.types import AdamRun
from critpoints.objectives import two_layer
from critpoints.objectives.teacher_student import TeacherStudent

TOLERANCE = 1e-12  # of the sum of absolute terms
BETAS, ADAM_EPS = (0.9, 0.999), 1e-8
CODE = {name: activation.code for name, activation in ACTIVATIONS.items()}
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
slow = pytest.mark.slow
overflows = pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")


_prepared: set[frozenset[int]] = set()


def _call(self, *args, **kwargs):
    """A call of one kernel function by another: the interpreter prepares the language anew each time, which takes ms.

    It is enough to do so once for each set of modules that functions see the language through.
    """
    seen = frozenset(id(each) for each in self.fn.__globals__.values() if each is tl or each is tl.core)
    if seen not in _prepared:
        interpreter._patch_lang(self.fn)
        _prepared.add(seen)
    return self.rewrite()(*args, **kwargs)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    assert INTERPRETED.value, "TRITON_INTERPRET=1 must be set before the first import"
    monkeypatch.setattr(interpreter.InterpretedFunction, "__call__", _call)
    monkeypatch.setattr(gpu, "TILE", 64)  # operations on larger tiles, and so fewer of them
    monkeypatch.setattr(gpu, "TILE_BLOCK", 64)


@triton.jit
def _elementwise(x, out, FUNCTION: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, N)
    value = tl.load(x + i)
    if FUNCTION == 0:
        value = gpu_arithmetic.exp(value)
    elif FUNCTION == 1:
        value = gpu_arithmetic.erf(value)
    elif FUNCTION == 2:
        value = gpu_arithmetic.erfc(value)
    elif FUNCTION == 3:
        value = gpu_arithmetic.log1p_unit(value)
    else:
        value = gpu_arithmetic.refined_reciprocal(value, tl.load(out + i))
    tl.store(out + i, value)


@triton.jit
def _activate(z, out, CODE: tl.constexpr, CENTRED: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, N)
    s, s1, s2 = gpu_activations.activation(tl.load(z + i), CODE, CENTRED)
    tl.store(out + i, s)
    tl.store(out + N + i, s1)
    tl.store(out + 2 * N + i, s2)


def elementwise(function: int, x: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
    out = torch.zeros(len(x), dtype=torch.float64) if start is None else torch.from_numpy(start.copy())
    _elementwise[(1,)](torch.from_numpy(x), out, function, len(x))
    return out.numpy()


@pytest.mark.parametrize(
    "function, exact, low, high, ulps",
    [
        (0, mpmath.exp, -699.0, 699.0, 2),
        (1, mpmath.erf, -6.5, 6.5, 3),
        (2, mpmath.erfc, -6.0, 4.0, 50),  # x^2 eps in the tail: the interpreter rounds the product of an fma
        (3, lambda e: mpmath.log1p(e), 0.0, 1.0, 2),
    ],
    ids=["exp", "erf", "erfc", "log1p"],
)
def test_an_elementary_function_is_accurate_to_some_ulps(function, exact, low, high, ulps) -> None:
    rng = np.random.default_rng(function)
    x = rng.uniform(low, high, 256)
    x[:32] *= 1e-3
    with mpmath.workdps(40):
        expected = [exact(mpmath.mpf(float(each))) for each in x]
        given = elementwise(function, x)
        worst = max(abs(float((mpmath.mpf(float(g)) - e) / e)) for g, e in zip(given, expected, strict=True))
    assert worst <= ulps * EPS


def test_a_reciprocal_of_20_bits_becomes_one_of_53() -> None:
    rng = np.random.default_rng(0)
    x = np.exp(rng.uniform(-300, 300, 512))
    seeds = (1 / x) * (1 + 2.0**-20 * rng.uniform(-1, 1, 512))
    assert np.abs(elementwise(4, x, seeds) * x - 1).max() <= 4 * EPS


@every_activation
def test_activations_equal_those_of_torch(activation: str) -> None:
    z = torch.cat([torch.linspace(-40, 40, 512), torch.tensor([0.0, -800.0, 800.0, 1e-9] * 128)]).double()
    for centred in {False, activation == "sigmoid"}:
        out = torch.zeros(3, len(z), dtype=torch.float64)
        _activate[(1,)](z, out, CODE[activation], centred, len(z))
        for order in range(3):
            expected = ACTIVATIONS[activation].derivative(z, order)
            if centred and order == 0:
                expected = 0.5 * torch.tanh(0.5 * z)
            allowed = 8 * EPS * expected.abs() + 1e-299 + (EPS if activation in ("erf", "silu", "gelu") else 0.0)
            assert ((out[order] - expected).abs() <= allowed).all()


def check_derivatives(case: Case) -> None:
    problem, theta = case.problem(), case.theta()
    given, size = gpu.derivatives(problem.samples, theta), sizes_of_terms(problem, theta)
    for other in (cpu, reference):
        expected = other.derivatives(problem.samples, theta)
        for name in ("loss", "gradient", "hessian"):
            error = (getattr(given, name) - getattr(expected, name)).abs()
            assert (error <= TOLERANCE * getattr(size, name)).all(), f"{name} off by {float(error.max())}"
        assert ((given.absolute - expected.absolute).abs() <= TOLERANCE * expected.absolute).all()
    assert torch.equal(given.hessian, given.hessian.mT)


@every_activation
def test_derivatives_equal_those_of_the_cpu(activation: str) -> None:
    options = {"hidden_bias": CODE[activation] % 2 == 0, "output_bias": CODE[activation] % 3 == 0}
    check_derivatives(Case(activation, 4, 2, **options, weighted=CODE[activation] > 3, n=70, rows=2, scale=0.5))


@pytest.mark.parametrize("output_bias", [False, True])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "erf"])
def test_derivatives_on_mirrored_data(activation: str, output_bias: bool) -> None:
    case = Case(activation, 3, 2, output_bias=output_bias, weighted=True, mirrored=True, rows=2)
    assert case.problem().samples.halved
    check_derivatives(case)


@pytest.mark.parametrize("width, d", [(1, 1), (8, 2), (9, 2), (6, 3), (7, 3), (2, 8)])
def test_narrow_and_wide_students(width: int, d: int) -> None:
    case = Case("sigmoid", width, d, output_bias=True, rows=1)
    assert gpu.is_narrow(case.problem().samples, width) == (width * (d + 1) <= 24)
    check_derivatives(case)


@pytest.mark.parametrize("options", [{"mirrored": True}, {"output_bias": True, "weighted": True}])
def test_gradients_of_64_neurons(options: dict[str, bool]) -> None:
    case = Case("sigmoid", 64, 2, rows=1, **options)
    problem, theta = case.problem(), case.theta()
    assert gpu.supports(problem.samples, 64) and not gpu.supports(problem.samples, 65)
    loss, gradient = gpu.loss_and_gradient(problem.samples, theta)
    expected, size = cpu.loss_and_gradient(problem.samples, theta), sizes_of_terms(problem, theta)
    assert ((loss - expected[0]).abs() <= TOLERANCE * size.loss).all()
    assert ((gradient - expected[1]).abs() <= TOLERANCE * size.gradient).all()


@slow
@every_activation
def test_derivatives_of_all_variants(activation: str) -> None:
    for width, d, bias in ((1, 1, True), (5, 2, False), (8, 2, True), (11, 3, False)):
        for hidden in (False, True):
            check_derivatives(Case(activation, width, d, hidden, bias, weighted=hidden, n=300, rows=2))


@slow
@pytest.mark.parametrize("width, d", [(64, 2), (20, 8)])
def test_hessians_of_the_largest_students(width: int, d: int) -> None:
    check_derivatives(Case("sigmoid", width, d, mirrored=True, rows=1))


def test_derivatives_equal_those_of_mpmath() -> None:
    """The loss by its definition in 50 digits, and its derivatives by differences there."""
    case = Case("gelu", 2, 1, output_bias=True, weighted=True, n=6, rows=1)
    problem, theta = case.problem(), case.theta()
    x, y, q = case.data()
    assert q is not None

    def loss(*point):
        total = mpmath.mpf(0)
        for xi, yi, qi in zip(x[:, 0].tolist(), y.tolist(), q.tolist(), strict=True):
            z = [point[k] * xi for k in range(2)]
            f = point[4] + sum(point[2 + k] * z[k] * mpmath.ncdf(z[k]) for k in range(2))
            total += qi * (f - yi) ** 2
        return total / sum(map(mpmath.mpf, q.tolist()))

    given, size = gpu.derivatives(problem.samples, theta), sizes_of_terms(problem, theta)
    with mpmath.workdps(50):
        point = [mpmath.mpf(each) for each in theta[0].tolist()]
        assert abs(float(float(given.loss[0]) - loss(*point))) <= TOLERANCE * float(size.loss[0])
        for p in range(5):
            first = mpmath.diff(loss, point, tuple(int(i == p) for i in range(5)))
            assert abs(float(float(given.gradient[0, p]) - first)) <= TOLERANCE * float(size.gradient[0, p])
            for r in range(p + 1):
                second = mpmath.diff(loss, point, tuple(int(i == p) + int(i == r) for i in range(5)))
                assert abs(float(float(given.hessian[0, p, r]) - second)) <= TOLERANCE * float(size.hessian[0, p, r])


def schedule(steps: int, rate: float = 1e-2) -> torch.Tensor:
    t = torch.arange(1, steps + 1, dtype=torch.float64)
    return torch.stack([rate * (1 - t / (2 * steps)), *(1 - beta**t for beta in BETAS)], 1)


def advance(case: Case, theta: torch.Tensor, plan: torch.Tensor, chunks: list[int], kernels=gpu) -> AdamRun:
    run = AdamRun.start(theta)
    for part in plan.split(chunks):
        kernels.adam(case.problem().samples, run, part, BETAS, ADAM_EPS)
    return run


STATE = ("theta", "first_moment", "second_moment", "failed")


@pytest.mark.parametrize(
    "case",
    [
        Case("sigmoid", 5, 2, rows=2, mirrored=True),
        Case("softplus_sigmoid", 3, 1, hidden_bias=True, output_bias=True, weighted=True, rows=2),
        Case("gelu", 9, 2, rows=1, scale=0.5, n=20),
    ],
    ids=lambda case: case.activation,
)
def test_adam_takes_the_steps_of_the_cpu(case: Case) -> None:
    plan, theta = schedule(8), case.theta()
    given, expected = (advance(case, theta, plan, [8], kernels) for kernels in (gpu, cpu))
    assert float((expected.theta - theta).abs().min()) > 1e-3  # it went somewhere
    assert float((given.theta - expected.theta).abs().max()) <= 1e-12
    assert float((given.second_moment - expected.second_moment).abs().max()) <= 1e-12


def test_chunks_of_steps_do_not_change_a_bit() -> None:
    case, plan = Case("sigmoid", 3, 2, output_bias=True), schedule(9)
    once, often = (advance(case, case.theta(), plan, chunks) for chunks in ([9], [1, 2, 6]))
    assert all(torch.equal(getattr(once, name), getattr(often, name)) for name in STATE)


@pytest.mark.parametrize("widths", [(2, 5, 3), (9, 10)])
def test_widths_together_take_the_same_steps_as_alone(widths: tuple[int, ...]) -> None:
    cases = [Case("sigmoid", width, 2, output_bias=True, rows=2) for width in widths]
    plan, samples = schedule(2), cases[0].problem().samples
    runs = [AdamRun.start(case.theta()) for case in cases]
    gpu.adam_together(samples, runs, plan, BETAS, ADAM_EPS)
    for case, run in zip(cases, runs, strict=True):
        alone = AdamRun.start(case.theta())
        gpu.adam(samples, alone, plan, BETAS, ADAM_EPS)
        assert all(torch.equal(getattr(run, name), getattr(alone, name)) for name in STATE)
        assert not torch.equal(run.theta, case.theta())


@pytest.mark.parametrize("case", [Case("sigmoid", 3, 2, rows=4, mirrored=True), Case("tanh", 9, 2, rows=3)])
def test_a_row_has_the_same_bits_alone_and_in_any_batch(case: Case) -> None:
    samples, theta = case.problem().samples, case.theta()

    def everything(rows: torch.Tensor) -> list[torch.Tensor]:
        return [*vars(gpu.derivatives(samples, rows)).values(), advance(case, rows, schedule(3), [3]).theta]

    together, alone = everything(theta), [everything(row) for row in theta.split(1)]
    for whole, parts in zip(together, zip(*alone, strict=True), strict=True):
        assert torch.equal(whole, torch.cat(parts))


@overflows
@pytest.mark.parametrize("width, bad", [(3, math.nan), (3, math.inf), (9, math.nan)])
def test_a_bad_row_is_marked_and_stays_while_its_neighbours_go_on(width: int, bad: float) -> None:
    case, plan = Case("sigmoid", width, 2, rows=3, output_bias=True), schedule(4)
    good, theta = advance(case, case.theta(), plan, [4]), case.theta()
    theta[1, 4] = bad
    run = advance(case, theta, plan, [1, 3])
    assert run.failed.tolist() == [0, 1, 0]
    assert torch.equal(run.theta[1].nan_to_num(), theta[1].nan_to_num())
    for name in STATE:
        assert torch.equal(getattr(run, name)[[0, 2]], getattr(good, name)[[0, 2]])
    d = gpu.derivatives(case.problem().samples, theta)
    assert not torch.isfinite(d.loss[1]) and not torch.isfinite(d.gradient[1]).any()
    assert not torch.isfinite(d.hessian[1]).any()
    assert all(torch.isfinite(each[[0, 2]]).all() for each in (d.loss, d.gradient, d.hessian))


@overflows
def test_a_row_that_overflows_on_the_way_stops_at_its_last_point() -> None:
    case = Case("relu", 2, 2, rows=2)
    theta = case.theta()
    theta[1] *= 1e150
    run = advance(case, theta, schedule(3), [3])
    assert run.failed.tolist() == [0, 1]
    assert torch.equal(run.theta[1], theta[1]) and not torch.equal(run.theta[0], theta[0])


@pytest.mark.parametrize("width", [3, pytest.param(9, marks=slow)])
def test_sums_in_float32_do_not_lose_digits_over_many_samples(width: int) -> None:
    """The error against float64 at the same float32 numbers is that of the terms, not of their partial sums."""
    case = Case("sigmoid", width, 2, n=8000, rows=1, dtype=torch.float32, output_bias=True)
    samples, theta = case.problem().samples, case.theta()
    exact = cpu.loss_and_gradient(samples.to("cpu", torch.float64), theta.double())
    size = sizes_of_terms(case.problem().__class__(*case.data()[:2], "sigmoid", output_bias=True), theta.double())
    loss, gradient = gpu.loss_and_gradient(samples, theta)
    assert loss.dtype == gradient.dtype == torch.float32
    eps = float(np.finfo(np.float32).eps)
    assert abs(float(loss - exact[0])) <= eps * float(size.loss)
    assert ((gradient - exact[1]).abs() <= eps * size.gradient).all()


def test_everything_in_float32() -> None:
    case = Case("gelu", 3, 2, rows=2, dtype=torch.float32, mirrored=False)
    samples, theta = case.problem().samples, case.theta()
    given = gpu.derivatives(samples, theta)
    expected = cpu.derivatives(samples.to("cpu", torch.float64), theta.double())
    for name in ("loss", "gradient", "hessian", "absolute"):
        value, exact = getattr(given, name), getattr(expected, name)
        assert value.dtype == torch.float32
        assert float((value - exact).abs().max()) <= 1e-5 * float(exact.abs().max())
    run, other = advance(case, theta, schedule(10), [10]), advance(case, theta, schedule(10), [10], reference)
    assert run.theta.dtype == torch.float32 and float((run.theta - other.theta).abs().max()) <= 1e-5


def test_training_by_objective_of_several_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    """All the way from ``train``: the kernels that a GPU would choose, launched once for all widths."""
    grid = TeacherStudent.grid()
    problem = TeacherStudent(grid.x[::41], grid.teacher)
    starts = {width: problem.init(width, range(2)) for width in (4, 5)}
    expected = train(problem, starts, steps=3, lr=1e-2, record=2)
    launches = []
    start = functools.partial(gpu._start)
    monkeypatch.setattr(two_layer, "select", lambda device, dtype: gpu)
    monkeypatch.setattr(gpu, "_start", lambda kernel, *a, **k: (launches.append(kernel), start(kernel, *a, **k)))
    given = train(problem, starts, steps=3, lr=1e-2, record=2)
    assert launches.count(gpu.adam_kernel) == 2  # to the recorded step 1, and on to 3; both widths at once
    for width in starts:
        assert float((given[width].theta - expected[width].theta).abs().max()) <= 1e-12
        assert given[width].trajectory.shape == expected[width].trajectory.shape


@slow
def test_students_trained_by_the_kernels_end_at_points_of_the_same_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained by either, refined and judged by the CPU, as a study does it: rounding moves no student elsewhere."""
    grid = TeacherStudent.grid()
    problem = TeacherStudent(grid.x.view(41, 41, 2)[::8, ::8].reshape(-1, 2), grid.teacher)
    starts, options = problem.init(4, range(16)), {"steps": 300, "lr": 0.05}
    kinds = []
    for kernels in (cpu, gpu):
        with monkeypatch.context() as patch:
            patch.setattr(two_layer, "select", lambda device, dtype, kernels=kernels: kernels)
            trained = train(problem, starts, **options)
        settled = settle(problem, trained.theta)
        kinds.append([verdict.kind for verdict in settled.verdicts])
    assert len(set(kinds[0])) == 4  # global and other minima, degenerate ones, channels
    assert kinds[0] == kinds[1]


def test_students_too_large_for_the_kernels_go_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_start", SimpleNamespace())  # not callable: nothing may be launched
    case = Case("tanh", 65, 1, rows=1)
    samples, theta = case.problem().samples, case.theta()
    assert torch.equal(gpu.loss_and_gradient(samples, theta)[1], reference.loss_and_gradient(samples, theta)[1])
    assert math.isfinite(float(gpu.derivatives(samples, theta).loss))
    gpu.adam(samples, AdamRun.start(theta), schedule(1), BETAS, ADAM_EPS)


def test_no_rows_and_no_steps() -> None:
    case = Case("sigmoid", 2, 2)
    samples, theta = case.problem().samples, case.theta()
    assert gpu.loss_and_gradient(samples, theta[:0])[1].shape == (0, 6)
    gpu.adam(samples, AdamRun.start(theta[:0]), schedule(2), BETAS, ADAM_EPS)
    assert torch.equal(advance(case, theta, schedule(1)[:0], [0]).theta, theta)
