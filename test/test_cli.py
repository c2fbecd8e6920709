"""The command line's manners: errors in one line, pipes that close, interrupts."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from dkt_ros import cli
from dkt_ros.errors import DktError
from dkt_ros.extras import install


def run_with(monkeypatch: pytest.MonkeyPatch, raised: BaseException | None) -> int:
    """Exit status of `dkt thing` whose work ends with the exception."""

    def work(args: argparse.Namespace) -> int:
        if raised is not None:
            raise raised
        return 1

    parser = argparse.ArgumentParser()
    parser.add_subparsers(dest="command").add_parser("thing").set_defaults(run=work)
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    return cli.main(["thing"])


def test_closed_streams_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert run_with(monkeypatch, None) == 1
    assert run_with(monkeypatch, DktError("a.tar: is missing")) == 2
    assert sys.stderr.writable()


def test_a_mendable_error_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with(monkeypatch, DktError("a.tar: is missing")) == 2
    assert capsys.readouterr().err == "dkt thing: a.tar: is missing\n"


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (OSError(36, "File name too long", "xxx"), "xxx: File name too long"),
        (OSError("no such camera"), "no such camera"),
        (OSError(2, "No such file or directory", "a\nb"), "a b: No such file or directory"),
        (DktError("x\x1b[31m.tar:\r\n  is\n missing"), r"x\x1b[31m.tar: is missing"),
        (MemoryError(), "out of memory; use smaller sizes, or a machine with more"),
    ],
)
def test_what_the_machine_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    said: str,
) -> None:
    assert run_with(monkeypatch, raised) == 2
    assert capsys.readouterr().err == f"dkt thing: {said}\n"


def test_a_missing_module_is_one_line_that_says_what_brings_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with(monkeypatch, ModuleNotFoundError("", name="rosbags.rosbag2")) == 2
    said = capsys.readouterr().err
    assert said == f"dkt thing: rosbags is not installed; {install('data')} brings it\n"
    with pytest.raises(ModuleNotFoundError):
        run_with(monkeypatch, ModuleNotFoundError("", name="of_nobody"))


@pytest.mark.parametrize("command", ["synth render", "synth tabletop", "grasp bench"])
def test_shards_are_told_alike(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*command.split(), "--output", "out", "--scenes", "3", "--shard"]
    assert cli.build_parser().parse_args([*words, "2/4"]).shard == (2, 4)
    assert cli.build_parser().parse_args(words[:-1]).shard == (0, 1)
    for wrong in ("4/4", "1/0", "1", "a/b", "1/2/3"):
        with pytest.raises(SystemExit):
            cli.main([*words, wrong])
        assert f"{wrong!r} is no I/N with 0 <= I < N" in capsys.readouterr().err


def subcommands(
    parser: argparse.ArgumentParser, words: str = "dkt"
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command that does something, by the words that call it."""
    within = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    if not within:
        yield words, parser
    for action in within:
        for name, one in action.choices.items():
            yield from subcommands(one, f"{words} {name}")


def test_help_says_what_everything_is_and_what_holds_without_it() -> None:
    found = dict(subcommands(cli.build_parser()))
    assert {"dkt process", "dkt synth preview", "dkt bag info"} <= set(found)
    for words, parser in found.items():
        assert parser.description, f"{words} does not say what it does"
        formatter = parser._get_formatter()
        for action in parser._actions:
            name = f"{words} {(action.option_strings or [action.dest])[0]}"
            assert action.help, f"{name} does not say what it is"
            text = formatter._expand_help(action)
            default = action.default
            if not isinstance(action, argparse._StoreAction) or default == argparse.SUPPRESS:
                continue
            for value in default if isinstance(default, list | tuple) else [default]:
                if not value:  # none, as goes without saying
                    continue
                told = f"{value:g}" if isinstance(value, float) else str(value)
                assert told in text, f"{name} does not say that it is {told} without"


def test_an_empty_name_is_not_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, parser in subcommands(cli.build_parser()):
        for action in parser._actions:
            assert action.type is not Path, f"{words} {action.dest}: Path makes '' the folder '.'"
    monkeypatch.chdir(tmp_path)
    for words in (
        "process in --output",
        "process in --output out --checkpoint",
        "view",
        "bag info",
    ):
        with pytest.raises(SystemExit):
            cli.main([*words.split(), ""])
        assert "an empty name, expected a path" in capsys.readouterr().err
    assert cli.main(["compare", "", "b"]) == 2
    assert "expected two outputs of `dkt process`, or" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_version_is_the_manifests(repo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    manifest = (repo_root / "package.xml").read_text(encoding="utf-8")
    version = capsys.readouterr().out.removeprefix("dkt_ros ").strip()
    assert f"<version>{version}</version>" in manifest


def test_a_subcommands_status_is_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_with(monkeypatch, None) == 1
    assert run_with(monkeypatch, KeyboardInterrupt()) == 128 + signal.SIGINT

    def interrupted() -> argparse.ArgumentParser:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "build_parser", interrupted)
    assert cli.main(["thing"]) == 128 + signal.SIGINT


