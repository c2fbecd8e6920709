"""Options become the predictor that they name, and it keeps what every predictor promises."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.tiny_checkpoint import make_tiny_checkpoint
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dkt_ros import EstimatorConfig, load_estimator
from dkt_ros.errors import DktError
from dkt_ros.frames import Frame, frames_of
from dkt_ros.model.canvas import fit_area
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.model.live_options import PRESETS
from dkt_ros.model.streaming_network import StreamingNetwork
from dkt_ros.model.windows import live_windows
from dkt_ros.predict.clip import ClipPredictor, PredictOptions, predict_disparity
from dkt_ros.predict.dkt import DktPredictor
from dkt_ros.predict.load import (
    clip_frames,
    load_predictor,
    load_predictors,
    network_state,
    request_of,
    resolve_device,
    resolve_dtype,
)
from dkt_ros.predict.options import PredictorOptions
from dkt_ros.predict.predictor import (
    InferenceCancelledError,
    Prediction,
    Predictor,
    PredictorInfo,
    black_frame,
)
from dkt_ros.predict.stream import StreamPredictor
from dkt_ros.progress import Progress


def options(checkpoint: Path, **changes: Any) -> PredictorOptions:
    return replace(
        PredictorOptions(checkpoint=checkpoint, device="cpu", cpu_threads=1, steps=1), **changes
    )


@pytest.fixture(scope="module")
def clip_predictor(tiny_checkpoint: Path) -> ClipPredictor:
    predictor = load_predictor(options(tiny_checkpoint, buffer_frames=9))
    assert isinstance(predictor, ClipPredictor)
    return predictor


@pytest.fixture
def stream_predictor(tiny_fast: FastNetwork) -> StreamPredictor:
    chosen = PredictorOptions(mode="live", live_preset="fast", steps=1)
    return StreamPredictor(tiny_fast, chosen)


def video(frames: int, size: tuple[int, int] = (60, 100)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, *size, 3), np.uint8)


def frames(rgb: np.ndarray) -> list[Frame]:
    return list(frames_of((picture, None) for picture in rgb))


def watched(
    monkeypatch: pytest.MonkeyPatch, *networks: StreamingNetwork
) -> Counter[tuple[int, int | None]]:
    """How often a velocity is asked for: of so many latents, of which so many are kept."""
    asked: Counter[tuple[int, int | None]] = Counter()

    def watch(network: StreamingNetwork) -> None:
        velocity = network.velocity

        def counted(
            noisy: Tensor, tokens: Tensor, timestep: float, keep: int | None = None
        ) -> Tensor:
            asked[noisy.shape[2], keep] += 1
            return velocity(noisy, tokens, timestep, keep)

        monkeypatch.setattr(network, "velocity", counted)

    for network in networks:
        watch(network)
    return asked


def test_it_says_what_it_is(clip_predictor: ClipPredictor, tiny_checkpoint: Path) -> None:
    info = clip_predictor.info
    assert (info.name, info.path) == ("tiny-random", str(tiny_checkpoint))
    assert (info.device, info.dtype, info.steps) == ("cpu", "float32", 1)
    assert (info.mode, info.backend, info.note) == ("exact", "torch", "")


def test_the_newest_answer_is_the_exact_samplers_of_the_same_clip(
    clip_predictor: ClipPredictor,
) -> None:
    """To the last bit, as the buffer fills and slides."""
    clip_predictor.reset()
    rgb = video(11)
    counts = []
    for index, frame in enumerate(frames(rgb)):
        answer = clip_predictor.push(frame)
        counts.append(answer.frames)
        assert answer.disparity is not None
        size = clip_predictor.requested_size(60, 100)
        expected = predict_disparity(
            clip_predictor.network,
            rgb[index + 1 - answer.frames : index + 1],
            PredictOptions(steps=1, size=size),
        )
        np.testing.assert_array_equal(answer.disparity, expected[-1])
    assert counts == [1, 1, 1, 1, 5, 5, 5, 5, 9, 9, 9]


def test_a_video_is_seen_at_once(clip_predictor: ClipPredictor) -> None:
    rgb = video(6)
    size = clip_predictor.requested_size(60, 100)
    expected = predict_disparity(clip_predictor.network, rgb, PredictOptions(1, size=size))
    np.testing.assert_array_equal(clip_predictor.video(frames(rgb)), expected)


def test_another_size_begins_a_clip_of_its_own(clip_predictor: ClipPredictor) -> None:
    clip_predictor.reset()
    for frame in frames(video(5)):
        clip_predictor.push(frame)
    tall = clip_predictor.push(frames(video(1, (100, 60)))[0])
    assert tall.disparity is not None
    assert (tall.frames, tall.disparity.shape) == (1, (100, 60))


@pytest.mark.parametrize("mode", ["exact", "live"])
def test_only_the_newest_frame_is_decoded_to_the_cameras_size(
    tiny_fast: FastNetwork, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = PredictorOptions(mode=mode, steps=1, buffer_frames=9, live_publish="all")
    made = StreamPredictor if mode == "live" else ClipPredictor
    predictor = made(tiny_fast, chosen)
    sizes: list[int] = []
    canvas = type(predictor.canvas(60, 100))
    disparity_tensor = canvas.disparity_tensor

    def watched(self: Any, decoded: Tensor) -> Tensor:
        sizes.append(decoded.shape[2])
        return disparity_tensor(self, decoded)

    monkeypatch.setattr(canvas, "disparity_tensor", watched)
    for frame in frames(video(9)):
        predictor.push(frame)
    assert sizes == [1] * 9


@pytest.mark.parametrize("mode", ["exact", "live"])
def test_it_stops_midway_when_told_to(tiny_fast: FastNetwork, mode: str) -> None:
    made = StreamPredictor if mode == "live" else ClipPredictor
    predictor = made(tiny_fast, PredictorOptions(mode=mode, steps=1))
    frame = black_frame((64, 96))
    predictor.cancel()
    with pytest.raises(InferenceCancelledError):
        predictor.push(frame)
    predictor.allow()
    predictor.reset()
    assert predictor.push(frame) is not None


def test_mode_live_streams(tiny_checkpoint: Path) -> None:
    predictor = load_predictor(
        options(
            tiny_checkpoint,
            mode="live",
            live_preset="fast",
            live_publish="all",
            live_scene_cut=1.0,
            seed=5,
        )
    )
    assert isinstance(predictor, StreamPredictor)
    assert predictor.info.mode == "live, fast"
    live = predictor.live_options
    assert (live.publish, live.steps, live.seed, live.scene_cut) == ("all", 1, 5, None)
    assert (live.window, live.new) == (PRESETS["fast"].window, PRESETS["fast"].new)
    black = black_frame((64, 96))
    predictor.warm_up((64, 96))
    for count in (1, 2, 3):  # warming up has left nothing behind
        result = predictor.push(black)
        assert result is not None
        assert result.frames == count
    tall = predictor.push(black_frame((120, 100)))
    assert tall is not None
    assert tall.disparity is not None
    assert (tall.frames, tall.disparity.shape) == (1, (120, 100))
    predictor.reset()
    again = predictor.push(black)
    assert again is not None
    assert again.frames == 1


@pytest.mark.parametrize(
    ("preset", "frames_proven", "together"),
    [("quality", 33, 16), ("balanced", 25, 12), ("fast", 9, 8)],
)
def test_a_stream_is_proven_when_its_windows_have_all_been_had(
    tiny_fast: FastNetwork,
    preset: str,
    frames_proven: int,
    together: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predictor = StreamPredictor(
        tiny_fast, PredictorOptions(mode="live", live_preset=preset, steps=1)
    )
    asked = watched(monkeypatch, tiny_fast)
    assert (predictor.proof_frames, predictor.answers_every) == (frames_proven, together)
    wanted = set(live_windows(predictor.live_options))
    for _ in range(predictor.proof_frames - 1):
        predictor.push(black_frame((32, 48)))
    assert set(asked) < wanted, "one frame fewer would not do"
    predictor.push(black_frame((32, 48)))
    assert set(asked) == wanted


def test_on_a_gpu_it_is_warm_for_every_shape_that_will_come(
    clip_predictor: ClipPredictor,
    stream_predictor: StreamPredictor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each computed twice there, where a new shape costs seconds: compiled, then recorded."""
    monkeypatch.setattr(DktPredictor, "on_gpu", True)
    networks = clip_predictor.network, stream_predictor.network
    asked = watched(monkeypatch, *networks)
    reports: list[tuple[int, int]] = []
    clip_predictor.warm_up((32, 48), lambda stage, *done: reports.append(done))
    assert [count for (count, _), times in sorted(asked.items()) for _ in range(times)] == [
        1, 1, 2, 2, 3, 3,
    ]  # fmt: skip
    assert reports == [(done, 6) for done in range(7)]
    assert clip_predictor.push(black_frame((32, 48))).frames == 1
    asked.clear()
    stream_predictor.warm_up((32, 48))
    assert set(asked) == set(live_windows(stream_predictor.live_options))
    assert min(asked.values()) >= 2
    fresh = stream_predictor.push(black_frame((32, 48)))
    assert fresh is not None
    assert fresh.frames == 1


