"""Ways to compute the top eigenvalues of a network's Hessian; all multiply by the same kept graph."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from critpoints.curvature.lanczos import eigsh
from critpoints.curvature.linear_operator import SymmetricOperator


class Absent(Exception):
    """A rival that cannot run here, and why."""


class DoubleBackward(SymmetricOperator):
    """The Hessian of a loss with respect to a module's parameters: the gradient's graph is kept and differentiated."""

    def __init__(self, model: nn.Module, loss_fn: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> None:
        self.model, self.loss_fn, self.x, self.y = model, loss_fn, x, y
        self.parameters = list(model.parameters())
        self.sizes = [parameter.numel() for parameter in self.parameters]
        super().__init__(sum(self.sizes), x.dtype, x.device)
        self.gradient = torch.autograd.grad(loss_fn(model(x), y), self.parameters, create_graph=True)

    def _multiply(self, block: Tensor) -> Tensor:
        return torch.stack([self._product(column) for column in block.mT], dim=1)

    def _product(self, vector: Tensor) -> Tensor:
        parts = [part.view_as(p) for part, p in zip(vector.split(self.sizes), self.parameters, strict=True)]
        products = torch.autograd.grad(self.gradient, self.parameters, parts, retain_graph=True)
        return torch.cat([product.flatten() for product in products])


@dataclass(frozen=True)
class Task:
    """The k largest eigenvalues of a Hessian; everybody starts from, or draws, a random vector of this seed."""

    hessian: DoubleBackward
    k: int
    seed: int
    limit: int  # products after which a solver is stopped

    def start(self) -> np.ndarray:
        """The start that the Lanczos methods share."""
        generator = torch.Generator().manual_seed(self.seed)
        vector = torch.randn(self.hessian.dim, generator=generator, dtype=torch.float64)
        return vector.to(self.hessian.dtype).numpy()


@dataclass(frozen=True)
class Solver:
    """A solver, and the settings from loose to tight with which it is tried."""

    name: str
    description: str
    settings: tuple[float, ...]
    solve: Callable[[Task, float], np.ndarray]  # (task, setting) -> eigenvalues, ascending
    by_residual: bool = False  # the setting is the residual at which to stop, relative to the eigenvalue


TOLERANCES = (3e-1, 1e-1, 5e-2, 2e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6, 1e-8)
POWER_TOLERANCES = (1e-2, 1e-4, 1e-6, 1e-8)  # power iterations are expensive to try


def critpoints(task: Task, tol: float) -> np.ndarray:
    start = torch.from_numpy(task.start()).to(task.hessian.device)
    found = eigsh(task.hessian, task.k, "LA", tol=tol, start=start, max_products=task.limit, method="lanczos")
    return found.values.cpu().numpy()


def critpoints_confirmed(task: Task, tol: float) -> np.ndarray:
    start = torch.from_numpy(task.start()).to(task.hessian.device)
    found = eigsh(task.hessian, task.k, "LA", tol=tol, start=start, confirmations=1, method="lanczos")
    return found.values.cpu().numpy()


def unrestarted(task: Task, tol: float) -> np.ndarray:
    """Textbook Lanczos, orthogonalised twice against all vectors, that keeps them all and stops on the residual."""
    device = task.hessian.device
    basis = torch.empty(task.limit + 1, task.hessian.dim, dtype=torch.float64, device=device)
    start = torch.from_numpy(task.start()).double().to(device)
    basis[0] = start / start.norm()
    diagonal, off_diagonal = [], []
    values = np.zeros(0)
    for j in range(task.limit):
        product = (task.hessian @ basis[j]).double()
        diagonal.append(float(product @ basis[j]))
        for _ in range(2):
            product -= basis[: j + 1].mT @ (basis[: j + 1] @ product)
        off_diagonal.append(float(product.norm()))
        basis[j + 1] = product / off_diagonal[-1]
        values, vectors = np.linalg.eigh(
            np.diag(diagonal) + np.diag(off_diagonal[:-1], 1) + np.diag(off_diagonal[:-1], -1)
        )
        residuals = off_diagonal[-1] * np.abs(vectors[-1, -task.k :])
        if j >= task.k and (residuals <= tol * np.abs(values[-task.k :])).all():
            break
    return values[-task.k :]


def arpack(task: Task, tol: float) -> np.ndarray:
    """SciPy's eigsh, with its default basis of max(2k + 1, 20) vectors."""
    return _arpack(task, tol, None)


