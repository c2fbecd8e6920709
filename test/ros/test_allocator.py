"""Freed memory of images is used again: the system is not asked for it with every frame."""

import subprocess
import sys

import pytest

IMAGES = """
import resource, sys
from threading import Thread
import numpy as np
from dkt_ros.ros.allocator import keep_freed_images

if sys.argv[1] == "kept":
    assert keep_freed_images()

def make():
    def some():
        images = [np.ones((720, 1280), np.float32) for _ in range(4)]
    some()
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(10):
        some()
    print(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)

thread = Thread(target=make)
thread.start()
thread.join()
"""
PAGES = 720 * 1280 * 4 // 4096


def faults(how: str) -> int:
    words = [sys.executable, "-c", IMAGES, how]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_images_freed_and_made_again_take_the_same_memory() -> None:
    assert faults("left") > 10 * PAGES  # else there is nothing to mend
    assert faults("kept") < PAGES / 10
