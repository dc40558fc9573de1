"""What this machine is, and processes beside this one."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from tcseg.machine import worker_pool


def test_a_pool_prepares_its_workers_and_works_elsewhere(tmp_path: Path):
    with worker_pool(1, partial(os.putenv, "TCSEG_TRIED", "1")) as pool:
        assert pool.submit(os.getpid).result() != os.getpid()
        assert "TCSEG_TRIED=1" in pool.submit(subprocess.getoutput, "env").result()


def test_an_interrupted_block_does_not_wait_for_its_workers(tmp_path: Path):
    """SIGTERM reaches the parent alone: `docker stop` of a sweep waited for its trainings."""
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), worker_pool(1) as pool:
        pool.submit(os.getpid).result()
        pool.submit(time.sleep, 600)
        (worker,) = pool._processes.values()
        raise KeyboardInterrupt
    worker.join(60)
    assert not worker.is_alive() and time.monotonic() - began < 120


PARENT = """
import time
from tcseg.machine import worker_pool

if __name__ == "__main__":
    pool = worker_pool(2)
    for _ in range(2):
        pool.submit(time.sleep, 600)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals as on Linux and macOS")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_when_their_parent_is_killed(tmp_path: Path, how: signal.Signals):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent, workers = psutil.Popen([sys.executable, script], stderr=subprocess.DEVNULL), []
    try:
        until = time.monotonic() + 60
        while len(workers := [p for p in parent.children() if "spawn_main" in " ".join(p.cmdline())]) < 2:
            assert time.monotonic() < until, "the workers did not start"
            time.sleep(0.1)
        time.sleep(1)  # until they have begun their work
        parent.send_signal(how)
        _, alive = psutil.wait_procs(workers, timeout=30)
        assert not alive, f"{len(alive)} workers outlived their parent"
    finally:
        for process in (*workers, parent):
            if process.is_running():
                process.kill()
        parent.wait()