def test_on_a_cpu_a_stream_is_warm_after_its_first_window(
    stream_predictor: StreamPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = watched(monkeypatch, stream_predictor.network)
    stream_predictor.warm_up((32, 48))
    assert set(asked) == {(1, 1), (3, 2)}


@pytest.mark.parametrize("mode", ["exact", "live"])
def test_a_failure_leaves_no_network_behind(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """However long the error is kept: as it stands, and as the one it was raised from."""
    networks: list[weakref.ref[FastNetwork]] = []

    def exhausted(network: FastNetwork) -> Any:
        networks.append(weakref.ref(network))
        try:
            raise MemoryError("no room for this")
        except MemoryError as error:
            raise RuntimeError("out of memory") from error

    monkeypatch.setattr(FastNetwork, "latent_channels", property(exhausted), raising=False)
    monkeypatch.setattr(FastNetwork, "__init__", lambda self, network: exhausted(self))
    with pytest.raises(RuntimeError, match="out of memory"):
        load_predictor(options(tiny_checkpoint, mode=mode))
    assert networks, "it never came to that"
    assert [network() for network in networks] == [None] * len(networks)


@pytest.mark.parametrize("failing", [False, True])
def test_loading_leaves_random_numbers_to_the_caller(
    tiny_checkpoint: Path, of_ones_own: str, monkeypatch: pytest.MonkeyPatch, failing: bool
) -> None:
    """Of the network and, where there is one, of the refiner beside it."""

    def drawn(*_: Any) -> Predictor:
        torch.rand(3)
        if failing:
            raise DktError("no network")
        return load_filled(*_)

    torch.manual_seed(3)
    before = torch.get_rng_state()
    load_estimator(options(tiny_checkpoint))
    monkeypatch.setattr(sys.modules["a_lab_s_own"], "load_filled", drawn)
    with pytest.raises(DktError) if failing else contextlib.nullcontext():
        load_estimator(predictor=of_ones_own, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_loading_leaves_a_gpu_s_random_numbers_to_the_caller(
    of_ones_own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(*_: Any) -> Predictor:
        torch.rand(3, device="cuda")
        return load_filled(*_)

    monkeypatch.setattr(sys.modules["a_lab_s_own"], "load_filled", drawn)
    torch.rand(3, device="cuda")
    before = torch.cuda.get_rng_state()
    load_estimator(predictor=of_ones_own)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_a_stream_is_gone_with_its_last_reference(tiny_fast: FastNetwork) -> None:
    predictor = StreamPredictor(tiny_fast, PredictorOptions(mode="live", steps=1))
    assert predictor.push(black_frame((32, 48))) is not None
    stream = weakref.ref(predictor)
    gc.disable()
    try:
        del predictor
        assert stream() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("inference_size", "camera", "size"),
    [
        ("native", (480, 640), None),
        ("96x160", (480, 640), (96, 160)),
        ("auto", (64, 96), (64, 96)),
        ("auto", (480, 640), (68, 91)),  # the tiny checkpoint was trained at 64x96
        ("auto", (640, 480), (91, 68)),
        ("auto", (640, 980), (64, 96)),
        ("auto", (980, 640), (96, 64)),
        ("auto", (32, 48), (32, 48)),
    ],
)
def test_the_working_size(
    tiny_fast: FastNetwork,
    inference_size: str,
    camera: tuple[int, int],
    size: tuple[int, int] | None,
) -> None:
    predictor = ClipPredictor(tiny_fast, PredictorOptions(inference_size=inference_size))
    assert predictor.requested_size(*camera) == size


@given(st.integers(16, 4000), st.integers(16, 4000), st.integers(64 * 64, 2000 * 2000))
def test_fitting_keeps_the_aspect_ratio_and_never_enlarges(
    height: int, width: int, area: int
) -> None:
    fitted_height, fitted_width = fit_area(height, width, area)
    assert fitted_height <= height
    assert fitted_width <= width
    if height * width <= area:
        assert (fitted_height, fitted_width) == (height, width)
    else:
        assert fitted_height * fitted_width <= area + height + width
        ratio = (fitted_height * width) / (fitted_width * height)
        # Each side is off by half a pixel at most.
        high, wide = 0.5 / fitted_height, 0.5 / fitted_width
        assert (1 - wide) / (1 + high) - 1e-9 <= ratio <= (1 + wide) / (1 - high) + 1e-9


def test_the_checkpoint_says_how_many_frames_unless_the_options_do(
    tiny_fast: FastNetwork,
) -> None:
    assert ClipPredictor(tiny_fast).proof_frames == tiny_fast.info.buffer_frames
    chosen = ClipPredictor(tiny_fast, PredictorOptions(buffer_frames=13))
    assert (chosen.buffer_frames, chosen.proof_frames) == (13, 13)


def test_auto_means_what_the_machine_has() -> None:
    assert resolve_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cuda:1") == "cuda:1"
    assert resolve_dtype("auto", "cuda:0") == "bfloat16"
    assert resolve_dtype("auto", "cpu") == "float32"
    assert resolve_dtype("float16", "cpu") == "float16"


@pytest.mark.parametrize("device", ["cuda:77", "cuda:x", "cudo", "meta"])
def test_a_device_that_is_not_there_is_named(tiny_checkpoint: Path, device: str) -> None:
    with pytest.raises(DktError, match=f"device {device} cannot be used"):
        load_predictor(options(tiny_checkpoint, device=device))


def test_a_checkpoint_of_another_task_is_refused(tmp_path: Path) -> None:
    path = make_tiny_checkpoint(tmp_path)
    info = json.loads((path / "dkt.json").read_text())
    (path / "dkt.json").write_text(json.dumps(info | {"task": "normal"}))
    with pytest.raises(DktError, match="predicts 'normal', expected 'depth'"):
        load_predictor(options(path))


def test_two_modes_share_one_network(tiny_checkpoint: Path) -> None:
    found = load_predictors(options(tiny_checkpoint), ("exact", "live"))
    exact, live = found["exact"], found["live"]
    assert isinstance(exact, ClipPredictor)
    assert isinstance(live, StreamPredictor)
    assert exact.network is live.network
    assert live.info.mode == "live, balanced"


def test_the_whole_video_is_what_an_engine_must_hold(tiny_checkpoint: Path) -> None:
    node = request_of(options(tiny_checkpoint, buffer_frames=9))
    whole = request_of(options(tiny_checkpoint, buffer_frames=9), video_frames=17)
    assert node.windows == ((3, 3), (2, 2), (1, 1))
    assert whole.windows == ((3, 3),), "the checkpoint's window"
    assert whole.build_flags[-2:] == ("--frames", "9")
    apart = request_of(options(tiny_checkpoint, window=2, overlap=0), video_frames=17)
    assert set(apart.windows) == {(2, 2), (1, 1)}, "of five latents"


def test_an_engine_must_hold_the_windows_that_a_video_is_answered_by_and_no_others(
    tmp_path: Path,
) -> None:
    """Single frames where all have readings, else the checkpoint's window."""
    folder = make_tiny_checkpoint(tmp_path, condition="from_raw_depth")
    told = json.loads((folder / "dkt.json").read_text())
    (folder / "dkt.json").write_text(json.dumps(told | {"buffer_frames": 1}))

    def windows(*raw_depth: np.ndarray | None, **changes: Any) -> tuple[tuple[int, int], ...]:
        chosen = options(folder, **changes)
        return request_of(chosen, video_frames=clip_frames(chosen, raw_depth)).windows

    seen, unseen = np.ones((48, 80), np.float32), np.full((48, 80), np.nan, np.float32)
    assert windows(*[seen] * 9) == ((1, 1),)
    assert windows(*[seen] * 8, unseen) == windows(*[None] * 9) == ((3, 3),)
    assert windows(*[seen] * 9, window=3) == ((3, 3),)
    assert windows(*[seen] * 9, mode="live") == request_of(options(folder, mode="live")).windows
    assert request_of(options(folder)).windows == ((1, 1),)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mode": "fast"}, "mode is 'fast'"),
        ({"dtype": "float8"}, "dtype is 'float8'"),
        ({"backend": "tensorrt"}, "engine_dir is empty"),
        ({"backend": "onnxruntime", "engine_dir": "e", "inference_size": "native"}, "no other"),
        ({"inference_size": "12"}, "HEIGHTxWIDTH"),
        ({"buffer_frames": 4}, "4N"),
        ({"buffer_frames": -3}, "4N"),
        ({"seed": -1}, "seed is -1"),
        ({"live_scene_cut": 0.0}, "live_scene_cut"),
        ({"live_min_agreement": 1.0}, "live_min_agreement"),
        ({"mode": "x", "dtype": "y"}, "dtype is 'y'.*mode is 'x'"),
    ],
)
def test_wrong_options_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DktError, match=words):
        PredictorOptions(**changes)


