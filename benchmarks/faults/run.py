"""A camera cell's faults, each played to a real node over DDS: what it says, and how it recovers.

The demo's recording is shown to `dkt_node` (dkt-nano, a process of its own) by a camera in this
process; a fault is played, and then the recording again. Of each situation is kept what diagnostics
said of it and after how long, the states of the depth that went out meanwhile, how wrong the depth
was that was called OK, and how long the next right depth took. Of every situation alike is asked

- that the process lives;
- that every depth image has the stamp of a picture of that moment, and dkt/color under it is that
  picture: nothing old goes out under a new stamp;
- that depth called OK is within 3% of the truth in the median, from when the fault was told on.

    python benchmarks/faults/run.py                        # all, some 25 minutes
    python benchmarks/faults/run.py "black|frozen"         # those whose name has it
    python benchmarks/faults/run.py --table                # docs/faults.md from what was measured

Results are kept by name in benchmarks/results/faults.json; with `--results` in another file, and
docs/faults.md stays as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]
PROFILE = str(ROOT / "config" / "fastdds.xml")
# Before ROS reads them; a domain of its own keeps robots out of it.
os.environ.setdefault("FASTDDS_DEFAULT_PROFILES_FILE", PROFILE)
os.environ.setdefault("ROS_STATIC_PEERS", "127.0.0.1")
os.environ.setdefault("ROS_DOMAIN_ID", str(101 + os.getpid() % 100))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from sensor_msgs.msg import CompressedImage  # noqa: E402

from benchmarks.faults.cell import (  # noqa: E402
    FRAMES,
    RAW,
    START_S,
    Cell,
    Messages,
    NodeProcess,
    Seen,
    calibration,
    is_calm,
    judge,
    merged,
    recovers,
    running,
    stamped,
    turn,
)
from benchmarks.faults.situations import Make, Situation, situations  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "faults.json"
PAGE = ROOT / "docs" / "faults.md"
TOLD_S, ENOUGH_S = 60.0, 40.0
ENOUGH, JUDGED = 3, 8
"""Depth images after which a situation has been seen; of wrong pictures, before silence is a fault.
"""


def plain(message: str) -> str:
    """Without numbers."""
    return re.sub(r"[\d.]+", "", message)


def try_one(cell: Cell, node: NodeProcess, one: Situation) -> dict[str, Any]:
    """Plays one situation and what follows it."""
    seen = Seen()
    # What is still said of the situation before is nothing new.
    old = {plain(message) for _, _, _, message in cell.look().statuses}
    said: list[tuple[float, str]] = []
    began = time.monotonic()

    def told() -> bool:
        new = cell.look()
        merged(seen, new)
        for when, name, level, message in new.statuses:
            fits = one.told and level != "OK" and re.search(one.told, message)
            if fits and plain(message) not in old:
                said.append((when, f"{name.rpartition(': ')[2]}: {message}"))
        if one.told:  # and long enough for it to show in the depth
            done = bool(said) and time.monotonic() - said[0][0] > 2.0
            return done and (len(seen.depth) >= ENOUGH or not one.works)
        return len(seen.depth) >= ENOUGH and time.monotonic() - began > 5.0

    around = one.around(cell) if one.around else nullcontext()
    with around:
        began = time.monotonic()
        seconds = TOLD_S if one.told else ENOUGH_S
        cell.play(one.make(cell), seconds, told)
    told()
    told_at = said[0][0] if said else None
    found = judge(cell, seen, told_at)
    right = found["states"].get("OK", 0) + found["states"].get("HELD", 0)
    recovered = recovers(cell)
    found |= {
        "name": one.name,
        "must": one.must,
        "said": said[0][1] if said else "",
        "told_s": None if told_at is None else round(told_at - began, 1),
        "recovered_s": None if recovered is None else round(recovered, 1),
        "calm": is_calm(cell),
        "lives": node.lives,
        "blind": one.blind,
    }
    faults = []
    if not node.lives:
        faults.append("the process ended")
    came = len(seen.depth)
    if one.told and not said and (not came or came >= JUDGED):
        faults.append("was not told")
        found["instead"] = sorted({plain(m) for _, _, level, m in seen.statuses if level != "OK"})
    elif one.told and not said:
        faults.append(f"not judged: {came} depth images in {TOLD_S:g} s, {JUDGED} are needed")
    if found["unknown_stamps"] or found["mixed_pictures"]:
        faults.append("a stamp or picture of another moment")
    if found["wrong_ok_after_told"] or (found["wrong_ok"] and not one.told and not one.blind):
        faults.append("wrong depth called OK")
    if one.works and not right:
        faults.append("no depth")
    if recovered is None:
        faults.append("did not recover")
    return found | {"faults": faults}


def life(name: str, must: str, faults: list[str], said: str = "", **more: Any) -> dict[str, Any]:
    """A row of its own kind."""
    return {"name": name, "must": must, "said": said, "faults": faults, "states": {}} | more


def other_lives(cell: Cell, wanted: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    """Starts, ends and configurations: each a process of its own."""

    def wait_for(pattern: str, node: NodeProcess, timeout_s: float = START_S) -> str:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and node.lives:
            for _, _, level, message in cell.look().statuses:
                if level != "OK" and re.search(pattern, message):
                    return str(message)
            time.sleep(0.05)
        return ""

    if wanted(name := "SIGKILL and a new start"):
        with running() as node:
            recovers(cell, START_S)
            node.process.kill()
            node.process.wait()
        with running():
            took = recovers(cell, START_S)
        faults = [] if took is not None else ["did not recover"]
        yield life(name, "depth again", faults, recovered_s=took and round(took, 1))
    for seconds in (0.3, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0):
        if wanted(name := f"SIGINT {seconds:g} s after the start"):
            with running() as node:
                cell.play(cell.healthy, seconds)
                took = node.end()
                code = node.process.returncode
                node.log.seek(0)
                trace = "Traceback" in node.log.read()
            faults = ["took longer than 2 s"] * (took > 2.0)
            faults += ["a traceback"] * (trace and code not in (130, 1, -2))
            yield life(name, "end within 2 s", faults, f"status {code}", told_s=round(took, 1))
    if wanted(name := "checkpoint missing"):
        with running(checkpoint="/nowhere") as node:
            said = wait_for("/nowhere", node)
            faults = [] if said and node.lives else ["was not told"]
            yield life(name, "say so and stay, unconfigured", faults, said)
    if wanted(name := "use_sim_time without a clock"):
        with running(use_sim_time=True) as node:
            said = wait_for("/clock", node)
            yield life(name, "say so", [] if said else ["was not told"], said)
    if wanted(name := "a transition at every moment, camera playing"):
        yield transitions(cell, name)
    compressed = {"color_transport": "compressed", "depth_transport": "compressedDepth"}
    if wanted("compressed"):
        cell.open(
            color=(CompressedImage, "color/image/compressed"),
            depth=(CompressedImage, "depth/image/compressedDepth"),
        )
        with running(**compressed) as node:
            yield from compressed_faults(cell, node)
        cell.open()


def transitions(cell: Cell, name: str) -> dict[str, Any]:
    """Valid and invalid transitions in a row, asked for by service."""
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState, GetState

    chance = np.random.default_rng(3)
    with running() as node:
        recovers(cell, START_S)
        change = cell.node.create_client(ChangeState, "/dkt_node/change_state")
        get = cell.node.create_client(GetState, "/dkt_node/get_state")
        answered, longest = 0, 0.0
        for label in chance.choice(["configure", "activate", "deactivate", "cleanup"], 40):
            future = change.call_async(ChangeState.Request(transition=Transition(label=str(label))))
            began = time.monotonic()
            question = get.call_async(GetState.Request())
            cell.play(cell.healthy, 10.0, question.done)
            longest = max(longest, time.monotonic() - began)
            cell.play(cell.healthy, 30.0, future.done)
            answered += future.done()
        for label in ("deactivate", "configure", "activate"):
            future = change.call_async(ChangeState.Request(transition=Transition(label=label)))
            cell.play(cell.healthy, 30.0, future.done)
        took = recovers(cell, START_S)
        faults = ["a transition was not answered"] * (answered < 40)
        faults += ["did not recover"] * (took is None) + ["the process ended"] * (not node.lives)
        faults += ["get_state waited for longer than 2 s"] * (longest > 2.0)
        said = f"{answered} of 40 answered, get_state within {longest:.1f} s meanwhile"
        recovered_s = took and round(took, 1)
        return life(name, "answer all, and work afterwards", faults, said, recovered_s=recovered_s)


def compressed_faults(cell: Cell, node: NodeProcess) -> Iterator[dict[str, Any]]:
    """JPEG and compressedDepth, damaged."""
    from dkt_ros.formats import rvl

    chance = np.random.default_rng(11)

    def packed(
        change: Callable[[bytes], bytes], deep: Callable[[np.ndarray], tuple[str, bytes]]
    ) -> Make:
        def make(number: int, stamp_ns: int) -> Messages:
            index = turn(number)
            frame = FRAMES[index]
            jpeg = change(cv2.imencode(".jpg", frame.rgb[..., ::-1])[1].tobytes())
            decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
            shown = frame.rgb if decoded is None else decoded[..., ::-1]
            color = CompressedImage(format="rgb8; jpeg compressed bgr8")
            color.data = array("B", jpeg)
            depth = CompressedImage()
            depth.format, data = deep(RAW[index])
            depth.data = array("B", bytes(12) + data)
            cell.note(stamp_ns, index, shown)
            return [
                ("info", calibration(stamp_ns)),
                ("color", stamped(color, stamp_ns)),
                ("depth", stamped(depth, stamp_ns)),
            ]

        return lambda cell: make

    def png(raw: np.ndarray) -> tuple[str, bytes]:
        return "16UC1; compressedDepth png", cv2.imencode(".png", raw)[1].tobytes()

    def whole(data: bytes) -> bytes:
        return data

    def flipped(data: bytes) -> bytes:
        bytes_ = bytearray(data)
        for at in chance.integers(700, len(bytes_) - 2, 5):
            bytes_[at] ^= 1 << chance.integers(0, 8)
        return bytes(bytes_)

    def bomb(raw: np.ndarray) -> tuple[str, bytes]:
        code = bytearray(png(raw)[1])
        code[16:24] = (60000).to_bytes(4, "big") * 2
        return "16UC1; compressedDepth png", bytes(code)

    healthy = cell.healthy
    good = packed(whole, png)
    cell.healthy = good(cell)  # type: ignore[method-assign, assignment]
    recovers(cell, START_S)
    try:
        for one in (
            Situation("compressed: JPEG and PNG", "right depth", good, works=True),
            Situation(
                "compressed: RVL depth",
                "right depth",
                packed(whole, lambda raw: ("16UC1; compressedDepth rvl", rvl.encode(raw))),
                works=True,
            ),
            Situation(
                "compressed: JPEG cut in half",
                "nothing; say so",
                packed(lambda data: data[: len(data) // 2], png),
                "cut short or damaged",
            ),
            Situation(
                "compressed: PNG that says 60000x60000",
                "nothing; say so, take no memory",
                packed(whole, bomb),
                "60000x60000",
            ),
            Situation(
                "compressed: RVL cut short",
                "nothing; say so",
                packed(whole, lambda raw: ("16UC1; compressedDepth rvl", rvl.encode(raw)[:5000])),
                "cut short",
            ),
            Situation(
                "compressed: bits flipped in the JPEG",
                "whatever decodes is used",
                packed(flipped, png),
                blind="a reliable subscription (qos_overrides)",
            ),
        ):
            yield try_one(cell, node, one)
    finally:
        cell.healthy = healthy  # type: ignore[method-assign]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("only", nargs="?", default="", help="pattern of names")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="every N-th alone, from I")
    parser.add_argument("--results", type=Path, default=RESULTS, help="kept by name in this file")
    parser.add_argument("--table", action="store_true", help="write docs/faults.md alone")
    options = parser.parse_args()
    results = json.loads(options.results.read_text()) if options.results.exists() else {}

    def wanted(name: str) -> bool:
        return re.search(options.only, name) is not None

    def keep(row: dict[str, Any]) -> None:
        results[row["name"]] = row
        options.results.write_text(json.dumps(results, indent=1) + "\n")
        print(f"{row['name']}: {'; '.join(row['faults']) or 'as it must'}", row, flush=True)

    if not options.table:
        cell = Cell()
        part, parts = (int(word) for word in options.part.split("/"))
        chosen = [one for one in situations() if wanted(one.name)][part - 1 :: parts]
        if chosen:
            with running() as node:
                print("first depth after", recovers(cell, START_S), "s", flush=True)
                for one in chosen:
                    keep(try_one(cell, node, one))
        for row in other_lives(cell, wanted):
            keep(row)
        cell.close()
    order = [one.name for one in situations()]
    names = sorted(results, key=lambda name: order.index(name) if name in order else len(order))
    page = table([results[name] for name in names])
    if options.results == RESULTS:
        PAGE.write_text(page)
    else:  # a trial's, which says nothing of all the others
        print(page)
    bad = [row["name"] for row in results.values() if row["faults"]]
    print(f"{len(results) - len(bad)} of {len(results)} as they must; else: {bad}")


HEAD = """# Faults, and what the node does