def arpack_same_memory(task: Task, tol: float) -> np.ndarray:
    """SciPy's eigsh with as many vectors as critpoints keeps."""
    return _arpack(task, tol, max(4 * task.k, 40))


def _arpack(task: Task, tol: float, ncv: int | None) -> np.ndarray:
    from scipy.sparse import linalg

    scipy_eigsh: Any = linalg.eigsh
    return scipy_eigsh(task.hessian.to_scipy(), task.k, which="LA", tol=tol, v0=task.start(), ncv=ncv)[0]


def pyhessian(task: Task, tol: float) -> np.ndarray:
    """PyHessian's deflated power iteration on the same kept graph, its products counted."""
    module = _import("pyhessian.hessian")
    source = task.hessian
    solver = module.hessian.__new__(module.hessian)
    # its constructor only builds the graph that is here already
    solver.model, solver.full_dataset, solver.device = source.model, False, str(source.device)
    solver.params, solver.gradsH = source.parameters, source.gradient
    original, default = module.hessian_vector_product, torch.get_default_dtype()

    def counted(*arguments: Any) -> Any:
        source.products += 1
        return original(*arguments)

    torch.manual_seed(task.seed)
    try:
        module.hessian_vector_product = counted
        torch.set_default_dtype(source.dtype)  # it draws its vectors in the default one
        values, _ = solver.eigenvalues(maxIter=task.limit, tol=tol, top_n=task.k)
    finally:
        module.hessian_vector_product = original
        torch.set_default_dtype(default)
    return np.sort(values)


def _eigenthings_operator(task: Task) -> Any:
    base = _import("hessian_eigenthings.operators.base")
    source = task.hessian
    return base.LambdaOperator(lambda v: source @ v, source.dim, str(source.device), source.dtype)


def eigenthings_lanczos(task: Task, steps: float) -> np.ndarray:
    algorithm = _import("hessian_eigenthings.algorithms.lanczos")
    operator = _eigenthings_operator(task)
    found = algorithm.lanczos(operator, k=task.k, max_iter=int(steps), which="LA", seed=task.seed)
    return np.sort(found.eigenvalues.double().cpu().numpy())


def eigenthings_power(task: Task, tol: float) -> np.ndarray:
    algorithm = _import("hessian_eigenthings.algorithms.power_iteration")
    operator = _eigenthings_operator(task)
    found = algorithm.deflated_power_iteration(operator, k=task.k, max_iter=task.limit, tol=tol, seed=task.seed)
    return np.sort(found.eigenvalues.double().cpu().numpy())


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Absent(f"{error}: pip install pyhessian hessian-eigenthings==1.0.0a5 tqdm") from error


SOLVERS = (
    Solver("critpoints", "eigsh: thick restarts, at most max(4k, 40) vectors", TOLERANCES, critpoints, True),
    Solver("critpoints-confirmed", "the same, with one confirmation", (1e-6,), critpoints_confirmed, True),
    Solver("unrestarted", "Lanczos that keeps all vectors", TOLERANCES, unrestarted, True),
    Solver("arpack", "scipy.sparse.linalg.eigsh, 20 vectors", TOLERANCES, arpack, True),
    Solver("arpack-40", "the same, with as many vectors as critpoints", TOLERANCES, arpack_same_memory, True),
    Solver(
        "eigenthings-lanczos",
        "hessian-eigenthings, the number of steps set by hand",
        (10, 15, 20, 25, 30, 40, 50, 60),
        eigenthings_lanczos,
    ),
    Solver("eigenthings-power", "hessian-eigenthings, deflated power iteration", POWER_TOLERANCES, eigenthings_power),
    Solver("pyhessian", "PyHessian, deflated power iteration", POWER_TOLERANCES, pyhessian),
)