def test_whatever_has_the_names_of_the_options_gives_them() -> None:
    class Source:
        mode, steps, other = "live", 3, "ignored"

    made = PredictorOptions.taken_from(Source(), seed=9)
    assert (made.mode, made.steps, made.seed) == ("live", 3, 9)
    assert made.device == PredictorOptions().device


# Another network, metric and looking at raw depth: all that it takes.


class Filled(Predictor):
    """Raw depth, and one metre where there is none."""

    def push(self, frame: Frame) -> Prediction:
        assert frame.raw_depth is not None
        return Prediction(frame.rgb, depth=np.where(np.isnan(frame.raw_depth), 1, frame.raw_depth))


def load_filled(
    options: PredictorOptions, video_frames: int | None, on_progress: Progress
) -> Predictor:
    return Filled(PredictorInfo("filled", device=options.device))


@pytest.fixture
def of_ones_own() -> Iterator[str]:
    module = ModuleType("a_lab_s_own")
    module.load_filled = load_filled  # type: ignore[attr-defined]
    module.bare = lambda: load_filled  # type: ignore[attr-defined]
    module.kind = lambda *words: Filled  # type: ignore[attr-defined]
    module.number = 3  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    yield f"{module.__name__}:load_filled"
    del sys.modules[module.__name__]


