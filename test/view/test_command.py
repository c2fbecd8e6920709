"""Where `dkt view` shows things, as far as that is known before rerun is asked."""

from __future__ import annotations

import socket

import pytest

from dkt_ros.cli import main
from dkt_ros.view import command


@pytest.mark.parametrize(
    "url",
    [
        "recording",
        "http://127.0.0.1:9876/proxy",
        "rerun+http://127.0.0.1:9876",
        "rerun://[::1/proxy",
    ],
)
def test_what_is_no_viewers_url_is_told(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", "--connect", url]) == 2
    said = capsys.readouterr().err
    assert f"--connect {url}: expected a URL like rerun+http://" in said
    assert "IN stands before" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scene", "--save", "a.rrd", "--connect"], "--save and --connect: give one of them"),
        (["scene", "--save", "scene.mcap"], "output scene.mcap does not end in .rrd"),
        (
            ["scene", "--namespace", "left"],
            "--namespace: of live topics; expected no IN (it is scene",
        ),
        (["scene", "--duration", "3"], "--duration: of live topics; expected no IN (it is scene"),
        (["--max-frames", "3"], "--max-frames: of recordings; expected IN, or --duration"),
        (["--duration", "0"], "--duration 0: expected seconds above 0"),
    ],
)
def test_where_nothing_can_be_shown_is_told_before_anything_is_read(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["view", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_viewer_that_does_not_answer_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Rerun drops what it cannot send, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as viewer:
        url = f"rerun+http://127.0.0.1:{viewer.getsockname()[1]}/proxy"
        command._check_viewer(url)
    assert main(["view", "recording", "--connect", url]) == 2
    assert (
        f"--connect {url}: no viewer answers there (Connection refused)" in capsys.readouterr().err
    )
