"""Reads the fenced bash, console and python blocks of a Markdown text, and the commands in them.

Above a block, `<!-- not run: reason -->` says that it is skipped and why, `<!-- slow -->` that it takes minutes. In a
bash block a command is a line (continued by a backslash, or with a here-document), in a console block what follows
`$ `; below it stands what it prints. `# exit code 1` behind a command announces that it does not end with 0.
"""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

LANGUAGES = {"bash", "console", "python"}
OTHER_NAMES = {"sh": "bash", "shell": "bash", "zsh": "bash", "py": "python", "python3": "python", "pycon": "python"}

FENCE = re.compile(r"^\s*(?P<fence>`{3,}|~{3,})\s*(?P<language>\w*)[^`]*$")
COMMENTS_ABOVE = re.compile(r"(?:<!--(?:(?!-->).)*-->\s*)+\Z", re.DOTALL)
NOT_RUN = re.compile(r"<!--\s*not run:\s*(.+?)\s*-->", re.DOTALL)
SLOW = re.compile(r"<!--\s*slow\b")
HERE_DOCUMENT = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")
EXIT_CODE = re.compile(r"#\s*exit code (\d+)\b")
SETUP = re.compile(
    r"(git clone|cd|source|\.|pip|pytest|ruff|pyright|(bash )?\.ci/run|python3? -m (venv|pip|pytest))(\s|$)"
)


@dataclass(frozen=True)
class Command:
    text: str
    output: str = ""

    @property
    def bare(self) -> str:
        """The command without the comment behind it."""
        return re.sub(r"(^|\s+)#\s.*$", "", self.text).strip()

    @property
    def is_setup(self) -> bool:
        """Whether it does nothing but install the project or check it."""
        return all(SETUP.match(part.strip()) for part in re.split(r"&&|;", self.bare))

    @property
    def exit_code(self) -> int:
        announced = EXIT_CODE.search(self.text)
        return int(announced[1]) if announced else 0


@dataclass(frozen=True)
class Block:
    """The text between two fences and the number of its first line; `not_run` is the reason, or "" for none."""

    language: str
    text: str
    line: int
    not_run: str = ""
    slow: bool = False

    def commands(self) -> list[Command]:
        """The commands of a bash or console block."""
        lines = self.text.splitlines()
        if self.language == "console":
            return list(console_commands(lines))
        return [command for command in map(Command, joined(lines)) if command.bare]


def blocks(markdown: str) -> list[Block]:
    """The blocks of a text, in order; those in other languages are left out."""
    lines = markdown.splitlines()
    found, start, opening = [], 0, None
    for number, line in enumerate(lines):
        fence = FENCE.match(line)
        if opening is None:
            start, opening = number, fence
        elif fence and fence["fence"].startswith(opening["fence"]) and not fence["language"]:
            if opening["language"] in OTHER_NAMES:
                raise ValueError(f"line {start + 1}: call this language {OTHER_NAMES[opening['language']]}")
            if opening["language"] in LANGUAGES:
                found.append(block(opening["language"], lines, start, number))
            opening = None
    if opening:
        raise ValueError(f"line {start + 1}: this block is never closed")
    return found


def block(language: str, lines: list[str], start: int, end: int) -> Block:
    """The block between the fences on two lines, counted from 0."""
    above = COMMENTS_ABOVE.search("\n".join(lines[:start]) + "\n")
    comments = above[0] if above else ""
    reason = NOT_RUN.search(comments)
    return Block(
        language=language,
        text=textwrap.dedent("\n".join(lines[start + 1 : end]) + "\n"),
        line=start + 2,
        not_run=" ".join(reason[1].split()) if reason else "",
        slow=SLOW.search(comments) is not None,
    )


def joined(lines: list[str]) -> Iterator[str]:
    """Shell lines, with continued lines and here-documents put together."""
    pending = iter(lines)
    for line in pending:
        command = line
        while command.endswith("\\"):
            command += "\n" + next(pending)
        if document := HERE_DOCUMENT.search(command):
            for body in pending:
                command += "\n" + body
                if body.strip() == document[1]:
                    break
        yield command


def console_commands(lines: list[str]) -> Iterator[Command]:
    """What follows each `$ `, continued after `> `, with the lines of output below it."""
    pending, text, output = list(lines), "", []
    for line in [*pending, "$ "]:
        if line.startswith("$ "):
            if text:
                yield Command(text, "\n".join(output))
            text, output = line.removeprefix("$ "), []
        elif text.endswith("\\") and not output:
            text += "\n" + line.removeprefix("> ")
        else:
            output.append(line)
