"""Building a plan: with TensorRT where it is installed, otherwise its calls against a stand-in.

The stand-in can show only that calls are made in order, with the names of the published bindings
(checked against the sources of 10.8 and 11.1), and what becomes of their answers.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fixtures.interrupts import interrupts as interrupts
from fixtures.interrupts import raise_interrupt

from dkt_ros.errors import DktError
from dkt_ros.model.compiled import tensorrt_build
from dkt_ros.model.compiled.manifest import GraphSpec, Manifest, System, TensorSpec
from dkt_ros.model.compiled.tensorrt_build import (
    BuildOptions,
    build_plan,
    building_system,
    timing_cache_file,
)

GRAPH = Path("step.onnx")
PROFILES = [
    GraphSpec(
        f"step_T{frames}",
        "step.onnx",
        None,
        (TensorSpec("noisy", (1, 16, frames, 4, 6), "float32"), TensorSpec("f", (2,), "float32")),
        (),
    )
    for frames in (1, 4)
]


class _Logger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None:
        """Called by subclasses, as the binding demands."""


class _ProgressMonitor:
    def __init__(self) -> None:
        """Called by subclasses, as the binding demands."""


class _Flag(enum.IntEnum):
    STRONGLY_TYPED = 1


class _Pool(enum.Enum):
    WORKSPACE = 0


class StandIn:
    """The part of the module `tensorrt` that is called, and what was done with it."""

    __name__ = "tensorrt"
    ILogger: type = _Logger
    IProgressMonitor: type = _ProgressMonitor
    NetworkDefinitionCreationFlag: Any = _Flag
    MemoryPoolType = _Pool
    BuilderFlag: Any = SimpleNamespace(TF32="tf32", REQUIRE_USER_ALLOCATION="ours")
    ComputeCapability: Any = SimpleNamespace(CURRENT="current")

    def __init__(self, plan: bytes | None = b"plan", errors: tuple[str, ...] = ()) -> None:
        self.plan, self.errors = plan, errors
        self.known_timing = b"timing of this system"
        self.flags: int | None = None
        self.parsed: str | None = None
        self.timing: bytes | None = None
        self.config: Any = None
        self.cancelled = False
        self.cleared: list[str] = []
        self.flagged: list[str] = []
        self.capabilities: list[tuple[str, int]] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.parses: Callable[[], None] = lambda: None
        self.steps = 0
        inputs = [SimpleNamespace(shape=shape) for shape in ((1, 16, -1, 4, 6), (2,))]
        self.network = SimpleNamespace(num_inputs=2, get_input=lambda index: inputs[index])
        self.profiles: list[dict[str, tuple[tuple[int, ...], ...]]] = []

    def Builder(self, logger: Any) -> Any:  # noqa: N802
        self.logger = logger
        return SimpleNamespace(
            create_network=self._network,
            create_builder_config=self._config,
            build_serialized_network=self._build,
            create_optimization_profile=self._profile,
        )

    def OnnxParser(self, network: Any, logger: Any) -> Any:  # noqa: N802
        assert network is self.network

        def parse_from_file(file: str) -> bool:
            with contextlib.suppress(BaseException):
                self.parses()
            self.parsed = file
            return not self.errors

        return SimpleNamespace(
            parse_from_file=parse_from_file,
            num_errors=len(self.errors),
            get_error=lambda index: self.errors[index],
        )

    def _network(self, flags: int = 0) -> Any:
        self.flags = flags
        return self.network

    def _profile(self) -> Any:
        shapes: dict[str, tuple[tuple[int, ...], ...]] = {}
        return SimpleNamespace(
            shapes=shapes,
            set_shape=lambda name, least, best, most: shapes.update({name: (least, best, most)}),
        )

    def _config(self) -> Any:
        self.config = SimpleNamespace(pools={})
        self.config.add_optimization_profile = lambda profile: self.profiles.append(profile.shapes)
        self.config.clear_flag = self.cleared.append
        self.config.set_flag = self.flagged.append
        self.config.set_compute_capability = lambda *one: self.capabilities.append(one)
        self.config.set_memory_pool_limit = self.config.pools.__setitem__
        self.config.create_timing_cache = lambda content: content
        self.config.set_timing_cache = self._set_timing
        self.config.get_timing_cache = lambda: SimpleNamespace(serialize=lambda: b"measured")
        return self.config

    def _set_timing(self, cache: bytes, ignore_mismatch: bool) -> bool:
        assert ignore_mismatch is False
        self.timing = cache
        return cache in (b"", self.known_timing)

    def _build(self, network: Any, config: Any) -> bytes | None:
        monitor = config.progress_monitor
        monitor.phase_start("outer", None, 2)
        for step in range(2):
            self.steps += 1
            # As the bindings: what is raised in a call of the logger or the monitor is dropped.
            with contextlib.suppress(BaseException):
                self.meanwhile()
            monitor.phase_start("inner", "outer", 1)
            monitor.step_complete("inner", 0)
            monitor.phase_finish("inner")
            if not monitor.step_complete("outer", step):
                self.cancelled = True
                return None
        monitor.phase_finish("outer")
        if self.plan is None:
            self.logger.log(_Logger.ERROR, "no kernel for it\n")
        return self.plan


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(tensorrt_build, "import_tensorrt", lambda ahead=False: stand_in)
    return stand_in


def ignore(phase: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


def test_a_plan_is_built(trt: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, timing = tmp_path / "a.plan", tmp_path / "cache" / "timing"
    seen: list[Any] = []
    trt.meanwhile = lambda: seen.append("builds")
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: seen.append("torch gave back"))
    digest = build_plan(
        GRAPH,
        plan,
        PROFILES,
        BuildOptions(workspace=2**30, level=4, timing_cache=timing),
        lambda *progress: seen.append(progress),
    )
    assert plan.read_bytes() == b"plan"
    assert digest == hashlib.sha256(b"plan").hexdigest()
    assert trt.flags == 1 << 1
    assert trt.parsed == str(GRAPH)
    assert trt.config.pools == {_Pool.WORKSPACE: 2**30}
    assert trt.config.builder_optimization_level == 4
    assert trt.cleared == ["tf32"]
    assert trt.profiles == [
        {"noisy": ((1, 16, frames, 4, 6),) * 3, "f": ((2,),) * 3} for frames in (1, 4)
    ]
    assert timing.read_bytes() == b"measured"
    assert seen == [
        *("torch gave back", ("outer", 0, 2)),
        *("builds", ("outer", 1, 2), "builds", ("outer", 2, 2), ("outer", 2, 2)),
    ]
    assert (trt.flagged, trt.capabilities) == ([], [])
    assert {file.name for file in tmp_path.iterdir()} == {"a.plan", "cache"}


def test_a_graph_whose_sizes_are_fixed_needs_no_profile(trt: StandIn, tmp_path: Path) -> None:
    closed = SimpleNamespace(shape=(1, 16, 4, 4, 6))
    trt.network = SimpleNamespace(num_inputs=1, get_input=lambda index: closed)
    build_plan(GRAPH, tmp_path / "a.plan", PROFILES, BuildOptions(), ignore)
    assert trt.profiles == []


def test_without_the_flag_networks_are_strongly_typed_anyway(
    trt: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a TensorRT after 11 may be."""
    monkeypatch.setattr(StandIn, "NetworkDefinitionCreationFlag", SimpleNamespace())
    build_plan(GRAPH, tmp_path / "a.plan", (), BuildOptions(), ignore)
    assert trt.flags == 0


