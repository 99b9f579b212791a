"""The structure of the source tree: floors, who may import which library, the packages that are installed."""

import graphlib
import subprocess
import sys
import tomllib
from collections.abc import Iterable

import pytest
from imports import PACKAGES, ROOT, Import, Module, imports_of, modules, unit_of

# Ground up. A unit is a file or folder directly in critpoints/, or cli; it imports from floors below its own and, as
# long as nobody goes in a circle, from its neighbours.
FLOORS = (
    ("errors", "statistics", "activations", "verdict", "data"),
    ("kernels",),
    ("objectives", "testing"),
    ("curvature",),
    ("solvers",),
    ("symmetry",),
    ("classification", "matrix_free"),
    ("certification",),
    ("census", "descent", "merge_tree"),
    ("landscape",),
    ("plots",),
    ("study",),
    ("report",),
    ("cli",),
)
FLOOR = {unit: number for number, units in enumerate(FLOORS) for unit in units}

# Libraries that only some units may import, wherever in the module the import stands.
CONFINED = {
    "click": {"cli"},
    "dask": {"study"},
    "distributed": {"study"},
    "flint": {"certification"},
    "matplotlib": {"plots"},
    "rich": {"cli"},
    "sqlite3": {"study"},
    "triton": {"kernels"},
}

# What makes a command slow to start; `critpoints --help` and `import critpoints` do without.
SLOW_TO_IMPORT = {"flint", "matplotlib", "numba", "scipy", "torch"}

MODULES = modules()
BELOW_INIT = [module for module in MODULES if module.unit != "__init__"]
every_module = pytest.mark.parametrize("module", BELOW_INIT, ids=lambda module: module.name)


def misplaced_imports(unit: str, imports: Iterable[Import]) -> list[str]:
    """What is wrong with the imports of a unit, one line each."""
    if unit not in FLOOR:
        return [f"'{unit}' stands on no floor: place it on one, in FLOORS in tests/test_structure.py"]
    complaints = []
    for each in imports:
        if each.library not in PACKAGES:
            continue
        target = unit_of(each.target)
        if target == unit:
            continue
        if target not in FLOOR and unit == "cli":
            continue  # the command line is a user of the flat public names
        if target not in FLOOR:
            complaints.append(
                f"line {each.line}: '{each.target}' is on no floor: a public name is imported from the module that"
                " defines it, a new module is placed in FLOORS in tests/test_structure.py"
            )
        elif FLOOR[target] > FLOOR[unit]:
            complaints.append(f"line {each.line}: '{unit}' imports '{each.target}' from a floor above its own")
    return complaints


def forbidden_libraries(unit: str, imports: Iterable[Import]) -> list[str]:
    """The imports of libraries that are confined to other units, one line each."""
    return [
        f"line {each.line}: '{each.library}' is imported by {' and '.join(CONFINED[each.library])} alone"
        for each in imports
        if unit not in CONFINED.get(each.library, {unit})
    ]


@every_module
def test_imports_come_from_the_floors_below(module: Module) -> None:
    complaints = misplaced_imports(module.unit, module.imports())
    assert not complaints, f"{module.path.relative_to(ROOT)}:\n" + "\n".join(complaints)


@every_module
def test_confined_libraries_stay_where_they_belong(module: Module) -> None:
    complaints = forbidden_libraries(module.unit, module.imports())
    assert not complaints, f"{module.path.relative_to(ROOT)}:\n" + "\n".join(complaints)


def test_no_circles_between_units() -> None:
    graph = {unit: set() for unit in FLOOR}
    for module in BELOW_INIT:
        targets = {unit_of(each.target) for each in module.imports() if each.library in PACKAGES}
        graph.setdefault(module.unit, set()).update(targets & FLOOR.keys() - {module.unit})
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_the_command_line_imports_itself_relatively() -> None:
    """Inside cli/ its name depends on how it was started: `critpoints_cli` when installed, `cli` in a bare checkout."""
    absolute = [
        f"{module.path.relative_to(ROOT)}:{each.line}: {each.target}"
        for module in MODULES
        for each in module.imports()
        if module.unit == "cli" and not each.relative and each.library in {"cli", "critpoints_cli"}
    ]
    assert absolute == []


def test_the_installed_packages_are_those_of_the_tree() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert settings["package-dir"] == {name: folder.name for name, folder in PACKAGES.items()}
    # a folder without __init__.py is found too: it would be missing from every installation
    assert sorted(settings["packages"]) == sorted({module.package for module in MODULES})
    folders_with_init = {module.package for module in MODULES if module.path.name == "__init__.py"}
    assert folders_with_init == set(settings["packages"]), "an __init__.py is missing"


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("import critpoints", id="import critpoints"),
        pytest.param(
            "sys.argv = ['critpoints', '--help']; from critpoints_cli.main import main\n"
            "try: main()\nexcept SystemExit as end: assert not end.code, end.code",
            id="critpoints --help",
        ),
    ],
)
def test_starting_does_not_import_what_is_slow_to_import(program: str) -> None:
    report = "print('imported:', *sorted(name for name in sys.modules if '.' not in name))"
    finished = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}\n{report}"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    imported = finished.stdout.rpartition("imported:")[2].split()
    assert SLOW_TO_IMPORT & set(imported) == set()


@pytest.mark.parametrize(
    "source",
    [
        "from ..landscape import interpolate",
        "from .. import landscape",
        "import critpoints.landscape.curves as curves",
        "from critpoints.landscape import curves",
        "def late():\n    from ..landscape.curves import connect",
        "if TYPE_CHECKING:\n    from ..landscape import curves",
        "importlib.import_module('critpoints.landscape')",
        "import_module('..landscape', __package__)",
    ],
)
def test_an_upward_import_is_found(source: str) -> None:
    (complaint,) = misplaced_imports("solvers", imports_of(source, "critpoints.solvers"))
    assert "floor above" in complaint


@pytest.mark.parametrize(
    "source",
    [
        "from .base import iterate",
        "from . import base",
        "from ..errors import Status",
        "from .. import errors",
        "from critpoints.curvature.lanczos import eigsh",
        "import numpy.linalg",
    ],
)
def test_a_downward_or_own_import_is_allowed(source: str) -> None:
    assert not misplaced_imports("solvers", imports_of(source, "critpoints.solvers"))


def test_an_unknown_module_asks_for_a_floor() -> None:
    (complaint,) = misplaced_imports("horoscope", [])
    assert "place it on one" in complaint
    (complaint,) = misplaced_imports("solvers", imports_of("from .. import horoscope", "critpoints.solvers"))
    assert "placed in FLOORS" in complaint


def test_a_confined_library_is_found_inside_a_function() -> None:
    (complaint,) = forbidden_libraries("solvers", imports_of("def late():\n    import flint", "critpoints.solvers"))
    assert "certification alone" in complaint
    assert not forbidden_libraries("certification", imports_of("from flint import arb", "critpoints.certification"))
