"""numpy and torch through one code path, and what it brings to the host."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fixtures.transfers import DEVICE, DeviceTensor, PretendDevice

from dkt_ros import arrays


def test_numpy_stays_what_it_is() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert arrays.to_host(array) is array
    assert arrays.float32(array) is array
    assert arrays.float32(array, copy=True) is not array
    assert arrays.download(array, array)[1] is array
    assert arrays.constant(array, arrays.device_of(array)) is array
    assert not arrays.is_tensor([1.0])


def test_a_tensor_on_a_cpu_shares_its_memory() -> None:
    tensor = torch.arange(3.0)
    arrays.to_host(tensor)[0] = 7.0
    assert tensor[0] == 7.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_which_numbers_are_floats(dtype: type) -> None:
    array: np.ndarray = np.zeros(2, dtype)
    floats = dtype is not np.int64
    assert arrays.is_floating(array) is floats
    assert arrays.is_floating(torch.from_numpy(array)) is floats


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_quantiles_are_numpy_s(count: int, dtype: type) -> None:
    values: np.ndarray = np.random.default_rng(count).normal(size=(1, count)).astype(dtype)
    shares = (0.0, 0.02, 0.5, 0.98, 1.0)
    found = arrays.quantiles(values, *shares)
    np.testing.assert_allclose(found, np.quantile(values.astype(np.float64), shares), rtol=1e-6)
    values[0, 0] = np.nan
    assert np.isnan(arrays.quantiles(values, *shares)).all()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 999, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_median_is_numpy_s(count: int, dtype: type) -> None:
    values: np.ndarray = np.random.default_rng(count).uniform(0, 255, (1, count)).astype(dtype)
    assert arrays.median(values) == pytest.approx(np.median(values.astype(np.float64)), rel=1e-6)
    if dtype is not np.uint8:
        values[0, count // 2] = np.nan
        assert np.isnan(arrays.median(values))


def test_some_of_the_values_under_a_mask() -> None:
    chance = np.random.default_rng(0)
    values, mask = chance.normal(size=(7, 9)), chance.random((7, 9)) > 0.5
    np.testing.assert_array_equal(arrays.some_where(mask, values), values[mask])
    np.testing.assert_array_equal(arrays.some_where(mask, values, 4), values[mask][::4])
    assert len(arrays.some_where(np.zeros_like(mask), values)) == 0


def test_several_arrays_in_one_download() -> None:
    points = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    colours = np.arange(15, dtype=np.uint8).reshape(5, 3)
    with PretendDevice() as device:
        held = [torch.from_numpy(points).to(DEVICE), torch.from_numpy(colours).to(DEVICE)]
        brought = arrays.download(*held)
    assert device.crossings.downloads == [5 * 3 * 4 + 5 * 3]
    np.testing.assert_array_equal(brought[0], points)
    np.testing.assert_array_equal(brought[1], colours)
    assert [array.dtype for array in brought] == [np.float32, np.uint8]


def test_rows_are_picked_alike() -> None:
    mask = np.array([True, False, True])
    rows, numbers = np.arange(6.0).reshape(3, 2), np.arange(3)
    ours = arrays.rows_where(mask, rows, numbers)
    tensors = [torch.from_numpy(mask), torch.from_numpy(rows), torch.from_numpy(numbers)]
    theirs = arrays.rows_where(*tensors)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b.numpy())
    np.testing.assert_array_equal(ours[0], [[0, 1], [4, 5]])


def test_reciprocals_in_place() -> None:
    array = np.array([2.0, 4.0], np.float32)
    tensor = torch.from_numpy(array.copy())
    arrays.invert(array)
    arrays.invert(tensor)
    assert array.tolist() == tensor.tolist() == [0.5, 0.25]


def test_writing_to_the_host_is_one_download() -> None:
    host = np.zeros((2, 2), np.float32)
    with PretendDevice() as device:
        arrays.write_to(host, torch.ones(2, 2, device=DEVICE))
    assert host.all()
    assert device.crossings.downloads == [16]
    arrays.write_to(host, np.full((2, 2), 3.0))
    assert (host == 3.0).all()


class TestThePretendedDevice:
    """What the counts above and elsewhere rest on."""

    def test_values_come_back_as_they_went(self) -> None:
        with PretendDevice() as device:
            tensor = torch.arange(4.0).to(DEVICE)
            assert isinstance(tensor, DeviceTensor)
            tensor[tensor > 2] = -1.0
            tensor.add_(1.0)
            assert tensor.cpu().tolist() == [1.0, 2.0, 3.0, 0.0]
            assert tensor[1].item() == 2.0
        assert device.crossings.uploads == [16]
        assert device.crossings.downloads == [16]
        assert device.crossings.reads == ["aten._local_scalar_dense.default"]

    def test_the_host_s_tensors_do_not_mix_with_its_own(self) -> None:
        with PretendDevice(), pytest.raises(AssertionError, match="and on the host"):
            torch.ones(2, device=DEVICE) + torch.ones(2)

    def test_numpy_cannot_read_it(self) -> None:
        with PretendDevice(), pytest.raises((TypeError, RuntimeError)):
            torch.ones(2, device=DEVICE).numpy()