@pytest.mark.parametrize("known", [True, False])
def test_a_timing_cache_of_another_system_is_replaced(
    trt: StandIn, tmp_path: Path, known: bool
) -> None:
    timing = tmp_path / "timing"
    timing.write_bytes(trt.known_timing if known else b"timing of another")
    build_plan(GRAPH, tmp_path / "a.plan", (), BuildOptions(timing_cache=timing), ignore)
    assert trt.timing == (trt.known_timing if known else b"")
    assert timing.read_bytes() == b"measured"


def test_a_graph_that_cannot_be_read(trt: StandIn, tmp_path: Path) -> None:
    trt.errors = ("node 3: no such operator", "node 7: no such type")
    with pytest.raises(DktError, match=r"step\.onnx: node 3: .*; node 7"):
        build_plan(GRAPH, tmp_path / "a.plan", (), BuildOptions(), ignore)
    assert not list(tmp_path.iterdir())


def test_a_plan_that_cannot_be_built(trt: StandIn, tmp_path: Path) -> None:
    """What was measured on the way stays."""
    trt.plan, timing = None, tmp_path / "timing"
    with pytest.raises(DktError, match=r"no kernel for it$"):
        build_plan(GRAPH, tmp_path / "a.plan", (), BuildOptions(timing_cache=timing), ignore)
    assert [file.name for file in tmp_path.iterdir()] == ["timing"]