What `dkt_node` says and publishes when its input, its neighbours or its start are wrong. To look up
a message that you have seen, use [Troubleshooting](troubleshooting.md); this page is what was
measured, by `benchmarks/faults/run.py`. Each fault is played to the node (dkt-nano on a CPU, the
demo's recording at half its size and 6 Hz) over DDS, then the healthy camera again.

- *Expected*: what the node has to do. In all situations alike: the process lives, no depth has the
  stamp of another moment, and `dkt/color` is the very picture of its stamp.
- *Message*: the first on /diagnostics that fits; *after*: how many seconds later it came.
- *States*: how many depth images went out meanwhile, by [state](depth.md#how-far-to-trust-it).
- *Worst OK*: median of depth over truth of the worst frame that was called OK (1 is right; empty
  where there was none, or no truth holds for the pictures).
- *Right again*: how many seconds the next right depth took once the fault was over.

Seconds are upper bounds: this was measured on two CPU cores beside other work.
"""

COLUMNS = (
    *("situation", "expected", "message", "after, s", "states", "worst OK", "right again, s"),
    "",
)

SECTIONS = {
    "healthy": "Stream, clocks and stamps",
    "colour cut short": "Messages that are wrong",
    "K of zeros": "Calibration and frames",
    "black (lens cap)": "Pictures that show nothing",
    "colour frozen, camera moves": "Colour and depth that do not belong together",
    "metres in 16UC1": "Wrong units, and depth that is something else",
    "depth's topic has compressed images": "Other nodes and readers",
    "SIGKILL and a new start": "Start and end",
    "compressed: JPEG and PNG": "Compressed images",
}
"""Headings, each before the first situation of its section."""


def table(rows: list[dict[str, Any]]) -> str:
    """The page."""

    def cell(value: Any) -> str:
        return "" if value is None else str(value).replace("|", "/")

    page = HEAD
    blind = [(row["name"], row["blind"]) for row in rows if row.get("blind")]
    if blind:
        page += "\n## What the node cannot notice\n\n| situation | what to do |\n|---|---|\n"
        page += "".join(f"| {cell(name)} | {cell(remedy)} |\n" for name, remedy in blind)
    for number, row in enumerate(rows):
        if not number or row["name"] in SECTIONS:
            page += f"\n## {SECTIONS.get(row['name'], 'Situations')}\n\n"
            page += f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"
        states = ", ".join(f"{count} {name}" for name, count in row["states"].items())
        ratio = row.get("worst_ok")
        verdict = "; ".join(row["faults"]) or "ok"
        if row.get("blind"):
            verdict += "; cannot be noticed"
        if row.get("wrong_ok") and not row["faults"]:
            verdict += f"; {row['wrong_ok']} frames called OK before the message"
        values = (
            row["name"], row["must"], row["said"][:230], row.get("told_s"), states,
            None if ratio is None else f"{ratio:.3f}", row.get("recovered_s"), verdict,
        )  # fmt: skip
        page += "| " + " | ".join(cell(value) for value in values) + " |\n"
    return page


if __name__ == "__main__":
    main()
