"""Passes: what they hold in memory; devices and processes give the answer of one."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

TESTS = str(Path(__file__).parents[1])
"""Where the models are that other processes import."""

STREAMED = """
import resource, sys
import numpy as np
sys.path.insert(0, {tests!r})
import row_models
import infimum
maps = {{k: np.load({folder!r} + f"/{{k}}.npy", mmap_mode="r") for k in ("x", "y")}}
target = row_models.linear(maps, way="blocks")
z = np.zeros((64, 2))
target.value_and_gradient(z[:1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
target.value_and_gradient(z)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory-maps are given back on Linux")
def test_memory_holds_blocks_and_not_the_data(tmp_path):
    """A pass over 190 MB adds less than 100 MB."""
    rng = np.random.default_rng(0)
    n = 8_000_000
    np.save(tmp_path / "x.npy", rng.standard_normal((n, 2), dtype=np.float64))
    np.save(tmp_path / "y.npy", rng.standard_normal(n))
    code = STREAMED.format(tests=TESTS, folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100_000


DEVICES = """
import sys
import numpy as np
sys.path.insert(0, {tests!r})
import row_models
import infimum, jax
assert len(jax.local_devices()) == {count}
import local_models
linear = row_models.linear(row_models.data(5003), way="blocks")
grouped = local_models.grouped(local_models.groups(1003), way="blocks")
answer = []
for target in (linear, grouped):
    answer += target.value_and_gradient(np.ones((3, 2)))[1].ravel().tolist()
    assert ("devices" in target.large.description()) == ({count} > 1)
print(repr(answer))
"""


def test_rows_are_shared_out_among_devices():
    answers = []
    for count in (1, 4):
        flags = f"--xla_force_host_platform_device_count={count}"
        code = DEVICES.format(tests=TESTS, count=count)
        environment = {**os.environ, "XLA_FLAGS": flags}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        answers.append(np.array(eval(done.stdout)))
    np.testing.assert_allclose(*answers, rtol=1e-12)


PROCESS = """
import sys
import jax
rank, count, port = map(int, sys.argv[1:4])
if count > 1:
    jax.distributed.initialize(
        f"127.0.0.1:{{port}}", count, rank, heartbeat_timeout_seconds=10
    )
import numpy as np
sys.path.insert(0, {tests!r})
import row_models
import infimum
import local_models
if sys.argv[4] == "locals":
    rows, made, way = local_models.groups(61), local_models.grouped, "blocks"
else:
    rows, made, way = row_models.data(3001), row_models.linear, sys.argv[4]
own = {{k: np.array_split(x, count)[rank] for k, x in rows.items()}}
target = made(own, way=way)
assert target.n_rows == len(rows["y"])
if sys.argv[4] == "locals":  # a fit of them takes a minute
    log_p, gradient = target.value_and_gradient(np.ones((2, 2)))
    answer = [*log_p.tolist(), *gradient.ravel().tolist()]
else:
    fit = infimum.fit(target, "fullrank", draws=500)
    answer = [fit.elbo.value, *fit.q.mean.tolist(), *fit.q.covariance().ravel().tolist()]
print("ANSWER", repr(answer))
"""


def free_port():
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run_processes(code, count, *args, timeout=240):
    """What each process prints and how it ends."""
    port = free_port()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(rank), str(count), str(port), *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    outputs = [process.communicate(timeout=timeout) for process in started]
    return [(p.returncode, *said) for p, said in zip(started, outputs, strict=True)]


@pytest.mark.parametrize("way", ["blocks", "minibatch", "locals"])
def test_processes_give_the_answer_of_one(way):
    code = PROCESS.format(tests=TESTS)
    answers = []
    for count in (1, 2, 4) if way == "blocks" else (1, 2):
        for status, out, err in run_processes(code, count, way):
            assert status == 0, err
            answers.append(np.array(eval(out.split("ANSWER")[1])))
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], rtol=1e-9)


DIES = PROCESS.replace(
    "    fit = infimum",
    """
    if rank == 1:
        calls = []
        def end(progress):
            calls.append(1)
            if len(calls) == 2:
                import os
                os._exit(9)
        infimum.fit(target, "fullrank", callback=end)
    fit = infimum""",
)


def test_a_process_that_dies_ends_the_others_with_a_clear_error():
    (status, _, err), (died, _, _) = run_processes(DIES.format(tests=TESTS), 2, "blocks")
    assert died == 9
    assert status != 0
    assert "process of this distributed run has ended" in err


def test_peak_memory_is_measured_in_kilobytes_here():
    """What `test_memory_holds_blocks_and_not_the_data` takes for granted."""
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 50_000
    assert jax.process_count() == 1
