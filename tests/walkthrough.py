"""Carries out the blocks of a Markdown text in order, as a reader would, and compares what they announce.

In a python block `# -> value` after a statement, or on the lines below it, is what the statement prints or, if it
prints nothing, its value; a block of `>>>` is a doctest. `...` stands for any text, in what a command prints too.
"""

import ast
import contextlib
import doctest
import io
import linecache
import os
import re
import shutil
import subprocess
import sys
import tokenize
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from markdown_blocks import Block, Command

QUICK_SECONDS, SLOW_SECONDS = 300, 3600
DOCTEST_OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
NUMBER = re.compile(r"(?<!\w)(?<!\d\.)[-+]?(?:\d[\d_]*(?:\.(?!\.)\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?!\w)")


@dataclass
class Walkthrough:
    """Blocks carried out in one folder and, for python, in one namespace.

    A later block may need what an earlier one left behind, so `run` carries out the blocks before it as well: the
    slow ones only if it is slow itself. Each block is carried out once, and its failure kept.
    """

    blocks: list[Block]
    folder: Path
    failures: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.module = types.ModuleType("walkthrough_namespace")
        scripts = [str(Path(sys.executable).parent)]
        if shutil.which("critpoints", path=scripts[0]) is None:
            scripts.insert(0, str(self.make_command()))
        path = os.pathsep.join([*scripts, os.environ.get("PATH", os.defpath)])
        self.environment = {**os.environ, "PATH": path, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "120"}

    def make_command(self) -> Path:
        """Writes a `critpoints` for where it can be imported but was not installed, and returns its folder."""
        scripts = self.folder.with_name(self.folder.name + "-scripts")
        scripts.mkdir()
        command = scripts / "critpoints"
        command.write_text(f"#!{sys.executable}\nfrom critpoints_cli.main import main\n\nraise SystemExit(main())\n")
        command.chmod(0o755)
        return scripts

    def run(self, index: int) -> str:
        """Carries out a block, after those before it that it may need, and returns what went wrong ("" for nothing)."""
        for number, block in enumerate(self.blocks[: index + 1]):
            wanted = number == index or (not block.not_run and block.slow <= self.blocks[index].slow)
            if wanted and number not in self.failures:
                self.failures[number] = self.carry_out(block)
        return self.failures[index]

    def carry_out(self, block: Block) -> str:
        try:
            if block.language == "python":
                self.run_python(block)
            else:
                for command in block.commands():
                    if not command.is_setup:
                        self.run_command(command, SLOW_SECONDS if block.slow else QUICK_SECONDS)
        except AssertionError as failure:
            return f"line {block.line}: {failure}"
        return ""

    def run_command(self, command: Command, seconds: float) -> None:
        try:
            finished = subprocess.run(
                ["bash", "-o", "pipefail", "-c", command.text],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"$ {command.text}\ntook more than {seconds} s; is its block <!-- slow -->?") from late
        printed = finished.stdout + finished.stderr
        assert finished.returncode == command.exit_code, (
            f"$ {command.text}\nended with {finished.returncode}, not {command.exit_code}:\n{printed}"
        )
        if command.output.strip():
            check = doctest.OutputChecker().check_output
            as_announced = any(check(command.output, text, DOCTEST_OPTIONS) for text in (finished.stdout, printed))
            assert as_announced, f"$ {command.text}\nprinted\n{printed}\nnot\n{command.output}"

    def run_python(self, block: Block) -> None:
        assert "__main__" not in block.text, "what only runs in a script belongs in a bash block that runs the script"
        file = f"<line {block.line}>"
        # so that tracebacks and inspect.getsource show the lines
        linecache.cache[file] = (len(block.text), None, block.text.splitlines(keepends=True), file)
        with contextlib.chdir(self.folder), registered(self.module):
            if block.text.lstrip().startswith(">>>"):
                self.run_doctest(block)
                return
            announced = announced_outputs(block.text)
            for statement in ast.parse(block.text).body:
                self.run_statement(statement, file, announced.get(statement.lineno))

    def run_statement(self, statement: ast.stmt, file: str, announced: str | None) -> None:
        namespace, printed, value = self.module.__dict__, io.StringIO(), None
        source = ast.unparse(statement)
        with contextlib.redirect_stdout(printed):
            try:
                if isinstance(statement, ast.Expr):
                    value = eval(compile(ast.Expression(statement.value), file, "eval"), namespace)
                else:
                    exec(compile(ast.Module([statement], []), file, "exec"), namespace)
            except Exception as error:
                raise AssertionError(f"{source}\nraised {type(error).__name__}: {error}") from error
        if announced is not None:
            value = value if isinstance(statement, ast.Expr) else assigned_value(statement, namespace)
            texts = [printed.getvalue()] if printed.getvalue() else [str(value), repr(value)]
            assert any(agrees(announced, text) for text in texts), f"{source}\ngave\n{texts[0]}\nnot\n{announced}"

    def run_doctest(self, block: Block) -> None:
        report, namespace = io.StringIO(), self.module.__dict__
        test = doctest.DocTestParser().get_doctest(block.text, namespace, "README", "README.md", block.line - 1)
        doctest.DocTestRunner(optionflags=DOCTEST_OPTIONS).run(test, out=report.write, clear_globs=False)
        namespace.update(test.globs)
        assert not report.getvalue(), report.getvalue()


@contextlib.contextmanager
def registered(module: types.ModuleType) -> Iterator[None]:
    """Lists a module among the imported ones, as dataclasses and pickle expect of the module of a class."""
    sys.modules[module.__name__] = module
    try:
        yield
    finally:
        del sys.modules[module.__name__]


def announced_outputs(text: str) -> dict[int, str]:
    """The `# -> value` comments of a python text, each under the line of the statement it belongs to."""
    starts = [statement.lineno for statement in ast.parse(text).body]
    announced: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and (comment := re.match(r"#\s*->\s*(.*)", token.string)):
            start = max((start for start in starts if start <= token.start[0]), default=None)
            assert start is not None, f"'{token.string}' belongs to no statement"
            announced[start] = f"{announced.get(start, '')}\n{comment[1]}".strip()
    return announced


def assigned_value(statement: ast.stmt, namespace: dict) -> object:
    """What a statement that was just run assigned to a name, or None."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return namespace[name]
    return None


def agrees(expected: str, actual: str) -> bool:
    """Whether a text is as announced: numbers to the digits shown, any run of white space alike, `...` for any text."""
    expected, actual = " ".join(expected.split()), " ".join(actual.split())
    pattern, shown, end = "", [], 0
    for number in NUMBER.finditer(expected):
        pattern += f"{wildcards(expected[end : number.start()])}({NUMBER.pattern})"
        shown.append(number[0])
        end = number.end()
    match = re.fullmatch(pattern + wildcards(expected[end:]), actual)
    return match is not None and all(map(rounds_to, match.groups(), shown))


def wildcards(text: str) -> str:
    return ".*?".join(re.escape(part) for part in text.split("..."))


def rounds_to(actual: str, shown: str) -> bool:
    """Whether a number is the one shown, up to half a unit of its last digit; a whole number is shown exactly."""
    mantissa, _, exponent = shown.lower().partition("e")
    if "." not in mantissa and not exponent:
        return float(actual) == float(shown)
    last_digit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    rounding = 1e-6  # of half a unit: 0.125 is as good for 0.12 as for 0.13
    return abs(float(actual) - float(shown)) <= 0.5 * last_digit * (1 + rounding)
