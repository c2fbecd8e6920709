"""What progress looks like in a log and on a terminal."""

from __future__ import annotations

import io

import pytest

from dkt_ros.progress import StageProgress, progress_bar


def test_a_log_gets_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(4, "frame", mininterval=0.0) as bar:
        bar.update(3)
        bar.write("something stays")
        bar.set_postfix_str("clip 2/2", refresh=False)
        bar.update()
    out, err = capsys.readouterr()
    assert out == "something stays\n"
    lines = err.splitlines()
    assert lines[-1].startswith("4/4 frames, 00:00 spent, 00:00 left, ")
    assert lines[-1].endswith("frame/s, clip 2/2")
    assert "\r" not in err


def test_a_log_is_quiet_until_there_is_something_to_tell(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress_bar(4, "frame") as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_that_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    with progress_bar(4, "frame") as bar:
        bar.update(3)
    assert "0/4" in screen.getvalue()
    assert screen.getvalue().endswith("\r")
    assert "\n" not in screen.getvalue()


def test_each_stage_leaves_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    progress = StageProgress()
    for stage in ("encode", "decode"):
        for done in range(3):
            progress(stage, done, 2)
    progress.end()
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" steps")[0] for line in lines if "2/2" in line] == [
        "encode: 2/2",
        "decode: 2/2",
    ]
