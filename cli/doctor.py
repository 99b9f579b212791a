"""critpoints doctor: what is installed, and whether its numerics are right on this machine."""

from __future__ import annotations

import click

from . import options
from .exit_codes import ExitCode
from .output import number, print_json, print_table


@click.command(short_help="Check this installation.")
@options.threads
@options.as_json
def doctor(as_json: bool) -> ExitCode:
    """Print versions, threads, processor and GPU, and run a quick self-test; ends with 1 if it fails."""
    from critpoints.study.environment import cpu_model, gpu, threads, versions
    from critpoints.study.selftest import run_checks

    found = {"versions": versions(), "cpu": cpu_model(), "threads": threads(), "gpu": gpu()}
    checks = run_checks()
    ok = all(check.ok for check in checks)
    if as_json:
        print_json({**found, "checks": [{**check.__dict__, "ok": check.ok} for check in checks], "ok": ok})
    else:
        _print_tables(
            found, [(c.name, number(c.error), number(c.tolerance), "ok" if c.ok else "FAILED") for c in checks]
        )
    return ExitCode.DONE if ok else ExitCode.FAILED


def _print_tables(found: dict, checks: list[tuple[str, ...]]) -> None:
    rows = [*found["versions"].items(), ("processor", found["cpu"]), ("GPU", found["gpu"] or "none")]
    rows += [(f"threads, {name}", str(count)) for name, count in found["threads"].items()]
    print_table("installation", ("what", "which"), rows, texts=(0, 1))
    print_table("self-test", ("check", "error", "tolerance", "result"), checks, texts=(0, 3))