def test_a_second_kind_of_network_is_one_file(of_ones_own: str) -> None:
    network = EstimatorConfig(depth="network")
    estimator = load_estimator(config=network, predictor=of_ones_own, device="cpu")
    raw = np.full((60, 80), 0.5, np.float32)
    raw[10:20] = np.nan
    (frame,) = frames_of([(np.zeros((60, 80, 3), np.uint8), raw)])
    estimate = estimator.push(frame)
    assert estimate is not None
    np.testing.assert_allclose(estimate.depth, np.where(np.isnan(raw), 1, raw), rtol=1e-6)
    found = load_predictors(PredictorOptions(predictor=of_ones_own), ("exact", "live"))
    assert list(found) == ["exact"], "it knows no modes"
    np.testing.assert_allclose(found["exact"].video([frame])[0, 30], 2.0)


@pytest.mark.parametrize(
    ("name", "words"),
    [("bare", "too many positional"), ("kind", "returned type type"), ("number", "not a callable")],
)
def test_a_function_that_loads_no_network_is_named(of_ones_own: str, name: str, words: str) -> None:
    named = of_ones_own.replace("load_filled", name)
    with pytest.raises(DktError, match=rf"{named}.*{words}.*\(options, video_frames, "):
        load_predictor(PredictorOptions(predictor=named))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lingbot", "expected one of dkt, or module:function"),
        ("no_such_module:load", "cannot be imported"),
        ("json:no_such_function", "cannot be imported"),
    ],
)
def test_a_kind_that_is_not_there_is_named(name: str, words: str) -> None:
    with pytest.raises(DktError, match=words):
        load_predictor(PredictorOptions(predictor=name))


