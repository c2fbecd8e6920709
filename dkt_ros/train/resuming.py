"""Where a run goes on from, and whether the recipe still is that run's.

Knows a run's folder and what a state says of its recipe. Knows nothing of networks or steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dkt_ros.errors import DktError
from dkt_ros.files import sha256
from dkt_ros.model.merge import transformer_weights
from dkt_ros.progress import Report
from dkt_ros.train.fields import changed, plain
from dkt_ros.train.recipe import Recipe, as_in_file
from dkt_ros.train.small_trainer import check_steps, report_changes
from dkt_ros.train.states import States, read_state

RECIPE_FILE = "recipe.yaml"
_FIXED = ("method", "seed", "batch", "latent_frames", "objective")


def starting_state(
    recipe: Recipe, output: Path, states: States, resume: bool, report: Report
) -> dict[str, Any] | None:
    """The newest state of the run in `output`, or None to begin.

    What would make it another run is refused, other changes of the recipe are reported. Raises
    DktError where there is a run already without `resume`, none with it, or a damaged one.
    """
    latest = states.latest()
    if not resume:
        if latest is not None:
            raise DktError(f"{output} holds a run already; add --resume or name another folder")
        return None
    if latest is None:
        if (output / RECIPE_FILE).exists():  # ended before its first state
            return None
        raise DktError(f"{output} holds no run to resume; start without --resume")
    state = read_state(latest)
    _compare(state, recipe, latest, report)
    return state


def _compare(state: dict[str, Any], recipe: Recipe, latest: Path, report: Report) -> None:
    """What would make another run of it is refused by name; other changes are reported."""
    before, now = state["recipe"], plain(recipe)
    check_steps(latest, state["done"], recipe.steps)
    fixed = [*_FIXED, *(["lora"] if recipe.method == "lora" else [])]
    for name in fixed:
        for field, was, asked in changed({name: before.get(name)}, {name: now[name]}):
            raise DktError(
                f"{latest}: {field} was {was}, the recipe says {asked}; another run needs another "
                "folder"
            )
    shown = before["data"].get("condition", "none"), now["data"]["condition"]
    if shown[0] != shown[1]:
        raise DktError(f"{latest}: condition was {shown[0]}, the recipe says {shown[1]}")
    if (before["ema"] > 0) != (now["ema"] > 0):
        raise DktError(f"{latest}: ema was {before['ema']}, the recipe says {now['ema']}")
    if state["base"] != base_digest(recipe):
        raise DktError(
            f"{latest}: checkpoint {recipe.checkpoint} holds other weights than the run began with"
        )
    report_changes(as_in_file(before), as_in_file(now), report)


def judged_alike(before: dict[str, Any], recipe: Recipe) -> bool:
    """Whether a state's validation loss compares with the recipe's: of the same clips, seen alike.

    before: the state's recipe.
    """
    return not any(changed(_judged(before), _judged(plain(recipe))))


def _judged(recipe: dict[str, Any]) -> dict[str, Any]:
    data, preview = recipe["data"], recipe["preview"]
    sources = data["validation"] or data["data"]
    return {
        "sources": [{k: v for k, v in one.items() if k != "weight"} for one in sources],
        **{k: v for k, v in data.items() if k in ("size", "disparity", "condition")},
        **{k: v for k, v in preview.items() if k in ("clips", "frames", "seed")},
    }


def base_digest(recipe: Recipe) -> str:
    """Tells the weights of one base checkpoint from another's."""
    files = transformer_weights(recipe.checkpoint_folder()).files
    return " ".join(sha256(file) for file in files)
