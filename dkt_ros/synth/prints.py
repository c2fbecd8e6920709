"""Pictures of what is printed on labels, cartons and paper. Knows nothing of scenes."""

from __future__ import annotations

import cv2
import numpy as np

from dkt_ros.lettering import write_words

_WIDTH, _HEIGHT = 256, 320
_LETTERS = list("ABCDEFGHIJKLMNOPRSTUVWXZabcdefghiklmnoprstuvz0123456789%.,-")


def draw_print(
    paper: tuple[float, float, float], ink: tuple[float, float, float], seed: int
) -> np.ndarray:
    """(H,W,3) float32: a title, a coloured field or a disc, lines of text, at times a bar code."""
    random = np.random.default_rng(seed)
    picture = np.empty((_HEIGHT, _WIDTH, 3), np.float32)
    picture[:] = paper
    dark = (0.03, 0.03, 0.04) if random.random() < 0.6 else ink
    y = int(random.integers(5, 40))
    if random.random() < 0.7:
        deep = int(random.integers(30, 120))
        picture[y : y + deep] = ink
        _words(picture, random, y + int(0.65 * deep), min(0.02 * deep, 1.6), paper, 3)
        y += deep + 15
    if random.random() < 0.45:
        radius = int(random.integers(18, 50))
        centre = int(random.integers(40, _WIDTH - 40)), y + radius
        cv2.circle(picture, centre, radius, ink, -1, cv2.LINE_AA)
        cv2.circle(picture, centre, radius // 2, dark, 2, cv2.LINE_AA)
        y += 2 * radius + 12
    size = random.uniform(0.3, 0.7)
    while y < _HEIGHT - 40:
        y += int(32 * size) + 3
        if random.random() < 0.85:
            _words(picture, random, y, size, dark, 1)
    if random.random() < 0.5:
        left = int(random.integers(10, 120))
        picture[-34:-6, left - 4 : left + 84] = 0.9
        for x in range(left, left + 80, 4):
            picture[-32:-8, x : x + int(random.integers(1, 4))] = 0.02
    return picture


def _words(
    picture: np.ndarray,
    random: np.random.Generator,
    y: int,
    size: float,
    colour: tuple[float, float, float],
    thick: int,
) -> None:
    letters = ["".join(random.choice(_LETTERS, random.integers(2, 9))) for _ in range(6)]
    place = int(random.integers(4, 30)), y
    font = cv2.FONT_HERSHEY_SIMPLEX if random.random() < 0.7 else cv2.FONT_HERSHEY_COMPLEX
    write_words(picture, " ".join(letters), place, size, colour, thick, font)
