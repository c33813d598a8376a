"""Whatever a test could leave behind is found and named; what is ending, or was there before, is not."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
import threading

import psutil
import pytest

from tests.leftovers import Held, Leftovers, held

SOON = 0.2


def test_a_thread_is_named_with_the_place_at_which_it_stands() -> None:
    before, stop = held(), threading.Event()
    thread = threading.Thread(target=stop.wait, name="forgotten")
    thread.start()
    try:
        (said,) = Leftovers().after(before, patience=SOON)
    finally:
        stop.set()
        thread.join()
    assert "thread 'forgotten'" in said
    assert "threading.py" in said
    assert Leftovers().after(before, patience=SOON) == []


def test_a_socket_is_named_with_both_its_ends() -> None:
    before = held()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), server.accept()[0]:
            said = "\n".join(Leftovers().after(before, patience=SOON))
    assert said.count("socket AF_INET") == 3
    assert f"127.0.0.1:{port} to - LISTEN" in said
    assert f"to 127.0.0.1:{port} ESTABLISHED" in said
    assert Leftovers().after(before, patience=SOON) == []


def test_a_child_is_named_with_its_command() -> None:
    before = held()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        (said,) = Leftovers().after(before, patience=SOON)
    finally:
        child.communicate()
    assert said.startswith(f"process {child.pid}: ")
    assert "input()" in said


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux")
def test_a_grandchild_does_not_hide_behind_a_parent_that_ended() -> None:
    before = held()
    sleeps = "[sys.executable, '-c', 'import time; time.sleep(600)']"
    script = f"import subprocess, sys; print(subprocess.Popen({sleeps}, stdout=-3, stderr=-3).pid)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    orphan = psutil.Process(int(done.stdout))
    try:
        said = Leftovers().after(before, patience=SOON)
    finally:
        orphan.kill()
        orphan.wait(30)
    # Whatever an earlier test has left may end or be found meanwhile; the process is ours.
    assert [one for one in said if one.startswith("process ")] == [
        one for one in said if one.startswith(f"process {orphan.pid}: ")
    ]
    assert any(one.startswith(f"process {orphan.pid}: ") for one in said)


def test_what_is_about_to_end_is_waited_for_and_garbage_is_collected() -> None:
    class Pool:
        def __init__(self) -> None:
            self.itself = self
            self.ends = socket.socketpair()

        def __del__(self) -> None:
            for end in self.ends:
                end.close()

    before, stop = held(), threading.Event()
    thread = threading.Thread(target=lambda: stop.wait(0.3), name="ending")
    gc.disable()
    try:
        thread.start()
        Pool()
        assert (held() - before).sockets
        assert Leftovers().after(before, patience=30.0) == []
    finally:
        gc.enable()
        thread.join()


def test_what_a_wider_fixture_made_is_looked_for_at_its_own_end_and_told_once() -> None:
    leftovers, before = Leftovers(), held()
    with socket.socket():
        leftovers.made("module", held() - before)
        assert leftovers.after(before, "function", SOON) == []
        assert len(leftovers.after(before, "module", SOON)) == 1
        assert leftovers.after(before, "session", SOON) == []


def test_nothing_is_nothing() -> None:
    now = held()
    assert not now - now
    assert (Held() | now) == now
    assert threading.current_thread() in now.threads
