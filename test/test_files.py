"""Files and folders that are whole or absent, on full disks and beside other processes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from dkt_ros.cli import main
from dkt_ros.errors import DktError
from dkt_ros.files import (
    BusyError,
    StorageError,
    check_writable,
    code_digest,
    files_below,
    natural_order,
    only_process,
    sha256,
    shown,
    whole_file,
    whole_folder,
    write_whole,
)


def test_a_file_appears_when_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with whole_file(path) as stream:
        stream.write(b"half")
        assert not path.exists()
    assert path.read_bytes() == b"half"
    write_whole(path, "whole")
    assert path.read_text() == "whole"
    assert os.listdir(path.parent) == ["file.txt"]


def test_what_was_there_stays_where_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, "old")
    with pytest.raises(TypeError), whole_file(path) as stream:
        print("no bytes", file=stream)  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_nothing_of_what_a_kill_left_half_written_is_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "file.partial").write_bytes(b"longer than the new one")
    write_whole(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_all_of_it_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, replace = os.fsync, os.replace
    synced: dict[Path, int] = {}

    def remembered(handle: int) -> None:
        fsync(handle)
        synced[Path(f"/proc/self/fd/{handle}").readlink()] = os.fstat(handle).st_size

    def checked(source: Path, target: Path) -> None:
        for path in (source, *source.rglob("*")):
            assert synced.pop(path) == path.stat().st_size > 0
        replace(source, target)
        if target.is_file():
            source.write_bytes(b"another process's, which writes the same file next")

    monkeypatch.setattr(os, "fsync", remembered)
    monkeypatch.setattr(os, "replace", checked)
    with whole_file(tmp_path / "file") as stream:
        stream.write(b"small enough to wait in a buffer")
    assert sorted(os.listdir(tmp_path)) == ["file", "file.partial"], "what is another's stays"
    with whole_folder(tmp_path / "folder") as fresh:
        (fresh / "below").mkdir()
        (fresh / "below" / "a").write_bytes(b"content")
    assert tmp_path in synced, "the folder's new name is there after a power cut too"


def test_a_full_disk_is_named_with_what_to_do(tmp_path: Path) -> None:
    with (
        open("/dev/full", "wb", buffering=0) as full,
        pytest.raises(StorageError, match=r"file: the disk is full \(.*\); go shopping$"),
        whole_file(tmp_path / "file", "go shopping"),
    ):
        full.write(b"no room")
    with (
        open("/dev/full", "wb", buffering=0) as full,
        pytest.raises(StorageError, match=r"file: the disk is full \(\d+ requested and \d+ writ"),
        whole_file(tmp_path / "file"),
    ):
        np.zeros(100_000).tofile(full)  # as np.save does; the error has no number
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").touch()
    with pytest.raises(DktError, match="cannot be written"):
        write_whole(tmp_path / "file" / "below", "")


def test_a_file_that_may_not_be_so_large_is_told_as_that(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(StorageError, match=r"no file may be larger there, as on FAT"):
            write_whole(tmp_path / "file", bytes(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == []


def test_a_file_in_a_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    for path in (tmp_path / "out" / "a.tar", tmp_path / "out" / "below" / "a.tar"):
        with pytest.raises(StorageError, match=f"a.tar: cannot be written: {tmp_path}/out is a f"):
            write_whole(path, "x")


@pytest.mark.parametrize("name", [".", "/", ".."])
def test_a_folder_without_a_name_is_no_file(name: str) -> None:
    with pytest.raises(StorageError, match=r"cannot be written \(Is a directory\)"):
        write_whole(Path(name), "x")


def test_a_file_that_another_writes_is_left_to_it(tmp_path: Path) -> None:
    with whole_file(tmp_path / "file") as stream:
        stream.write(b"first")
        with pytest.raises(BusyError, match="being written by another process"):
            write_whole(tmp_path / "file", "second")
    assert (tmp_path / "file").read_bytes() == b"first"


def test_a_lock_that_is_freed_in_a_moment_is_waited_for(tmp_path: Path) -> None:
    with ExitStack() as held:
        held.enter_context(only_process(tmp_path / "lock", ""))
        os.link(tmp_path / "lock", tmp_path / "kept")  # as a kill leaves it: there, free soon
        timer = threading.Timer(0.1, held.close)
        timer.start()
        with only_process(tmp_path / "kept", "is held"):
            pass
        timer.join()


def test_a_folder_is_replaced_by_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for name in ("a", "b"):
        with whole_folder(path) as fresh:
            (fresh / "below").mkdir()
            (fresh / "below" / name).write_text(name)
        assert [p.name for p in path.rglob("*")] == ["below", name]
    with pytest.raises(FileNotFoundError), whole_folder(path) as fresh:
        (fresh / "c" / "d").touch()
    assert os.listdir(tmp_path) == ["folder"]
    assert os.listdir(path) == ["below"]


def test_a_lock_is_held_until_its_process_is_gone(tmp_path: Path, repo_root: Path) -> None:
    path = tmp_path / "lock"
    program = (
        "import sys, pathlib, dkt_ros.files as f\n"
        "with f.only_process(pathlib.Path(sys.argv[1]), ''): print(flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        cwd=repo_root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == b"\n"
        with pytest.raises(BusyError, match="works here"), only_process(path, "works here"):
            pass
    finally:
        other.kill()
        other.communicate()
    with only_process(path, ""):
        pass


def test_what_cannot_be_written_is_found_out_before_it_is_made(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    check_writable(path)
    assert os.listdir(path.parent) == []
    write_whole(path, "as it was")
    check_writable(path)
    assert path.read_text() == "as it was"
    assert os.listdir(path.parent) == ["file"]
    with pytest.raises(StorageError, match="cannot be written"):
        check_writable(path / "below")
    with pytest.raises(StorageError, match=r"folder: cannot be written \(Is a directory\)"):
        check_writable(path.parent)
    with whole_file(path), pytest.raises(BusyError):
        check_writable(path)


def test_a_file_of_another_kind_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_writable(tmp_path / "page.HTML", ".html")
    recording = tmp_path / "scene.tar"
    recording.write_text("as it was")
    for words, ending in (
        (["eval", "--data", str(tmp_path), "--output"], ".json"),
        (["report", str(tmp_path), "--output"], ".html"),
        (["view", str(tmp_path), "--save"], ".rrd"),
    ):
        assert main([*words, str(recording)]) == 2
        assert f"output {recording} does not end in {ending}" in capsys.readouterr().err
    assert recording.read_text() == "as it was"


CODE = """def near(depths, limit=1.0):
    return [d for d in depths if d in {"a", "b"} or d < limit]
