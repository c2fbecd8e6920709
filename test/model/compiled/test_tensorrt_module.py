"""Which TensorRT this is written for."""

from __future__ import annotations

import pytest

from dkt_ros.errors import DktError
from dkt_ros.model.compiled.tensorrt_module import check_version


@pytest.mark.parametrize("version", ["10.8.0.43", "10.16.1", "11.0.0", "11.4.1.7"])
def test_versions_this_was_written_for(version: str) -> None:
    check_version(version)


@pytest.mark.parametrize("version", ["8.6.1", "10.7.0", "12.0.0"])
def test_other_versions_are_refused(version: str) -> None:
    with pytest.raises(DktError, match=f"TensorRT is {version}, expected 10.8 to 11"):
        check_version(version)
