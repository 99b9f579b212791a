"""Reads the imports of the source tree without running it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"critpoints": ROOT / "critpoints", "critpoints_cli": ROOT / "cli"}


@dataclass(frozen=True)
class Import:
    """One imported name, absolute: `from ..errors import Status` in a solver is `critpoints.errors.Status`."""

    target: str
    line: int
    relative: bool

    @property
    def library(self) -> str:
        return self.target.partition(".")[0]


@dataclass(frozen=True)
class Module:
    name: str
    path: Path

    @property
    def package(self) -> str:
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]

    @property
    def unit(self) -> str:
        """What stands on a floor: `cli`, or a file or folder directly in critpoints/; `__init__` for the package."""
        return unit_of(self.name)

    def imports(self) -> Iterator[Import]:
        return imports_of(self.path.read_text(encoding="utf-8"), self.package)


def unit_of(name: str) -> str:
    """The unit that a dotted name of this project belongs to."""
    library, _, rest = name.partition(".")
    return "cli" if library == "critpoints_cli" else rest.partition(".")[0] or "__init__"


def modules() -> list[Module]:
    """Every module of the project, sorted by name."""
    found = []
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((package, *parts)).removesuffix(".__init__")
            found.append(Module(name, path))
    return sorted(found, key=lambda module: module.name)


def imports_of(source: str, package: str) -> Iterator[Import]:
    """Every import in a source text, also inside functions, under TYPE_CHECKING and through import_module."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                for alias in node.names:
                    yield Import(alias.name, node.lineno, relative=False)
            case ast.ImportFrom():
                base = absolute_name(node.module or "", node.level, package)
                for alias in node.names:
                    yield Import(f"{base}.{alias.name}", node.lineno, relative=node.level > 0)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(target)), *_],
            ):
                level = len(target) - len(target.lstrip("."))
                yield Import(absolute_name(target.lstrip("."), level, package), node.lineno, relative=level > 0)


def absolute_name(name: str, level: int, package: str) -> str:
    """Resolves a name imported with `level` leading dots in a module of `package`."""
    if level == 0:
        return name
    base = package.rsplit(".", level - 1)[0]
    return f"{base}.{name}" if name else base