"""


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (CODE, True),
        ('"""Of depths."""\n# near\n\n' + CODE.replace("\n ", '\n    """Those."""\n ', 1), True),
        (CODE.replace("return [", "return [\n        ").replace(" or d", "  or  d"), True),
        (CODE.replace("1.0", "2.0"), False),
        (CODE.replace("<", "<="), False),
        (CODE.replace('"b"', '"c"'), False),
        (CODE.replace("limit", "most"), False),
        (CODE.replace("def near", "def close"), False),
        (CODE.replace(":\n", ":\n    print(f'#{limit}')\n", 1), False),
        ("def near(", False),
    ],
)
def test_a_modules_digest_is_of_what_it_computes(tmp_path: Path, text: str, same: bool) -> None:
    (tmp_path / "one.py").write_text(CODE)
    (tmp_path / "other.py").write_text(text)
    assert (code_digest(tmp_path / "one.py") == code_digest(tmp_path / "other.py")) is same


def test_a_modules_digest_is_the_same_in_every_process(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(CODE)
    ask = "import sys, pathlib, dkt_ros.files as f; print(f.code_digest(pathlib.Path(sys.argv[1])))"
    found = {
        subprocess.run(
            [sys.executable, "-c", ask, str(tmp_path / "one.py")],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in "123"
    }
    assert len(found) == 1


def test_the_digest_is_sha256(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"abc")
    assert sha256(tmp_path / "file").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_numbers_count_as_numbers() -> None:
    names = ["scene10", "scene2", "a", "10", "9", "scene2b"]
    assert sorted(names, key=natural_order) == ["9", "10", "a", "scene2", "scene2b", "scene10"]
    times = ["9.png", "1700000000.123456.png", "1700000000.1234567.png", "1700000000.5.png"]
    assert sorted(set(times), key=natural_order) == times
    assert sorted(["v1.10", "v1.9"], key=natural_order) == ["v1.9", "v1.10"]
    assert natural_order("1") != natural_order("01")  # a set of both has an order too


def test_what_is_hidden_is_not_shown(tmp_path: Path) -> None:
    for name in ("a/b.obj", "a/._b.obj", ".cache/b.obj", "c.OBJ", ".DS_Store"):
        write_whole(tmp_path / name, "")
    assert files_below(tmp_path, (".obj",)) == [tmp_path / "a/b.obj", tmp_path / "c.OBJ"]
    assert {path.name for path in shown(tmp_path)} == {"a", "c.OBJ"}
    assert shown(tmp_path / "a", "../*.OBJ") == [tmp_path / "a/../c.OBJ"]
    assert len(shown(tmp_path / ".cache")) == 1, "who names it means it"


def test_what_systems_leave_behind_is_passed_over(tmp_path: Path) -> None:
    for name in ("a.obj", "._a.obj", "b/c.OBJ", "b/.hidden/d.obj", "__MACOSX/e.obj", "f.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert files_below(tmp_path, (".obj",)) == [tmp_path / "a.obj", tmp_path / "b/c.OBJ"]
