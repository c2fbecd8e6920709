"""Metric depth of transparent and reflective objects for ROS 2."""

# The generated messages (dkt_ros.msg) lie in the colcon install folder, beside a copy of these
# sources: with both on the path, one package is made of the two, whichever comes first.
from pkgutil import extend_path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dkt_ros.errors import DktError as DktError
    from dkt_ros.estimator import DepthEstimator as DepthEstimator
    from dkt_ros.estimator import EstimatorConfig as EstimatorConfig
    from dkt_ros.estimator import load_estimator as load_estimator
    from dkt_ros.evaluation.metrics import frame_errors as frame_errors
    from dkt_ros.frames import Frame as Frame
    from dkt_ros.frames import frames_of as frames_of
    from dkt_ros.geometry import Intrinsics as Intrinsics
    from dkt_ros.predict.options import PredictorOptions as PredictorOptions
    from dkt_ros.processing.api import process as process
    from dkt_ros.processing.source import SourceOptions as SourceOptions

__path__ = extend_path(__path__, __name__)

_HOMES = {
    "errors": ("DktError",),
    "estimator": ("DepthEstimator", "EstimatorConfig", "load_estimator"),
    "evaluation.metrics": ("frame_errors",),
    "frames": ("Frame", "frames_of"),
    "geometry": ("Intrinsics",),
    "predict.options": ("PredictorOptions",),
    "processing.api": ("process",),
    "processing.source": ("SourceOptions",),
}
__all__ = [name for names in _HOMES.values() for name in names]


def __getattr__(name: str) -> object:
    """The package's own names, imported at their first use: `import dkt_ros` stays light."""
    from importlib import import_module

    for home, names in _HOMES.items():
        if name in names:
            try:
                return getattr(import_module(f"{__name__}.{home}"), name)
            except ModuleNotFoundError as error:
                if (remedy := import_module(f"{__name__}.extras").advice(error)) is None:
                    raise
                raise ModuleNotFoundError(remedy, name=error.name) from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
