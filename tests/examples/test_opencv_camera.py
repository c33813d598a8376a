"""The OpenCV loop on a real video file and a real server of depth stills."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from docs.examples.opencv_camera import LatestFrame, depth_from_url, run
from schemas.images import decode_colour, decode_depth
from schemas.notice import Notice
from tests.examples.published import Published

COUNTS = np.random.default_rng(1).integers(0, 60_000, (6, 8), dtype=np.uint16)


@pytest.fixture
def depth_url() -> Iterator[str]:
    stills = {"/16": cv2.imencode(".png", COUNTS)[1].tobytes(), "/text": b"no picture"}
    stills["/8"] = cv2.imencode(".png", COUNTS.astype(np.uint8))[1].tobytes()

    class Still(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = stills.get(self.path)
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Still)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_video_gives_red_as_red_and_nothing_after_its_end(tmp_path: Path) -> None:
    path = tmp_path / "line.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (64, 48))
    red = np.zeros((48, 64, 3), np.uint8)
    red[:, :, 2] = 255
    for _ in range(3000):
        writer.write(red)
    writer.release()
    camera = LatestFrame(cv2.VideoCapture(str(path)))
    frame = camera.take(timeout_s=5.0)
    assert frame is not None
    assert frame.shape == (48, 64, 3)
    assert frame.reshape(-1, 3).mean(axis=0).round() == pytest.approx([255, 0, 0], abs=6)
    camera.close()
    assert camera.take(timeout_s=0.01) is None


def test_depth_comes_in_counts_and_what_is_no_depth_image_is_none(depth_url: str) -> None:
    found = depth_from_url(f"{depth_url}/16")
    assert found is not None
    np.testing.assert_array_equal(found, COUNTS)
    for wrong in ("/8", "/text", "/none"):
        assert depth_from_url(depth_url + wrong) is None


def test_each_trigger_is_one_part_whatever_the_sensors_give(tmp_path: Path) -> None:
    published = Published(tmp_path)
    rgb = np.full((6, 8, 3), 7, np.uint8)
    colours = iter([rgb, rgb, None, None])
    depths = iter([COUNTS, None, COUNTS, None])
    assert run(published.publisher, range(4), lambda: next(colours), lambda: next(depths)) == 4
    messages = published.messages()
    assert [message.part.trigger for message in messages] == [0, 1, 2, 3]
    both, colour, depth = published_frames = messages[:3]
    assert not any(isinstance(each, Notice) for each in published_frames)
    assert isinstance(messages[3], Notice)
    rgb_sent, depth_sent = getattr(both, "rgb", None), getattr(both, "depth", None)
    assert rgb_sent is not None
    assert depth_sent is not None
    np.testing.assert_array_equal(decode_colour(rgb_sent), rgb)
    np.testing.assert_array_equal(decode_depth(depth_sent), COUNTS)
    assert getattr(colour, "depth", 0) is None
    assert getattr(depth, "rgb", 0) is None
    assert published.log.read_text().count('"trigger"') >= 4
