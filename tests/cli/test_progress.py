import io
import sys

import pytest

from critpoints_cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_with_rate_and_remaining_time_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("TERM", "xterm")
    with Progress(quiet=False) as progress:
        progress.update(10, 100, "width 5, seeds 0-99: training")
        progress.update(20, 100, "width 5, seeds 0-99: training")
        assert progress.bar is not None
        progress.bar.refresh()
    shown = terminal.getvalue()
    assert "20/100 points" in shown and "/min" in shown and "left:" in shown and "training" in shown


def test_no_bar_when_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(quiet=True) as progress:
        progress.update(0, 2, "")
        progress.update(2, 2, "")
    assert terminal.getvalue().startswith("critpoints: 2 of 2 points to compute\ncritpoints: 2 points in ")


def test_no_end_is_told_of_a_run_that_failed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError), Progress(quiet=False) as progress:
        progress.update(0, 2, "")
        raise ValueError
    assert capsys.readouterr().err == "critpoints: 2 of 2 points to compute\n"
