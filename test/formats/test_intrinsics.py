"""Intrinsics out of every file that a lab has, or one line that says what was found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from dkt_ros.errors import DktError
from dkt_ros.formats.intrinsics import (
    checked_intrinsics,
    read_intrinsics,
    stated_depth_unit,
    stated_distortion,
)

ECHO = """header:
  stamp:
    sec: 1700000000
    nanosec: 0
  frame_id: camera_color_optical_frame
height: 4
width: 6
distortion_model: plumb_bob
d:
- 0.0
- 0.0
k:
- 10.0
- 0.0
- 3.0
- 0.0
- 11.0
- 2.0
- 0.0
- 0.0
- 1.0
p:
- 9.0
- 0.0
roi:
  x_offset: 0
  height: 0
  width: 0
---
"""
OPENCV = """%YAML:1.0
---
image_width: 6
image_height: 4
camera_matrix: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 10., 0., 3., 0., 11., 2., 0., 0., 1. ]
distortion_coefficients: !!opencv-matrix
   rows: 1
   cols: 2
   dt: d
   data: [ 0., 0. ]
"""
KALIBR = """cam0:
  camera_model: pinhole
  distortion_coeffs: [0.1, 0.0, 0.0, 0.0]
  intrinsics: [10.0, 11.0, 3.0, 2.0]
  resolution: [6, 4]
  T_cam_imu: [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
cam1:
  camera_model: pinhole
  intrinsics: [20.0, 22.0, 6.0, 4.0]
  resolution: [12, 8]
"""
OST = """# oST version 5.0 parameters


[image]

width
6

height
4

[narrow_stereo]

camera matrix
10.000000 0.000000 3.000000
0.000000 11.000000 2.000000
0.000000 0.000000 1.000000

distortion
-0.1 0.2 0.0 0.0 0.0

projection
9.000000 0.000000 3.000000 0.000000
0.000000 9.000000 2.000000 0.000000
0.000000 0.000000 1.000000 0.000000
"""
XML = """<?xml version="1.0"?>
<opencv_storage>
<image_Width>6</image_Width>
<image_Height>4</image_Height>
<Camera_Matrix type_id="opencv-matrix">
  <rows>3</rows><cols>3</cols><dt>d</dt>
  <data>
    10. 0. 3. 0. 11. 2. 0. 0. 1.</data></Camera_Matrix>
<!-- no more -->
</opencv_storage>
"""
CONF = """[LEFT_CAM_VGA]
fx=10 # pixels
fy=11
cx=3
cy=2
k1=-0.17

[STEREO]
Baseline=120.0
"""


def printed(stream: str, size: str, fx: int) -> str:
    """A block of what rs-enumerate-devices -c prints."""
    width, height = size.split("x")
    fields = {"Width": width, "Height": height, "PPX": 3, "PPY": 2, "Fx": fx, "Fy": 11}
    lines = [f"  {name}: \t{value}" for name, value in fields.items()]
    lines += ["  Distortion: \tInverse Brown Conrady", "  FOV (deg):  \t70.29 x 43.3"]
    return f' Intrinsic of "{stream}" / {size} / {{RGB8}}\n' + "\n".join(lines) + "\n\n"


FORMS = {
    "ost.txt": OST,
    "opencv.xml": XML,
    "zed.conf": CONF,
    "printed.txt": "D = [0.1, 0.0]\nK = [10.0, 0.0, 3.0, 0.0,\n 11.0, 2.0, 0.0, 0.0, 1.0]\n"
    "R = [1.0, 0.0]\nP = [9.0, 0.0]\n",
    "pyrealsense2.txt": "[ 6x4  p[3 2]  f[10 11]  Inverse Brown Conrady [0 0 0 0 0] ]",
    "scannet.txt": "10 0 3 0\n0 11 2 0\n0 0 1 0\n0 0 0 1\n",
    "plain.yaml": "fx: 10\nfy: 11\ncx: 3\ncy: 2\n",
    "sized.yaml": "xres: 6\nyres: 4\nfx: 10\nfy: 11\ncx: 3\ncy: 2\n",
    "ros.yaml": "image_width: 6\nimage_height: 4\ncamera_name: c\ncamera_matrix:\n  rows: 3\n"
    "  cols: 3\n  data: [10, 0, 3, 0, 11, 2, 0, 0, 1]\nprojection_matrix:\n  rows: 3\n  cols: 4\n"
    "  data: [9, 0, 3, 0, 0, 9, 2, 0, 0, 0, 1, 0]\n",
    "latin.yaml": "# f\xfcr die Kamera\nfx: 10\nfy: 11\ncx: 3\ncy: 2\n",
    "flat.yaml": "K: [10, 0, 3, 0, 11, 2, 0, 0, 1]\n",
    "nested.yaml": "K: [[10, 0, 3], [0, 11, 2], [0, 0, 1]]\n",
    "echo.yaml": ECHO,
    "two_echoes.yaml": ECHO + ECHO,
    "opencv.yaml": OPENCV,
    "kalibr.yaml": KALIBR,
    "open3d.json": '{"width": 6, "height": 4, "intrinsic_matrix": [10,0,0,0,11,0,3,2,1]}',
    "bop_camera.json": '{"cx": 3, "cy": 2, "depth_scale": 0.1, "fx": 10, "fy": 11, "height": 4,'
    '\n\t"width": 6}',
    "bop_scene.json": '{"0": {"cam_K": [10,0,3,0,11,2,0,0,1], "depth_scale": 1.0},'
    '"1": {"cam_K": [10,0,3,0,11,2,0,0,1]}}',
    "realsense.json": '{"color": {"fx": 10, "fy": 11, "ppx": 3, "ppy": 2, "width": 6, "height": 4},'
    '"depth": {"fx": 5, "fy": 5, "ppx": 2, "ppy": 2, "width": 4, "height": 4}}',
    "rs_enumerate.txt": " Width:\t6\n Height:\t4\n PPX:\t3\n PPY:\t2\n Fx:\t10\n Fy:\t11\n",
    "rs_enumerate_all.txt": "Device info: \n    Name : \tD415\n\nIntrinsic Parameters:\n\n"
    + printed("Depth", "6x4", 99)
    + printed("Color", "12x8", 98)
    + printed("Color", "6x4", 10),
    "named.txt": "fx = 10\nfy = 11\ncx = 3\ncy = 2\n",
    "orb_slam.yaml": "%YAML:1.0\nCamera.fx: 10.0\nCamera.fy: 11.0\nCamera.cx: 3\nCamera.cy: 2\n",
    "matrix.txt": "1.0e1 0 3\n0 11. 2\n0 0 1\n",
    "brackets.txt": "[[10, 0, 3],\n [0, 11, 2],\n [0, 0, 1]]\n",
    "projection.txt": "10,0,3,0\n0,11,2,0\n0,0,1,0\n",
    "four.txt": "10 11 3 2\n",
    "foundation_stereo.txt": "10 0 3 0 11 2 0 0 1\n0.063\n",
    "own.json": '{"camera_intrinsics": [[10, 0, 3], [0, 11, 2], [0, 0, 1]]}',
    "matlab.json": '{"IntrinsicMatrix": [[10, 0, 0], [0, 11, 0], [3, 2, 1]]}',
}


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_read(tmp_path: Path, name: str, windows: bool) -> None:
    (tmp_path / name).write_text(FORMS[name], "latin-1")
    if windows:  # as its editors save it
        text = FORMS[name].replace("\n", "\r\n")
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    elif name.startswith("rs_enumerate"):  # into a file, by Windows' shell
        (tmp_path / name).write_text(FORMS[name], "utf-16")
    found = read_intrinsics(tmp_path / name, 6, 4)
    assert (found.fx, found.fy, found.cx, found.cy) == (10, 11, 3, 2)
    assert (found.width, found.height) == (6, 4)


BENT = {"ost.txt", "zed.conf", "printed.txt", "kalibr.yaml"}
PLAIN = "fx: 10\nfy: 11\ncx: 3\ncy: 2\n"


@pytest.mark.parametrize("name", FORMS)
def test_distortion_is_found_in_the_forms_that_tell_of_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FORMS[name], "latin-1")
    assert stated_distortion(tmp_path / name, 6, 4) == ("distortion" if name in BENT else "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FORMS["ros.yaml"] + "distortion_model: plumb_bob\ndistortion_coefficients:\n  rows: 1\n"
         "  cols: 5\n  data: [0, 0, 0, 0, 0]\n", ""),
        (FORMS["ros.yaml"] + "distortion_coefficients: {rows: 1, cols: 2, data: [0.1, 0]}\n",
         "distortion"),
        (OPENCV.replace("[ 0., 0. ]", "[ 0., -1.e-02 ]"), "distortion"),
        (PLAIN + "distortion: {k1: 0.1, k2: 0}\n", "distortion"),
        (PLAIN + "distortion: {model: radtan, k1: 0, k2: 0}\n", ""),
        (PLAIN + "Camera.p2: 1.0e-3\n", "distortion"),
        (PLAIN + "camera_model: OPENCV_FISHEYE\n", "OPENCV_FISHEYE"),
        (PLAIN + "distortion_model: equidistant\nD: [0, 0, 0, 0]\n", "equidistant"),
        (PLAIN + "model: D435\ncoeffs: [0, 0, 0, 0, 0]\n", ""),
        (PLAIN + "distortion: null\n", ""),
        ("[ 6x4  p[3 2]  f[10 11]  Brown Conrady [0.1 0 0 0 0] ]", "distortion"),
        ("[ 6x4  p[3 2]  f[10 11]  Kannala Brandt4 [0 0 0 0 0] ]", "Kannala Brandt4"),
        ("fx: 10\n", ""),
    ],
)  # fmt: skip
def test_what_bends_the_pictures(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "camera.yaml").write_text(text)
    assert stated_distortion(tmp_path / "camera.yaml", 6, 4) == expected


def test_a_numpy_matrix_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", np.array([[10, 0, 3], [0, 11, 2], [0, 0, 1]]))
    assert read_intrinsics(tmp_path / "k.npy", 6, 4).cx == 3


def test_the_size_may_come_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(FORMS["sized.yaml"])
    assert read_intrinsics(tmp_path / "c.yaml").width == 6
    (tmp_path / "c.yaml").write_text("width: 0\nheight: 0\n" + FORMS["sized.yaml"])
    assert read_intrinsics(tmp_path / "c.yaml").width == 6
    (tmp_path / "c.yaml").write_text(FORMS["plain.yaml"])
    with pytest.raises(DktError, match="does not tell the pictures' size"):
        read_intrinsics(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- " * 3000, "no usable intrinsics .*recursion"),
        ('{"a":' * 3000, "no usable intrinsics .*recursion"),
        ("MATLAB 5.0 MAT-file\0\0", "it is no text, nor an .npy; write the numbers down"),
        ("xres: 12\nyres: 8\nfx: 1\nfy: 1\ncx: 1\ncy: 1\n", "12x8, the pictures are 6x4"),
        ("fx: 1\n", "fy and cx and cy missing"),
        ("fx: a\nfy: 1\ncx: 1\ncy: 1\n", "no usable intrinsics .*'a'"),
        ("10 0 nan\n0 11 2\n0 0 1\n", "cx=nan"),
        ("10 -Inf 3 2\n", "fy=-inf"),
        ("# mine\nfx = 10\nfy = 11\nFX = 20\ncx = 3\ncy = 2\n", "it names several cameras"),
        ("# mine\nfx = nan\nfy = 11\ncx = 3\ncy = 2\n", "fx=nan"),
        ("K: [10, 0, 3, 0, .Nan, 2, 0, 0, 1]\n", "k is .*'.Nan'"),
        ("fx: 1\nfy: 1\ncx: '1,5'\ncy: 1\n", "cx is '1,5', no number"),
        ('{"width": 6, "height": Infinity, "fx": 1, "fy": 1, "cx": 1, "cy": 1}', "6 and inf"),
        ("fx fy cx cy\n10 11 3 2\n", "neither numbers nor JSON nor YAML"),
        ("K: [1, 2]\n", "found 2 numbers"),
        ("525.0 525.0 3 2 0.26 -0.95 0 0 0\n", "ends in .*, a camera's matrix in 0, 0, 1"),
        ("- 1\n", "found 1 numbers"),
        ("", "no intrinsics found"),
        ("a: [", "neither numbers nor JSON nor YAML"),
        ("date: 2026-99-99", "neither numbers nor JSON nor YAML: month must"),
        ("hello", "found str 'hello'"),
        ("<?xml version='1.0'?><a>", "damaged XML"),
        (OST.replace("6\n", "12\n").replace("4\n", "8\n"), "12x8, the pictures are 6x4"),
        (CONF + CONF.replace("LEFT", "RIGHT").replace("10", "9"), "holds 2 cameras"),
        ("[camera]\n", "no intrinsics found"),
        ("{}", "no intrinsics found"),
        ("header: {frame_id: a}\nwidth: 6\nheight: 4\n", "no intrinsics found"),
        (KALIBR.replace("[12, 8]", "[6, 4]"), "holds 2 cameras \\(cam0, cam1\\)"),
        (KALIBR.replace("pinhole", "omni"), "camera_model is omni"),
        (ECHO.replace("10.0", "0.0"), "positive focal lengths"),
        ("5000 5000 10000 9000", "principal point .* outside pictures of 6x4"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(DktError, match=words) as caught:
        read_intrinsics(tmp_path / "c.yaml", 6, 4)
    assert "\n" not in str(caught.value)


def test_a_damaged_numpy_file_and_unknown_numbers_are_named(tmp_path: Path) -> None:
    (tmp_path / "K.npy").touch()
    with pytest.raises(DktError, match=r"K\.npy: cannot be read as numpy's"):
        read_intrinsics(tmp_path / "K.npy", 6, 4)
    (tmp_path / "c.json").write_text('{"fx": 10, "fy": 10, "cx": NaN, "cy": 2}')
    with pytest.raises(DktError, match=r"c\.json: intrinsics .* cx=nan"):
        read_intrinsics(tmp_path / "c.json", 6, 4)


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(DktError, match=r"focal lengths 0\.8 and 0\.9 do not suit"):
        checked_intrinsics(0.8, 0.9, 0.5, 0.5, 1280, 720, source="--pinhole")
    with pytest.raises(DktError, match=r"focal lengths 900 and 9 do not suit"):
        checked_intrinsics(900, 9, 640, 360, 1280, 720, source="--pinhole")
    with pytest.raises(DktError, match=r"--pinhole: the principal point \(10000, 9000\)"):
        checked_intrinsics(5000, 5000, 10000, 9000, 1280, 720, source="--pinhole")
    assert checked_intrinsics(900, 900, 360, 1270, 720, 1280, source="--pinhole").cy == 1270
    with pytest.raises(DktError, match=r"principal point \(1270, 360\) lies outside .* 720x1280"):
        checked_intrinsics(900, 900, 1270, 360, 720, 1280, source="--pinhole")


@pytest.mark.parametrize(
    ("text", "unit_m"),
    [
        ('{"0": {"cam_K": [9, 0, 5, 0, 9, 4, 0, 0, 1], "depth_scale": 0.1}}', 0.0001),  # BOP
        ('{"0": {"depth_scale": 1.0}, "1": {"depth_scale": 1.0}}', 0.001),
        ('{"fx": 600, "depth_scale": 0.0010000000474974513}', 0.001),  # RealSense
        ('{"fx": 600, "depth_scale": 0.0001}', 0.0001),
        ('{"width": 640, "depth_scale": 1000.0}', 0.001),  # Open3D
        ("%YAML:1.0\nCamera.fx: 535.4\nDepthMapFactor: 5000.0\n", 0.0002),  # ORB-SLAM
        ("%YAML:1.0\nRGBD.DepthMapFactor: 5000.0\n", 0.0002),
        ("cam:\n  H: 680\n  W: 1200\n  fx: 600.0\n  png_depth_scale: 6553.5\n", 1 / 6553.5),
        ('{"color": {"fx": 600}, "depth_units": 0.00025}', 0.00025),  # librealsense
        ('{"intrinsic_matrix": [9], "factor_depth": 1000}', 0.001),  # GraspNet, YCB-Video
        ('{"camera": {"w": 1200, "fx": 600, "scale": 6553.5}}', 1 / 6553.5),  # Replica's
        ('{"fl_x": 600, "integer_depth_scale": 0.00025}', 0.00025),  # instant-ngp
        ("depth_scaling_factor: 5000\n", 0.0002),
        ('{"fx": 600, "scale": 2.0}', None),
        ('{"fx": 600, "depth_scale": 0.1, "scale": "auto"}', 0.0001),
        ('{"scene": {"scale": 6553.5}, "fx": 600}', None),
        ('{"0": {"depth_scale": 1.0}, "1": {"depth_scale": 0.1}}', None),
        ('{"fx": "600", "depth_scale": "0.0001"}', 0.0001),
        ('{"fx": 600, "depth_scale": "auto"}', None),
        ('{"fx": 600, "depth_scale": -1}', None),
        ('{"fx": 600}', None),
        ("no calibration", None),
    ],
)
def test_the_unit_of_depth_that_a_file_states(
    tmp_path: Path, text: str, unit_m: float | None
) -> None:
    (tmp_path / "camera.txt").write_text(text)
    assert stated_depth_unit(tmp_path / "camera.txt") == unit_m
    assert stated_depth_unit(tmp_path / "none.txt") is None


def test_the_unit_of_depth_of_one_picture(tmp_path: Path) -> None:
    path = tmp_path / "scene_camera.json"
    entries = {
        n: {"cam_K": [9, 0, 3, 0, 9, 2, 0, 0, 1], "depth_scale": s}
        for n, s in ((7, 1.0), (12, 0.1))
    }
    for dump in (json.dumps, yaml.safe_dump):
        path.write_text(dump(entries))
        assert stated_depth_unit(path, "000007") == 0.001
        assert stated_depth_unit(path, "000012") == 0.0001
        assert stated_depth_unit(path, "000013") is stated_depth_unit(path, "left") is None
    path.write_text('{"7": {"depth_scale": 0.1}}')  # the file is another now
    assert stated_depth_unit(path, "000013") == stated_depth_unit(path) == 0.0001
