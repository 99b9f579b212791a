"""The tools that carry out README.md: what they run, what they leave out, which wrong announcements they find."""

from pathlib import Path

import pytest
from markdown_blocks import Block, Command, blocks
from walkthrough import Walkthrough, agrees


def read(markdown: str) -> list[Block]:
    """The blocks of a text whose fences are written as ''', easier to read inside a string."""
    return blocks(markdown.replace("'''", "```"))


def walk(folder: Path, markdown: str) -> list[str]:
    """What goes wrong in each block of a text."""
    walkthrough = Walkthrough(read(markdown), folder)
    return [walkthrough.run(number) for number in range(len(walkthrough.blocks))]


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("'''bash\nls\n'''", Block("bash", "ls\n", 2)),
        ("- item\n\n  '''console\n  $ ls\n  '''", Block("console", "$ ls\n", 4)),
        ("<!-- slow: an hour -->\n'''bash\nls\n'''", Block("bash", "ls\n", 3, slow=True)),
        ("<!-- not run: needs\n a GPU -->\n\n'''python\nx\n'''", Block("python", "x\n", 5, not_run="needs a GPU")),
        ("<!-- slow -->\n\ntext\n'''bash\nls\n'''", Block("bash", "ls\n", 5)),
        ("''''''bash\n'''\n''''''", Block("bash", "```\n", 2)),
    ],
)
def test_a_block_carries_its_line_and_what_the_comments_above_say(markdown: str, expected: Block) -> None:
    assert read(markdown) == [expected]


def test_other_languages_are_left_out() -> None:
    assert read("'''json\n{}\n'''\n'''\ntext\n'''") == []


@pytest.mark.parametrize(
    ("markdown", "complaint"),
    [("'''bash\nls\n", "line 1: this block is never closed"), ("'''sh\nls\n'''", "line 1: call this language bash")],
)
def test_a_block_that_would_go_unnoticed_is_an_error(markdown: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read(markdown)


def test_commands_continue_over_lines() -> None:
    (block,) = read("'''bash\n# a comment\nls \\\n  -l\n\ncat <<'END' > file\none\nEND\n'''")
    assert block.commands() == [Command("ls \\\n  -l"), Command("cat <<'END' > file\none\nEND")]
    (block,) = read("'''console\n$ ls \\\n> -l\nfile\n$ true\n'''")
    assert block.commands() == [Command("ls \\\n-l", "file"), Command("true")]


def test_blocks_share_a_folder_and_a_namespace(tmp_path: Path) -> None:
    text = (
        "'''bash\ncat > numbers.txt <<'END'\n0.12345\nEND\n'''\n"
        "'''python\nfrom pathlib import Path\ntext = Path('numbers.txt').read_text()\n'''\n"
        "'''python\nprint(text)  # -> 0.123\n'''\n"
        "'''python\n>>> x = float(text)\n>>> x\n0.12...\n'''\n"
        "'''python\n2 * x\n# -> 0.2469\n'''\n"
        "'''console\n$ cat numbers.txt\n0.12...\n$ false  # exit code 1\n'''\n"
    )
    assert walk(tmp_path, text) == [""] * 6


def test_classes_defined_in_a_block_know_their_module(tmp_path: Path) -> None:
    text = (
        "'''python\nfrom __future__ import annotations\nimport dataclasses, typing\n'''\n"
        "'''python\n@dataclasses.dataclass\nclass Point:\n    x: 'float'\n"
        "typing.get_type_hints(Point)  # -> {'x': <class 'float'>}\n'''"
    )
    assert walk(tmp_path, text) == ["", ""]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("'''bash\ntrue\nfalse\n'''", "line 2: $ false\nended with 1, not 0"),
        ("'''bash\nfalse | cat\n'''", "ended with 1, not 0"),
        ("'''bash\ntrue  # exit code 3\n'''", "ended with 0, not 3"),
        ("'''bash\ncd . && false\n'''", "ended with 1, not 0"),
        ("'''console\n$ echo one\ntwo\n'''", "printed\none\n\nnot\ntwo"),
        ("'''python\nx = 0.5\nx  # -> 0.51\n'''", "x\ngave\n0.5\nnot\n0.51"),
        ("'''python\nx = 0.5  # -> 0.51\n'''", "x = 0.5\ngave\n0.5\nnot\n0.51"),
        ("'''python\nprint(1)\nprint(2)\n# -> 1\n'''", "print(2)\ngave\n2\n\nnot\n1"),
        ("'''python\n# -> 1\nprint(1)\n'''", "'# -> 1' belongs to no statement"),
        ("'''python\n1 / 0\n'''", "1 / 0\nraised ZeroDivisionError"),
        ("'''python\nif __name__ == '__main__':\n    1 / 0\n'''", "belongs in a bash block"),
        ("'''python\n>>> 1 + 1\n3\n'''", "Expected:\n    3\nGot:\n    2"),
    ],
)
def test_a_wrong_block_is_found(tmp_path: Path, text: str, complaint: str) -> None:
    (failure,) = walk(tmp_path, text)
    assert complaint in failure


def test_setup_commands_are_not_carried_out(tmp_path: Path) -> None:
    text = "git clone nowhere && cd nowhere\npython -m venv .venv\npip install -c constraints.txt .\npytest -n 2\n"
    assert walk(tmp_path, f"'''bash\n{text}'''") == [""]
    assert not list(tmp_path.iterdir())


def test_a_quick_block_does_not_wait_for_a_slow_one(tmp_path: Path) -> None:
    text = "'''bash\necho 1 >> log\n'''\n<!-- slow -->\n'''bash\necho 2 >> log\n'''\n'''bash\necho 3 >> log\n'''"
    walkthrough = Walkthrough(read(text), tmp_path)
    assert walkthrough.run(2) == ""
    assert (tmp_path / "log").read_text() == "1\n3\n"
    assert walkthrough.run(1) == ""
    assert (tmp_path / "log").read_text() == "1\n3\n2\n"


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ("0.129", "0.12866"),
        ("1.3e-9", "1.2987e-09"),
        ("1e-9", "1.2987e-09"),
        ("(1000, 15)", "(1000,   15)"),
        ("30_000", "30000"),
        ("saddle of index 3...", "saddle of index 3, level 0.7"),
        ("minimum ... 5", "minimum at level 0.3, index 5"),
        ("tensor([1.00, -2.0])", "tensor([1.0021, -1.9999])"),
    ],
)
def test_numbers_agree_to_the_digits_shown(expected: str, actual: str) -> None:
    assert agrees(expected, actual)


@pytest.mark.parametrize(
    ("expected", "actual"),
    [("0.129", "0.1279"), ("3", "3.4"), ("1.3e-9", "1.3e-8"), ("minimum", "minimum 5"), ("MINIMUM", "SADDLE")],
)
def test_other_outputs_do_not_agree(expected: str, actual: str) -> None:
    assert not agrees(expected, actual)