def test_every_option_has_one_meaning_here() -> None:
    documented = PredictorOptions.__doc__ or ""
    assert all(field.name in documented for field in fields(PredictorOptions))


def test_a_network_of_ones_own_has_the_state_of_its_module_and_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, weights = tmp_path / "a_labs_own", tmp_path / "weights" / "net.pt"
    package.mkdir()
    weights.parent.mkdir()
    files = (package / "__init__.py", package / "net.py", package / "layers.py", weights)
    for file in files:
        file.write_text("def load(options, frames, progress): ...")
    monkeypatch.syspath_prepend(tmp_path)
    options = PredictorOptions(predictor="a_labs_own.net:load", checkpoint=weights.parent)
    before = network_state(options)
    assert before is not None
    for file in files:
        content, told = file.read_text(), file.stat()
        file.write_text(content + "\nanother = 1\n")
        assert network_state(options) not in (None, before), file
        file.write_text(content)
        os.utime(file, ns=(told.st_atime_ns, told.st_mtime_ns))  # weights count by the second
    code = files[1].read_text()
    files[1].write_text("# another\n" + code)
    assert network_state(options) == before
    nowhere = replace(options, checkpoint="a name, no file")
    assert network_state(nowhere) not in (None, before)
    assert network_state(replace(options, predictor="no_such_module:load")) is None
