"""The GenICam loop: harvesters' own components over memory as a camera fills it, and a fake acquirer."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Self

import numpy as np
import pytest
from harvesters.core import Buffer, Component2DImage, ImageAcquirer
from harvesters.util.pfnc import dict_by_ints
from numpy.typing import NDArray

from docs.examples.genicam_harvesters import images, run
from schemas.images import decode_colour, decode_depth
from schemas.notice import Notice
from tests.examples.published import Published

NUMBERS = {name: number for number, name in dict_by_ints.items()}
RNG = np.random.default_rng(5)
RGB = RNG.integers(0, 255, (6, 8, 3), dtype=np.uint8)
COUNTS = RNG.integers(0, 60_000, (6, 8), dtype=np.uint16)


def component(pixels: NDArray[Any], data_format: str) -> Any:
    """harvesters' own component over memory that a camera would fill."""
    memory = bytearray(pixels.tobytes())
    part = SimpleNamespace(
        data_size=len(memory),
        width=pixels.shape[1],
        height=pixels.shape[0],
        data_format=NUMBERS[data_format],
        data_offset=0,
    )
    return Component2DImage(
        buffer=SimpleNamespace(raw_buffer=memory), part=part, node_map=SimpleNamespace(Width=0)
    )


class Camera:
    """Keeps what the loop uses of ``ImageAcquirer``: buffers in turn, None where no trigger came."""

    def __init__(self, *buffers: list[Any] | None) -> None:
        self.buffers = list(buffers)
        self.given_back = 0
        self.running = False

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    def try_fetch(self, *, timeout: float) -> Any:
        assert self.running
        components = self.buffers.pop(0)
        return None if components is None else CameraBuffer(self, components)


class CameraBuffer:
    def __init__(self, camera: Camera, components: list[Any]) -> None:
        self.payload = SimpleNamespace(components=components)
        self._camera = camera

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._camera.given_back += 1
        for each in self.payload.components:
            # The camera writes its next picture here.
            each._buffer.raw_buffer[:] = bytes(len(each._buffer.raw_buffer))


def test_the_loop_uses_what_harvesters_has() -> None:
    assert "timeout" in inspect.signature(ImageAcquirer.try_fetch).parameters
    for owner, names in (
        (ImageAcquirer, ("start", "stop", "remote_device")),
        (Buffer, ("payload", "__enter__", "__exit__")),
        (Component2DImage, ("data_format", "width", "height", "data")),
    ):
        assert all(hasattr(owner, name) for name in names), owner


@pytest.mark.parametrize("depth_format", ["Coord3D_C16", "Mono16"])
def test_each_buffer_is_one_part_and_its_memory_goes_back_to_the_camera(
    tmp_path: Path, depth_format: str
) -> None:
    camera = Camera(
        [component(RGB, "RGB8"), component(COUNTS, depth_format)],
        None,
        [component(np.ascontiguousarray(RGB[:, :, ::-1]), "BGR8"), component(COUNTS, depth_format)],
    )
    published = Published(tmp_path)
    assert run(published.publisher, camera, lambda: bool(camera.buffers)) == 2
    assert (camera.given_back, camera.running) == (2, False)
    frames = published.frames()
    assert [frame.part.trigger for frame in frames] == [0, 1]
    for frame in frames:
        assert frame.rgb is not None
        assert frame.depth is not None
        np.testing.assert_array_equal(decode_colour(frame.rgb), RGB)
        np.testing.assert_array_equal(decode_depth(frame.depth), COUNTS)


def test_a_component_that_is_missing_or_short_is_none_and_the_part_is_told_all_the_same(
    tmp_path: Path,
) -> None:
    short = component(COUNTS[:3], "Mono16")
    short._part.height = 6
    camera = Camera([component(RGB, "RGB8"), short], [])
    published = Published(tmp_path)
    assert run(published.publisher, camera, lambda: bool(camera.buffers)) == 2
    one, none = published.messages()
    assert getattr(one, "depth", 0) is None
    assert isinstance(none, Notice)


@pytest.mark.parametrize(
    ("data_format", "red"),
    [("BayerRG8", (0, 0)), ("BayerGR8", (0, 1)), ("BayerGB8", (1, 0)), ("BayerBG8", (1, 1))],
)
def test_a_mosaic_gives_red_where_red_was_seen(data_format: str, red: tuple[int, int]) -> None:
    mosaic = np.zeros((8, 8), np.uint8)
    mosaic[red[0] :: 2, red[1] :: 2] = 200
    colour, depth = images([component(mosaic, data_format)])
    assert colour is not None
    assert depth is None
    means = colour[2:-2, 2:-2].reshape(-1, 3).mean(axis=0)
    assert means[0] > 150
    assert means[1] < 20
    assert means[2] < 20
