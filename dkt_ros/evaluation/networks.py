"""From options to the methods that `dkt eval` measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dkt_ros.errors import DktError
from dkt_ros.evaluation.evaluate import Methods
from dkt_ros.evaluation.models import MAIN_ALIGNMENTS, DepthModel, PredictorModel
from dkt_ros.fusion.config import FusionConfig
from dkt_ros.fusion.weights import check_weights
from dkt_ros.predict.load import load_normals, load_predictors, task_of
from dkt_ros.predict.options import PredictorOptions


def load_methods(
    networks: Sequence[PredictorOptions],
    modes: Sequence[str] = ("exact",),
    alignments: Sequence[str] = MAIN_ALIGNMENTS,
    with_normals: bool = True,
    fusion: FusionConfig | None = None,
) -> tuple[list[str], Methods]:
    """Loads every network in every mode; their names, and the methods in the order of the table.

    One network's rows are called `dkt exact` and `dkt live`, several networks' after their
    checkpoints. Beside an engine stands the same network computed by torch, and comes first.
    fusion: how depth is fused; None as the node does. Raises DktError naming the option that does
    not fit.
    """
    fusion = fusion or FusionConfig()
    check_weights(fusion.weights)
    names: list[str] = []
    models: list[DepthModel] = []
    for options in networks:
        if task_of(options) == "normal":
            if len(networks) > 1 or tuple(modes) != ("exact",):
                raise DktError(
                    f"{options.checkpoint} predicts normals, for which there is no live sampler "
                    "and no other row; take it alone, with --mode exact"
                )
            if not with_normals:
                raise DktError(
                    f"{options.checkpoint} predicts normals; --no-normals leaves nothing"
                )
            info, predict = load_normals(options)
            return [info.name], Methods(predict_normals=predict)
        predictors = load_predictors(options, modes)
        name = predictors[modes[0]].info.name
        names.append(name if name not in names else f"{name} ({options.checkpoint})")
        label = "dkt" if len(networks) == 1 and options.predictor == "dkt" else names[-1]
        if options.predictor == "dkt" and options.backend != "torch":
            labels = {mode: f"{label} {mode} {options.backend}" for mode in predictors}
            size = "{}x{}".format(*predictors[modes[0]].network_size(480, 832))  # the engine's own
            by_torch = replace(options, backend="torch", engine_dir="", inference_size=size)
            models += [
                PredictorModel(f"{label} {mode}", predictor, fusion)
                for mode, predictor in load_predictors(by_torch, modes).items()
            ]
        else:
            labels = {mode: f"{label} {mode}" for mode in predictors}
        models += [PredictorModel(labels[mode], p, fusion) for mode, p in predictors.items()]
    return names, Methods(models, alignments, with_normals=with_normals)