@pytest.mark.usefixtures("interrupts")
def test_ctrl_c_stops_the_build(trt: StandIn, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_plan(GRAPH, tmp_path / "a.plan", (), BuildOptions(), raise_interrupt)
    assert trt.cancelled
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("interrupts")
def test_ctrl_c_between_two_reports_stops_it_too(trt: StandIn, tmp_path: Path) -> None:
    trt.meanwhile = raise_interrupt
    with pytest.raises(KeyboardInterrupt):
        build_plan(GRAPH, tmp_path / "a.plan", (), BuildOptions(), ignore)
    assert trt.steps == 1
    trt.parses = raise_interrupt
    with pytest.raises(KeyboardInterrupt):
        build_plan(GRAPH, tmp_path / "a.plan", (), BuildOptions(), ignore)
    assert trt.steps == 1
    assert not list(tmp_path.iterdir())


def test_who_ignores_ctrl_c_goes_on_building(trt: StandIn, tmp_path: Path) -> None:
    trt.meanwhile, before = raise_interrupt, signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        build_plan(GRAPH, tmp_path / "a.plan", (), BuildOptions(), ignore)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "a.plan").exists()


def test_plans_of_tensorrt_for_rtx_take_no_memory_of_their_own(
    trt: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the GPU that is there; and what it does not measure is not kept."""
    monkeypatch.setattr(trt, "__name__", "tensorrt_rtx")
    options = BuildOptions(timing_cache=tmp_path / "timing")
    build_plan(GRAPH, tmp_path / "a.plan", (), options, ignore)
    assert trt.flagged == ["ours"]
    assert (trt.config.num_compute_capabilities, trt.capabilities) == (1, [("current", 0)])
    assert trt.timing is None
    assert [file.name for file in tmp_path.iterdir()] == ["a.plan"]


def test_plans_are_for_a_gpu(trt: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DktError, match=r"needs an NVIDIA GPU.*--target sm89.*--onnx-only"):
        building_system("cuda:0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(DktError, match=r"--device is cpu; name one as cuda:0"):
        building_system("cpu")


def test_timing_caches_are_kept_by_gpu_and_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    systems = [
        System("NVIDIA L4", "8.9", "10.8.0.43"),
        System("NVIDIA L4", "8.9", "11.0.0.1"),
        System("NVIDIA H200", "9.0", "10.8.0.43"),
    ]
    files = {timing_cache_file(system) for system in systems}
    assert len(files) == 3
    assert all(file.parent == tmp_path / "dkt_ros" / "tensorrt" for file in files)
    assert timing_cache_file(systems[0]).name == "nvidia-l4-8.9-10.8.0.43.timing"


def test_tensorrt_for_rtx_says_what_it_cannot_read(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    (tmp_path / "step.onnx").write_bytes(b"no graph")
    with pytest.raises(DktError, match=r"TensorRT cannot read .*step\.onnx: .+"):
        build_plan(
            tmp_path / "step.onnx", tmp_path / "a.plan", (), BuildOptions(targets=("sm89",)), ignore
        )
    assert not (tmp_path / "a.plan").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_with_tensorrt(tiny_engine: Path, tmp_path: Path) -> None:
    """Plans of all graphs of an engine, with a timing cache."""
    pytest.importorskip("tensorrt", reason="TensorRT is not installed")
    options = BuildOptions(timing_cache=tmp_path / "timing")
    manifest = Manifest.read(tiny_engine)
    for file in {graph.onnx for graph in manifest.graphs}:
        plan = tmp_path / f"{file}.plan"
        digest = build_plan(tiny_engine / file, plan, manifest.sharing(file), options, ignore)
        assert digest == hashlib.sha256(plan.read_bytes()).hexdigest()
        assert options.timing_cache is not None
        assert options.timing_cache.stat().st_size > 0
