"""Depth of another system, read from files, as a model beside ours.

One file per frame, DIR/VIDEO/FRAME.EXT: VIDEO is the clip's name as reports list it (without the
last part where that is a picture of the clip), FRAME the frame's name in the data set or, where not
all files of the folder are so named, its place among all of the clip's frames, from 0. EXT: png
(one channel of 16 bits), exr, npy or npz (metres; of several arrays the one named depth). What is
not finite or not above zero is no depth.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from dkt_ros.datasets.dataset import Clip
from dkt_ros.errors import DktError
from dkt_ros.evaluation.models import FROM_FILES, Depths
from dkt_ros.evaluation.videos import Video
from dkt_ros.files import no_folder, sha256, shown
from dkt_ros.formats.pixels import read_depth
from dkt_ros.geometry import METRES_PER_MILLIMETRE
from dkt_ros.wording import counted

_log = logging.getLogger(__name__)

_ENDINGS = (".png", ".exr", ".npz", ".npy")
_NUMBER = re.compile(r"\d+$")
_OTHER_UNIT = 5.0
"""How many times the truth is no error of a network's but another unit, or no depth."""
_INVERSE = -0.5
"""The correlation of logarithms below which what is given is no depth."""
_FLAT = 0.01
"""Depth that varies by so small a share tells nothing of what it is."""


