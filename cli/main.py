"""critpoints: the command, its groups of options, and what becomes of its errors."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from critpoints import __version__
from critpoints.errors import CritpointsError

from .census import census
from .certify import certify
from .classify import classify
from .descents import descents
from .doctor import doctor
from .escape import escape
from .exit_codes import ExitCode, exit_code
from .explain import explain
from .export import export
from .follow import follow
from .html_report import html_report
from .interruption import Interrupted, interruptible
from .landscape import landscape
from .output import say
from .parents import parents
from .saddle_line import saddle_line
from .saddles import saddles
from .safran_shamir import safran_shamir
from .show import show
from .spectrum import spectrum
from .study import study
from .verify import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="critpoints")
def cli() -> None:
    """Find, refine and classify critical points of neural-network losses.

    Exit codes: 0 done, 1 a claim failed or a check said no, 2 usage, 3 bad data or a study with another
    specification, 4 store or input/output, 5 incomplete, 130 and 143 interrupted.
    """


COMMANDS = (
    classify,
    study,
    show,
    census,
    certify,
    explain,
    follow,
    saddle_line,
    saddles,
    parents,
    descents,
    escape,
    export,
    html_report,
    safran_shamir,
    verify,
    spectrum,
    landscape,
    doctor,
)
for command in COMMANDS:
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with interruptible():
        try:
            return int(cli.main(arguments, prog_name="critpoints", standalone_mode=False, obj=arguments) or 0)
        except Interrupted as interruption:
            return interruption.exit_code
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            return ExitCode.USAGE
        except click.ClickException as error:
            say(f"error: {_one_line(error.format_message())}")
            return ExitCode.USAGE
        except (CritpointsError, OSError) as error:
            say(f"error: {_one_line(_message(error))}")
            return exit_code(error)


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _one_line(text: str) -> str:
    return " ".join(text.split())
