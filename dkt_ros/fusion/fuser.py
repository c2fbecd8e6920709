"""One stream's frames fused: the sensor's depth where it is right, the refined network's elsewhere.

Knows the order of the work and what is published where. Knows nothing of cameras, of how disparity
is made, or of ROS.

All is decided at working size (some 50 thousand pixels). Only what was decided is enlarged: a
reading that is trusted keeps its own value, at the sensor's own resolution.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from dkt_ros.alignment.aligner import Alignment, AlignmentState
from dkt_ros.arrays import (
    Array,
    constant,
    count_of,
    described,
    device_of,
    is_array,
    is_floating,
    median,
    namespace,
    quantiles,
    some_where,
    to_host,
)
from dkt_ros.checks import check_type
from dkt_ros.errors import DktError
from dkt_ros.fusion.confidence import Calibration
from dkt_ros.fusion.config import FusionConfig
from dkt_ros.fusion.features import (
    Scene,
    agreement,
    bent,
    closeness,
    evidence,
    hung,
    make_scene,
    network_input,
    working_size,
)
from dkt_ros.fusion.fused import Fused, Shares, Source
from dkt_ros.fusion.history import History
from dkt_ros.fusion.matcher import SMALLEST, Matcher
from dkt_ros.fusion.network import Refiner, one_thread
from dkt_ros.fusion.registration import Change, Seen
from dkt_ros.fusion.standing import Decided, Standing
from dkt_ros.fusion.view import View, beyond, sensors_view
from dkt_ros.fusion.weights import matcher_of, refiner_of
from dkt_ros.geometry import nearest_fill, with_readings_between

Float32 = NDArray[np.float32]

_KEPT = 0.98  # trust from which a reading is published as it is
_HELD_ERROR = 0.05  # mean relative error expected of an earlier frame's scale
_MEDIAN_OF = 2048  # pixels, spread over all
_RIM_PX = 1.5  # at working size
_BEHIND = 0.03  # relative
_FARTHEST = 0.02  # share of the trusted readings beyond which there is nothing to be seen
_AROUND = np.ones((3, 3), np.uint8)  # what is seen through reaches a little beyond what is noticed
_LEFT = 0.5  # of the readings, at least, that a network is shown
_KNOWN = 0.5  # of a network's pixels, at least, for those without depth to take the nearest one's


class Fuser:
    """Fuses one stream's frames."""

    LASTING = ("_ways",)
    """See snapshot."""

    def __init__(
        self,
        config: FusionConfig | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Raises DktError where the refiner's weights cannot be read."""
        check_type("config", config, FusionConfig | None)
        check_type("device", device, torch.device | str)
        self.config = config or FusionConfig()
        self._device = torch.device(device)
        self._ways = {on_scale: self._way(on_scale) for on_scale in (False, True)}
        own = self.config.method == "refiner"
        self._matcher = matcher_of(self.config, self._device) if own else None
        self.reset()

    def _way(self, on_scale: bool) -> _Way:
        if self.config.method != "refiner":
            return _Way(None, Calibration())
        refiner, info = refiner_of(self.config, on_scale, self._device)
        return _Way(refiner, Calibration.from_json(info.get("calibration")))

    def reset(self) -> None:
        """Forgets the stream, as on a flush."""
        self._history = History(self.config.steadiness)
        self._standing = Standing()

    def fuse(
        self,
        rgb: NDArray[np.uint8],
        raw_depth: Float32 | None,
        disparity: Array | None,
        alignment: Alignment | None,
        stamp_ns: int | None = None,
        on_scale: bool = False,
    ) -> Fused:
        """Fuses the next frame.

        rgb (H, W, 3) uint8. raw_depth (H, W) float32 metres, 0/NaN/inf unknown, or None.
        disparity (H, W) float, relative, numpy's or a tensor, NaN where the network gives none;
        None where there is no network or none to use. alignment: its scale and shift on this
        frame, rough ones too; None or one without any as without a network. stamp_ns: a stamp that
        is not later than the last one starts the stream anew. on_scale: disparity is of a network
        that was shown raw depth, and errs where that does. Raises DktError where shapes or types do
        not fit.
        """
        _check(rgb, raw_depth, disparity)
        check_type("alignment", alignment, Alignment | None)
        check_type("stamp_ns", stamp_ns, int | None)
        check_type("on_scale", on_scale, bool)
        frame = self._reduced(rgb, raw_depth, disparity, alignment)
        on_scale = on_scale or frame.predicted is None  # those weights know how to do without
        way = self._ways[on_scale]
        if not frame.readings.any():
            self.reset()
            return self._without_readings(rgb.shape[:2], disparity, alignment, frame.reason, way)
        assert raw_depth is not None
        at_rest = self._history.look(frame.rgb, frame.readings, stamp_ns)
        decided = self._standing.of(frame.readings, frame.predicted, on_scale, at_rest)
        x = None
        if decided is None:
            decided, x = self._decided(frame, way.refiner, on_scale)
            self._standing.take(decided)
        measured = frame.readings > 0
        own = np.arange(measured.size, dtype=np.int32).reshape(measured.shape)
        nearest = np.where(measured, own, decided.nearest)
        steady, trust = self._history.steady(decided.corrected, decided.trust, nearest, _KEPT)
        depth, source, shares = self._enlarged(raw_depth, steady, trust)
        trusted = measured & (trust >= 0.5)
        return Fused(
            depth=depth,
            source=source,
            shares=shares,
            readings=count_of(measured),
            trusted=count_of(trusted),
            residual_m=_residual(decided.corrected, frame.readings, trusted),
            seen=self._seen(frame, on_scale, x, at_rest),
            doubted=_doubted(frame, decided.corrected, trusted),
            network_used=frame.predicted is not None,
            reason=frame.reason,
            _log_error=decided.log_error,
            _calibration=way.calibration,
            _tolerance=self.config.tolerance,
            _range=self._range_of(steady),
        )

    def _decided(
        self, frame: _Reduced, refiner: Refiner | None, on_scale: bool
    ) -> tuple[Decided, Float32 | None]:
        """What is made of a frame, and its network_input where a refiner saw it."""
        scene = frame.scene(on_scale)
        view, part, x = frame.view, scene, None
        if view is not None:
            part = frame.shown.scene(on_scale)
        if refiner is None:
            corrected, trust, log_error = _membrane(part)
        else:
            x = network_input(part)
            corrected, trust, log_error = _refined(part, x, refiner, self._device)
        if view is not None:
            inside = (corrected, trust, log_error)
            corrected, trust, log_error = beyond(scene, view, inside, frame.predicted)
        trusted = scene.measured & (trust >= 0.5)
        decided = Decided(
            corrected=hung(corrected, scene.disparity, trusted, _RIM_PX, levels=2),
            trust=trust,
            log_error=log_error,
            readings=frame.readings,
            nearest=scene.nearest,
            predicted=frame.predicted,
            on_scale=on_scale,
        )
        return decided, x

    def _seen(
        self, frame: _Reduced, on_scale: bool, x: Float32 | None, at_rest: bool
    ) -> Seen | None:
        """x: its network_input, where that is known."""
        matcher, device = self._matcher, self._device
        if matcher is None:
            return None
        shown = frame.shown
        if min(shown.readings.shape) < SMALLEST:
            return None
        if x is None:
            told = partial(_matched_anew, matcher, device, shown, on_scale)
        else:
            told = partial(_matched, matcher, device, x)
        return Seen(told, partial(_asked, matcher, device, frame), at_rest)

    def _range_of(self, inverse: Float32) -> tuple[float, float]:
        """Metres, between which all depth lies that is the readings' or the network's."""
        low, high = float(inverse.min()), float(inverse.max())
        config = self.config
        return min(config.min_raw_depth, 1 / high), max(config.max_raw_depth, 1 / low)

    def _reduced(
        self,
        rgb: NDArray[np.uint8],
        raw_depth: Float32 | None,
        disparity: Array | None,
        alignment: Alignment | None,
    ) -> _Reduced:
        config = self.config
        height, width = rgb.shape[:2]
        size = working_size(height, width)
        small = _shrunk(rgb, size)
        picked = _picked((height, width), size)
        readings = np.zeros(size, np.float32)
        reason = "no raw depth with this frame"
        if raw_depth is not None:
            raw = with_readings_between(raw_depth.take(picked), raw_depth)
            known = (raw >= config.min_raw_depth) & (raw <= config.max_raw_depth)
            np.divide(1.0, raw, out=readings, where=known)
            reason = (
                ""
                if known.any()
                else (
                    f"no raw depth between {config.min_raw_depth:g} and {config.max_raw_depth:g} m"
                )
            )
        line: Float32 | None = None
        if disparity is None:
            reason = _joined(reason, "no network's disparity with this frame")
        elif alignment is None or alignment.start is None:
            why = "no alignment" if alignment is None else alignment.reason
            reason = _joined(reason, f"the network was not used: {why}")
        else:
            scale, shift = alignment.start
            where = _picked_on(device_of(disparity), (height, width), size)
            found = np.asarray(to_host(namespace(disparity).take(disparity, where)), np.float32)
            line = np.maximum(scale * found + shift, np.float32(1e-3))
            answered = count_of(np.isfinite(line)) / line.size
            if _KNOWN <= answered < 1:
                line = nearest_fill(line)
            if alignment.state is AlignmentState.HELD:
                reason = _joined(reason, f"scale of an earlier frame: {alignment.reason}")
        predicted = line
        if line is not None and answered < _KNOWN:
            why = f"the network was not used: it gives no depth on {1 - answered:.0%} of it"
            predicted, reason = None, _joined(reason, why)
        elif line is not None and readings.any():
            share = agreement(readings, line)
            if share < config.min_agreement:
                predicted = None
                why = f"the network was not used: it agrees with {share:.0%} of the readings"
                reason = _joined(reason, why)
        return _Reduced(small, readings, predicted, reason)

    def _enlarged(
        self, raw_depth: Float32, corrected: Float32, trust: Float32
    ) -> tuple[Float32, NDArray[np.uint8], Shares]:
        """At full size: depth, source, and the shares of it."""
        config, size = self.config, raw_depth.shape[::-1]
        # Trust in 255ths: masks of bytes cost a fifth of those of floats.
        bytes_ = np.rint(trust * np.float32(255)).astype(np.uint8)
        share = np.asarray(cv2.resize(bytes_, size, interpolation=cv2.INTER_LINEAR), np.uint8)
        depth = np.asarray(
            cv2.resize(1.0 / corrected, size, interpolation=cv2.INTER_LINEAR), np.float32
        )
        low, high = np.float32(config.min_raw_depth), np.float32(config.max_raw_depth)
        share *= (raw_depth >= low) & (raw_depth <= high)
        # What is trusted fully is the reading to the last bit.
        whole = cv2.compare(share, np.array([[round(255 * _KEPT)]], np.uint8), cv2.CMP_GE)
        cv2.copyTo(raw_depth, whole, depth)
        some = np.flatnonzero(np.greater(share, whole))
        partly = depth.ravel()[some]
        partly += (raw_depth.ravel()[some] - partly) * (share.ravel()[some] * np.float32(1 / 255))
        depth.ravel()[some] = partly
        sensors = np.greater_equal(share, 128).view(np.uint8)
        source = np.subtract(np.uint8(Source.NETWORK), sensors)
        sensor = cv2.countNonZero(sensors) / sensors.size
        return depth, source, Shares(sensor, 1.0 - sensor, 0.0)

    def _without_readings(
        self,
        shape: tuple[int, ...],
        disparity: Array | None,
        alignment: Alignment | None,
        why: str,
        way: _Way,
    ) -> Fused:
        """The network alone on the scale of the stream's past, or nothing."""
        depth = np.full(shape, np.nan, np.float32)
        used = False
        error = _HELD_ERROR
        if disparity is not None and alignment is not None and np.isfinite(alignment.scale):
            used = True
            error += min(alignment.uncertainty, 1.0)
            inverse = alignment.scale * np.asarray(to_host(disparity), np.float32) + alignment.shift
            low, high = 1 / self.config.max_raw_depth, 1 / self.config.min_raw_depth
            inside = (inverse >= low) & (inverse <= high)
            np.divide(1.0, inverse, out=depth, where=inside)
        source = np.where(np.isfinite(depth), Source.NETWORK, Source.NOTHING).astype(np.uint8)
        return Fused(
            depth=depth,
            source=source,
            shares=Shares.of(source),
            readings=0,
            trusted=0,
            residual_m=float("nan"),
            seen=None,
            doubted=None,
            network_used=used,
            reason=why,
            _log_error=float(np.log(error)),
            _calibration=way.calibration,
            _tolerance=self.config.tolerance,
        )


@dataclass(frozen=True, eq=False)
class _Reduced:
    """A frame at working size. predicted: the network's disparity on its scale, where usable."""

    rgb: NDArray[np.uint8]
    readings: Float32
    predicted: Float32 | None
    reason: str

    def scene(self, on_scale: bool) -> Scene:
        """Of a frame with readings; see make_scene."""
        scene = make_scene(self.rgb, self.readings, self.predicted, on_scale)
        assert scene is not None
        return scene

    @cached_property
    def view(self) -> View | None:
        """Where the sensor looks; None: everywhere."""
        return sensors_view(self.readings > 0)

    @property
    def shown(self) -> _Reduced:
        """What of it lies in that view."""
        if (view := self.view) is None:
            return self
        predicted = None if self.predicted is None else _part(self.predicted, view)
        return _Reduced(_part(self.rgb, view), _part(self.readings, view), predicted, self.reason)


@dataclass(frozen=True)
class _Way:
    """How frames with one kind of network are decided: a refiner, None without training."""

    refiner: Refiner | None
    calibration: Calibration


def _refined(
    scene: Scene, seen: Float32, refiner: Refiner, device: torch.device
) -> tuple[Float32, Float32, Float32]:
    """Corrected disparity, trust and log error, (h, w) each; seen: its network_input."""
    x = torch.from_numpy(seen)[None]
    maps = [scene.filled, scene.filled if scene.predicted is None else scene.predicted]
    with torch.inference_mode(), one_thread():
        # Type, then layout: both at once take twice as long.
        x = x.to(device, refiner.head.weight.dtype).to(memory_format=torch.channels_last)
        filled, predicted = (torch.from_numpy(m)[None, None].to(device) for m in maps)
        said = evidence(scene)
        heard = None if said is None else torch.from_numpy(said)[None].to(device)
        close = torch.tensor([closeness(scene)], dtype=torch.float32).to(device)
        refined = refiner(x, filled, predicted, close, heard)
        found = torch.cat([refined.corrected, refined.trust, refined.log_error], dim=1)
    corrected, trust, log_error = to_host(found)[0]
    # Trust is of a reading: where there is none, the nearest one's.
    trust = trust.take(scene.nearest)
    return corrected, trust, log_error


def _matched(
    matcher: Matcher,
    device: torch.device,
    seen: Float32,
    colours: dict[str, torch.Tensor] | None = None,
    view: str = "",
) -> float:
    """Log-odds that colour and readings belong together; seen: a scene's network_input.

    colours: what is known of the picture's colour, by the view of it that is seen.
    """
    colours = {} if colours is None else colours
    with torch.inference_mode(), one_thread():
        x = torch.from_numpy(seen)[None].to(device, memory_format=torch.channels_last)
        if view not in colours:
            colours[view] = matcher.of_colour(x)
        return float(matcher(x, colours[view]))


def _matched_anew(matcher: Matcher, device: torch.device, frame: _Reduced, on_scale: bool) -> float:
    """The same of a frame whose network_input is not at hand."""
    return _matched(matcher, device, network_input(frame.scene(on_scale)))


def _asked(
    matcher: Matcher, device: torch.device, frame: _Reduced, changes: Sequence[Change]
) -> list[float]:
    """Log-odds that colour and readings belong together with each change undone.

    The network's disparity is left out: it may be what is wrong.
    """
    found = []
    colours = dict[str, torch.Tensor]()
    for change in changes:
        undone = replace(frame, readings=change.undone(frame.readings), predicted=None)
        shown = undone.shown
        scene = make_scene(shown.rgb, shown.readings, None, True)
        if scene is None or min(scene.disparity.shape) < SMALLEST:
            found.append(-np.inf)
        else:
            seen = network_input(scene)
            found.append(_matched(matcher, device, seen, colours, str(undone.view)))
    return found


def _doubted(
    frame: _Reduced, corrected: Float32, trusted: NDArray[np.bool_]
) -> NDArray[np.uint8] | None:
    """See Fused.doubted; None too where few readings would be left."""
    readings = frame.readings
    if frame.predicted is None or not trusted.any():
        return None
    # Seen through are those that are farther than what is there, yet not than all else.
    some = some_where(trusted, readings, 1 + count_of(trusted) // _MEDIAN_OF)
    farthest = quantiles(some, _FARTHEST)[0]
    behind = ~trusted & (readings < corrected * np.float32(1 - _BEHIND))
    behind &= readings > farthest
    doubted = cv2.dilate(behind.astype(np.uint8), _AROUND)
    left = (readings > 0) & (doubted == 0)
    if count_of(left) < _LEFT * count_of(readings):
        return None
    return np.asarray(doubted, np.uint8)


def _membrane(scene: Scene) -> tuple[Float32, Float32, Float32]:
    """Without training: the prediction bent onto the readings that agree with it.

    A reading is trusted that lies near the bent prediction; what is near is told by most readings.
    """
    if scene.predicted is None:
        log_error = np.log(0.01 + 0.1 * np.tanh(scene.distance / 16))
        return scene.filled, np.ones_like(scene.filled), np.asarray(log_error, np.float32)
    off = np.abs(scene.disparity / scene.predicted - 1.0)
    spread = 1.4826 * median(off[scene.measured])
    limit = max(3 * spread, 0.02)
    trust = np.clip((1.5 * limit - off) / (0.5 * limit), 0.0, 1.0).astype(np.float32)
    trust = cv2.blur(trust.ravel()[scene.nearest], (3, 3))
    again = bent(scene.predicted, scene.disparity, trust)
    log_error = np.log(0.01 + spread + 0.04 * np.tanh(scene.distance / 16) + 0.05 * (1 - trust))
    return again, trust, np.asarray(log_error, np.float32)


def _shrunk(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture at (height, width): by halves, then by less than that; both are fast."""
    while rgb.shape[0] >= 2 * size[0] and rgb.shape[1] >= 2 * size[1]:
        height, width = rgb.shape[0] // 2, rgb.shape[1] // 2
        even = rgb[: 2 * height, : 2 * width]
        rgb = np.asarray(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


@lru_cache(maxsize=4)
def _picked(full: tuple[int, int], size: tuple[int, int]) -> NDArray[np.intp]:
    """Flat places in a full picture of one pixel for each of the small one."""
    rows, columns = (
        ((np.arange(n) + 0.5) * many / n).astype(np.intp)
        for n, many in zip(size, full, strict=True)
    )
    places: NDArray[np.intp] = rows[:, None] * full[1] + columns
    places.setflags(write=False)
    return places


@lru_cache(maxsize=4)
def _picked_on(device: Hashable, full: tuple[int, int], size: tuple[int, int]) -> Array:
    return constant(_picked(full, size), device)


def _residual(inverse: Float32, readings: Float32, trusted: NDArray[np.bool_]) -> float:
    found = np.flatnonzero(trusted)
    found = found[:: 1 + len(found) // _MEDIAN_OF]
    if len(found) == 0:
        return float("nan")
    return median(np.abs(1 / inverse.ravel()[found] - 1 / readings.ravel()[found]))


def _part(map_: NDArray[Any], view: View) -> NDArray[Any]:
    return np.ascontiguousarray(map_[view])


def _joined(*reasons: str) -> str:
    return "; ".join(reason for reason in reasons if reason)


def _check(rgb: NDArray[np.uint8], raw_depth: Float32 | None, disparity: Array | None) -> None:
    picture = isinstance(rgb, np.ndarray) and rgb.dtype == np.uint8 and rgb.size > 0
    if not picture or rgb.ndim != 3 or rgb.shape[-1] != 3:
        raise DktError(
            f"rgb of {described(rgb)}: expected an array (height, width, 3) uint8 of a picture"
        )
    size = rgb.shape[:2]
    if raw_depth is not None and not (
        isinstance(raw_depth, np.ndarray)
        and raw_depth.shape == size
        and raw_depth.dtype == np.float32
    ):
        raise DktError(
            f"raw depth of {described(raw_depth)}: expected an array {size} float32 in metres, "
            "registered to the colour image"
        )
    if disparity is None:
        return
    if not is_array(disparity) or tuple(disparity.shape) != size or not is_floating(disparity):
        raise DktError(
            f"disparity of {described(disparity)}: expected an array {size} of floats, one value "
            "for each pixel"
        )
