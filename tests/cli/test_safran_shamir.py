"""critpoints safran-shamir: one table, certificates as files, resumption, and what it refuses."""

import json
from pathlib import Path

import pytest

from critpoints.study import spurious_minima
from critpoints_cli.interruption import Interrupted


def test_the_table_and_the_files(run, empty: Path) -> None:
    finished = run("safran-shamir", "--k", "2,3", "--starts", 6, "--out", "proofs", "--quiet")
    assert finished.code == 0
    assert "k = 2: not global" in finished.out and "k = 3: not global" in finished.out
    assert "100.0 %" in finished.out and "yes" in finished.out
    files = sorted(path.name for path in (empty / "proofs").iterdir())
    assert files == ["k-02-orbit-00.json", "k-02.summary", "k-03-orbit-00.json", "k-03.summary"]
    certificate = json.loads((empty / "proofs/k-03-orbit-00.json").read_text())
    assert certificate["format"] == "critpoints certificate" and certificate["kind"] == "global_minimum"
    assert run("verify", "proofs").code == 0


def test_the_document_repeats_the_files_and_a_second_run_reads_them(run, empty: Path) -> None:
    arguments = ("safran-shamir", "--k", 2, "--starts", 4, "--seed", 3, "--json")
    first, second = run(*arguments).document, run(*arguments)
    assert second.document == first and "already" not in second.out
    (minima,) = first["minima"]
    assert (minima["k"], minima["starts"], minima["seed"], minima["unresolved"]) == (2, 4, 3, 0)
    assert minima["orbits"][0]["proof"]["loss_lower"].startswith("-")
    clash = run("safran-shamir", "--k", 2, "--starts", 5)
    assert clash.code == 3 and "give another --out" in clash.error


def test_an_interruption_says_what_is_stored_and_how_to_resume(run, empty: Path, monkeypatch) -> None:
    usual = spurious_minima.run

    def interrupt_at_three(k, *arguments, **options):
        if k == 3:
            raise Interrupted(130)  # type: ignore[arg-type]
        return usual(k, *arguments, **options)

    monkeypatch.setattr(spurious_minima, "run", interrupt_at_three)
    finished = run("safran-shamir", "--k", "2-3", "--starts", 2)
    assert finished.code == 130
    assert "interrupted after 1 of 2 values of k" in finished.err
    assert "resume with: critpoints safran-shamir --k 2-3 --starts 2" in finished.err
    assert (empty / "critpoints-safran-shamir/k-02.summary").exists()


def test_an_orbit_without_a_proof_ends_with_a_failed_check(run, empty: Path, monkeypatch) -> None:
    from critpoints.errors import NotCertified

    def refuse(problem, theta):
        raise NotCertified("the Hessian is not proven positive definite")

    monkeypatch.setattr(spurious_minima, "certify_gaussian_relu", refuse)
    finished = run("safran-shamir", "--k", 2, "--starts", 2)
    assert finished.code == 1
    assert "not certified: the Hessian is not proven positive definite" in finished.out


@pytest.mark.parametrize("options", [("--k", "1"), ("--k", "six"), ("--starts", "0"), ("--seed", "-1")])
def test_unusable_options_are_usage_errors(run, empty: Path, options: tuple[str, str]) -> None:
    assert run("safran-shamir", *options).code == 2
    assert not list(empty.iterdir())
