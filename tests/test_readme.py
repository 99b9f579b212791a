"""README.md is carried out: what it says to type is typed, what it says is printed is compared.

Commands that install or test are not carried out but compared with .ci/run, which does carry them out.
"""

import itertools
import re
import tomllib

import pytest
from imports import ROOT
from markdown_blocks import Block, blocks
from walkthrough import Walkthrough

README = blocks((ROOT / "README.md").read_text(encoding="utf-8"))
INSTALLS_OR_TESTS = re.compile(r"(python3? -m )?(pip install|pytest)\b")


def as_parameter(number: int, block: Block) -> object:
    """A test of its own for each block; one worker runs them all, since they build on each other."""
    marks = [pytest.mark.xdist_group("readme")]
    if block.slow:
        marks.append(pytest.mark.slow)
    if block.not_run:
        marks.append(pytest.mark.skip(reason=f"README.md, line {block.line}: {block.not_run}"))
    return pytest.param(number, marks=marks, id=f"line {block.line}, {block.language}")


@pytest.fixture(scope="module")
def walkthrough(tmp_path_factory: pytest.TempPathFactory) -> Walkthrough:
    folder = tmp_path_factory.mktemp("readme")
    # a reader stands in the checkout, where there are scripts to run; what they write must not land there
    if (ROOT / "benchmarks").is_dir():
        (folder / "benchmarks").symlink_to(ROOT / "benchmarks")
    return Walkthrough(README, folder)


@pytest.mark.parametrize("number", [as_parameter(*each) for each in enumerate(README)])
def test_block_does_what_the_readme_says(walkthrough: Walkthrough, number: int) -> None:
    failure = walkthrough.run(number)
    assert not failure, f"README.md, {failure}"


def install_and_test_commands(where: list[Block]) -> list[str]:
    commands = [command.bare for block in where if block.language != "python" for command in block.commands()]
    return [command for command in commands if INSTALLS_OR_TESTS.match(command)]


def test_continuous_integration_installs_and_tests_as_the_readme_says() -> None:
    script = Block("bash", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), 1)
    carried_out = install_and_test_commands([script])
    announced = install_and_test_commands(README)
    assert set(carried_out) <= set(announced), "a command of .ci/run does not stand in README.md"
    for tool in ("pip install", "pytest"):
        first = next((command for command in announced if tool in command), None)
        assert first in carried_out, f"the first '{tool}' command of README.md is not carried out by .ci/run"


def project_table() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("command", [each for each in install_and_test_commands(README) if "install" in each])
def test_installing_uses_the_pinned_versions_and_existing_extras(command: str) -> None:
    assert "-c constraints.txt" in command
    named = itertools.chain.from_iterable(extras.split(",") for extras in re.findall(r"\[(.*?)\]", command))
    assert {extra.strip() for extra in named} <= project_table()["optional-dependencies"].keys()


def test_every_direct_requirement_is_pinned() -> None:
    project = project_table()
    requirements = itertools.chain(project["dependencies"], *project["optional-dependencies"].values())
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []
    assert set(map(package_name, requirements)) - {"critpoints"} <= set(map(package_name, pins))


def package_name(requirement: str) -> str:
    """The name in a requirement, written as package indexes compare names."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement, maxsplit=1)[0]).lower()