class PredictedDepth:
    """A folder of depth; a DepthModel. unit_m: metres per step of a PNG."""

    answers_every = 1

    def __init__(self, name: str, folder: Path, unit_m: float = METRES_PER_MILLIMETRE) -> None:
        self.name = name
        self._folder = folder
        self._unit_m = unit_m
        self._told = False

    def check(self, clips: Sequence[Clip]) -> None:
        """Raises DktError where there is no folder for any of the clips."""
        if not any((self._folder / clip.name).is_dir() for clip in clips):
            expected = self._folder / clips[0].name / f"{clips[0].keys[0]}.png"
            raise DktError(
                f"--predictions {self.name}={self._folder}: no folder is named as a video of the "
                f"data; expected files such as {expected} (or .exr, .npz, .npy)"
            )

    def state(self, clip: Clip) -> str:
        """Another where the files of a clip's folder hold something else."""
        folder, digest = self._folder / clip.name, hashlib.sha256()
        for path in sorted(shown(folder)) if folder.is_dir() else ():
            if path.is_file():
                digest.update(f"{path.name} {sha256(path)}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()[:16]

    def depths(
        self,
        video: Video,
        truth: np.ndarray,
        alignments: Sequence[str],
    ) -> dict[str, Depths]:
        """See DepthModel. Raises DktError where the video has no folder, or one without depth."""
        if video.clip is None:
            raise DktError("a video of no data set: its frames have no names to find files by")
        files, left = self._files(video.clip)
        others = f"; {counted(len(left), 'other')} of no frame, such as {left[0]}" if left else ""
        stems = [Path(name).stem for name in left]
        if stems and all(stem.isdecimal() for stem in stems):
            most = max(map(int, stems))
            others += f": numbers go to {most}, the video's frames from 0 to {len(video.clip) - 1}"
        depth = np.full(video.truth.shape, np.nan, np.float32)
        problems = {}
        for frame, index in enumerate(video.indices):
            try:
                if index not in files:
                    expected = self._folder / video.clip.name / video.clip.keys[index]
                    raise DktError(f"no file {expected}.png, .exr, .npz or .npy{others}")
                depth[frame] = self._read_frame(files[index], video.size)
            except DktError as error:
                problems[index] = str(error)
        self._look_at_scale(depth, video.truth)
        return {FROM_FILES: Depths(depth, problems=problems)}

    def _look_at_scale(self, depth: np.ndarray, truth: np.ndarray) -> None:
        """Tells, once, of what is disparity, or depth in another unit, by all appearances."""
        known = np.isfinite(depth) & np.isfinite(truth)
        if self._told or not known.any():
            return
        given, true = np.log(depth[known]), np.log(truth[known])
        if min(given.std(), true.std()) > _FLAT:
            likeness = float(np.corrcoef(given, true)[0, 1])
            if likeness < _INVERSE:
                self._told = True
                _log.warning(
                    "%s: its depth falls where the truth rises (correlation %.2f): is it "
                    "disparity? expected metres; align and invert it first",
                    self.name,
                    likeness,
                )
                return
        times = float(np.median(depth[known] / truth[known]))
        if not 1 / _OTHER_UNIT < times < _OTHER_UNIT:
            self._told = True
            _log.warning(
                "%s: its depth is %.4g times the truth in the median; is a step of %g m right "
                "(--prediction-unit), and are floats in metres?",
                self.name,
                times,
                self._unit_m,
            )

    def _files(self, clip: Clip) -> tuple[dict[int, Path], list[str]]:
        """Place in the clip to the frame's file, and names of files that are of no frame.

        Raises DktError where there is no file, two files are of one frame, or numbers may be
        those in the frames' names as well as their places.
        """
        folder = self._folder / clip.name
        if not folder.is_dir():
            raise DktError(f"{folder}: {no_folder(folder)}")
        there = sorted(shown(folder))
        found = [path for path in there if path.suffix.lower() in _ENDINGS]
        if not found:
            holds = f"{there[0].name} and so on" if there else "nothing"
            raise DktError(
                f"{folder}: holds {holds}, expected a file for each frame that ends in "
                f"{', '.join(_ENDINGS)}"
            )
        stems = {path.stem for path in found}
        places = {key: place for place, key in enumerate(clip.keys)}
        if not stems <= places.keys() and all(
            stem.isdecimal() and int(stem) < len(clip) for stem in stems
        ):
            by_number = {int(ends[0]): key for key in places if (ends := _NUMBER.findall(key))}
            meant = {stem: by_number.get(int(stem)) for stem in stems}
            apart = [(stem, key) for stem, key in meant.items() if key != clip.keys[int(stem)]]
            if apart and None not in meant.values():
                stem, key = min(apart, key=str)
                raise DktError(
                    f"{folder}: {stem} may be the frame {key} or, as its place from 0, "
                    f"{clip.keys[int(stem)]}; name files as the frames are"
                )
            places = {stem: int(stem) for stem in stems}
        files: dict[int, Path] = {}
        for path in found:
            if path.stem in places and files.setdefault(places[path.stem], path) != path:
                other = files[places[path.stem]].name
                raise DktError(f"{folder}: {other} and {path.name} are of one frame; keep one")
        return files, [path.name for path in found if path.stem not in places]

    def _read_frame(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        depth = read_depth(path, self._unit_m)
        if depth.shape != size:
            shape = "x".join(map(str, depth.shape[::-1]))
            raise DktError(f"{path}: is {shape}, expected {size[1]}x{size[0]} as the picture")
        if np.isnan(depth).all():
            raise DktError(f"{path}: holds no depth above zero")
        return depth


def parse_predictions(
    words: Collection[str], unit_m: float, taken: Collection[str]
) -> list[PredictedDepth]:
    """From NAME=DIR, as the command line has it. taken: names of other rows.

    Raises DktError for what is none, for a name that is taken, for a folder that is not there and
    for a unit that is no length or of nothing.
    """
    if not (math.isfinite(unit_m) and unit_m > 0):
        raise DktError(f"--prediction-unit is {unit_m:g}, expected metres per step above 0")
    if unit_m != METRES_PER_MILLIMETRE and not words:
        raise DktError(
            f"--prediction-unit {unit_m:g} applies to the files of --predictions, which is not "
            "given: expected --predictions NAME=DIR too"
        )
    models: dict[str, PredictedDepth] = {}
    for word in words:
        name, _, folder = (part.strip() for part in word.partition("="))
        if not name or not folder:
            raise DktError(f"--predictions {word}: expected NAME=DIR, such as mine=out/depth")
        if name in models or name in taken:
            raise DktError(f"--predictions {word}: {name!r} names another row; take another name")
        path = Path(folder).expanduser()
        models[name] = PredictedDepth(name, path, unit_m)
        if not path.is_dir():
            raise DktError(f"--predictions {word}: {no_folder(path)}")
    return list(models.values())