def test_an_interrupt_that_c_code_turns_into_another_error_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def swallow() -> argparse.ArgumentParser:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise RuntimeError("Unable to convert call argument '0' to Python object")

    monkeypatch.setattr(cli, "build_parser", swallow)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert cli.main(["thing"]) == 128 + signal.SIGINT
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts what runs behind
        with pytest.raises(RuntimeError, match="convert"):
            cli.main(["thing"])
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_within_a_del_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Loses:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def lose() -> argparse.ArgumentParser:
        Loses()
        time.sleep(10)
        sys.exit("went on")

    monkeypatch.setattr(cli, "build_parser", lose)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    hook = sys.unraisablehook
    try:
        assert cli.main(["thing"]) == 128 + signal.SIGINT
        assert sys.unraisablehook is hook
    finally:
        signal.signal(signal.SIGINT, before)
    assert "Traceback" not in capsys.readouterr().err


def test_a_reader_that_leaves_early_gets_no_traceback() -> None:
    script = (
        "import argparse, sys\n"
        "from dkt_ros import cli\n"
        "parser = argparse.ArgumentParser()\n"
        "def work(args):\n"
        "    for _ in range(100_000): print('a line of output')\n"
        "    return 0\n"
        "parser.add_subparsers(dest='command').add_parser('thing').set_defaults(run=work)\n"
        "cli.build_parser = lambda: parser\n"
        "sys.exit(cli.main(['thing']))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 128 + signal.SIGPIPE


@pytest.mark.parametrize(
    ("work", "redirect", "status", "out", "err"),
    [
        ("print('a line')", ">/dev/full", 2, "", "dkt thing: No space left on device\n"),
        (r"print('a\udcff')", "", 0, "a\\udcff\n", ""),
        ("file = open('file', 'w'); os.write(1, b'x'); os.system('echo x')", ">&-", 0, "", ""),
    ],
)
def test_output_that_does_not_fit_where_it_goes(
    work: str, redirect: str, status: int, out: str, err: str, tmp_path: Path
) -> None:
    """A full disk, names of bytes that are no text, a stream that is closed."""
    script = (
        "import argparse, os, sys\n"
        "from dkt_ros import cli\n"
        "parser = argparse.ArgumentParser()\n"
        f"def work(args):\n    {work}\n    return 0\n"
        "parser.add_subparsers(dest='command').add_parser('thing').set_defaults(run=work)\n"
        "cli.build_parser = lambda: parser\n"
        "sys.exit(cli.main(['thing']))\n"
    )
    ran = subprocess.run(
        ["bash", "-c", f'exec "$0" -c "$1" {redirect}', sys.executable, script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": ""},
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (status, out, err)
    assert not any(file.stat().st_size for file in tmp_path.iterdir())


@pytest.mark.parametrize("text", ["nan", "inf", "x", ""])
def test_numbers_are_finite(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["process", "bag", "--output", "out", "--max-depth", text])
    assert f"argument --max-depth: {text!r} is no finite number" in capsys.readouterr().err


def test_no_option_takes_what_is_no_number() -> None:
    """But where infinity means none (--max-gap), and where both limits are named at once."""

    def options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
        for action in parser._actions:
            yield action
            if isinstance(action, argparse._SubParsersAction):
                for name in action.choices.values():
                    yield from options(name)

    plain = [
        action.option_strings for action in options(cli.build_parser()) if action.type is float
    ]
    assert {*map(tuple, plain)} == {("--max-gap",), ("--range",)}


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("~/out", "/a/house/out"),
        ("--output=~/out", "/a/house/out"),
        ("--output=~", "/a/house"),
        ("--output=NAME=~/out", "NAME=/a/house/out"),
        ("--output=./~/out", "./~/out"),
        ("a=~b", "a=~b"),
        ("a/b=~/c", "a/b=~/c"),
    ],
)
def test_home_is_known_where_shells_leave_it(
    monkeypatch: pytest.MonkeyPatch, given: str, meant: str
) -> None:
    seen: list[str] = []
    parser = argparse.ArgumentParser()
    thing = parser.add_subparsers(dest="command").add_parser("thing")
    thing.add_argument("--output", type=seen.append)
    thing.add_argument("paths", nargs="*", type=seen.append)
    thing.set_defaults(run=lambda args: 0)
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    monkeypatch.setenv("HOME", "/a/house")
    assert cli.main(["thing", given]) == 0
    assert seen == [meant]
