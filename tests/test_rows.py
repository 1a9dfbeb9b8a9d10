"""Posteriors of many rows: in memory, on disk, iterated; whole, in blocks, by parts; bad data."""

import itertools
import os
import resource
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import infimum
from infimum.rows import blocks
from infimum.rows.blocks import DataError

SIGMA = 2.0


def data(n, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 2))
    return {"x": x, "y": x @ [1.0, -0.5] + SIGMA * rng.standard_normal(n)}


def log_prior(p):
    return -0.5 * (p["w"] ** 2).sum()


def log_likelihood(p, rows):
    error = (rows["y"] - rows["x"] @ p["w"]) / SIGMA
    return -0.5 * (error**2).sum() - len(rows["y"]) * np.log(SIGMA * np.sqrt(2 * np.pi))


def logistic(p, rows):
    eta = rows["x"] @ p["w"]
    return (rows["y"] * eta - jnp.logaddexp(0.0, eta)).sum()


EXAMPLE = {"w": np.zeros(2)}


def linear(rows, **options):
    return infimum.Rows(log_prior, log_likelihood, rows, EXAMPLE, **options)


def exact(rows):
    """Mean, covariance and log Z of the linear model; the prior lacks its constant, log 2π."""
    precision = np.eye(2) + rows["x"].T @ rows["x"] / SIGMA**2
    covariance = np.linalg.inv(precision)
    mean = covariance @ rows["x"].T @ rows["y"] / SIGMA**2
    n = len(rows["y"])
    marginal = SIGMA**2 * np.eye(n) + rows["x"] @ rows["x"].T
    log_z = scipy.stats.multivariate_normal(np.zeros(n), marginal).logpdf(rows["y"])
    return mean, covariance, log_z + np.log(2 * np.pi)


@pytest.mark.parametrize("way", ["whole", "blocks", "minibatch", "auto"])
def test_every_way_finds_the_known_posterior(way):
    rows = data(700)
    mean, covariance, log_z = exact(rows)
    target = linear(rows, way=way)
    fit = infimum.fit(target, "fullrank", draws=500)
    assert fit.verdict == "good"
    assert fit.elbo.value == pytest.approx(log_z, abs=1e-6)
    np.testing.assert_allclose(fit.q.mean, mean, atol=1e-6)
    np.testing.assert_allclose(fit.q.covariance(), covariance, rtol=1e-5, atol=1e-9)


def test_density_and_gradient_are_those_of_the_whole_with_ragged_blocks():
    rows = data(1001)
    whole, blocks = linear(rows, way="whole"), linear(rows, way="blocks")
    blocks.large.sums.passes.size = 128
    z = np.random.default_rng(1).standard_normal((37, 2))
    for a, b in zip(whole.value_and_gradient(z), blocks.value_and_gradient(z), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    np.testing.assert_allclose(whole.values(z), blocks.values(z), rtol=1e-12)


def test_a_support_has_its_jacobian_in_every_way():
    rows = np.random.default_rng(0).standard_normal(300) * 3
    targets = [
        infimum.Rows(
            lambda p: -p["s"],
            lambda p, rows: (-jnp.log(p["s"]) - 0.5 * (rows / p["s"]) ** 2).sum(),
            rows,
            {"s": 1.0},
            {"s": infimum.supports.positive},
            way=way,
        )
        for way in ("whole", "blocks")
    ]
    z = np.linspace(-1, 2, 5)[:, None]
    np.testing.assert_allclose(*[t.values(z) for t in targets], rtol=1e-12)
    np.testing.assert_allclose(*[t.value_and_gradient(z)[1] for t in targets], rtol=1e-12)


def sources(rows, folder):
    """The same rows in everything that can hold them."""
    import pyarrow
    import pyarrow.parquet
    import zarr

    n = len(rows["y"])
    flat = {"a": rows["x"][:, 0], "b": rows["x"][:, 1], "y": rows["y"]}
    pyarrow.parquet.write_table(pyarrow.table(flat), folder / "rows.parquet", row_group_size=97)
    maps = {}
    for name, array in rows.items():
        np.save(folder / f"{name}.npy", array)
        maps[name] = np.load(folder / f"{name}.npy", mmap_mode="r")
    kept = {
        name: zarr.create_array(folder / f"{name}.zarr", data=array, chunks=(64, *array.shape[1:]))
        for name, array in rows.items()
    }
    cuts = [0, 10, 11, n - 5, n]
    listed = [{k: x[a:b] for k, x in rows.items()} for a, b in itertools.pairwise(cuts)]
    return {
        "memory-map": (maps, None),
        "zarr": (kept, None),
        "parquet": (folder / "rows.parquet", None),
        "list of blocks": (listed, n),
    }


@pytest.mark.parametrize("kind", ["memory-map", "zarr", "parquet", "list of blocks"])
@pytest.mark.parametrize("way", ["whole", "blocks"])
def test_data_of_every_kind_give_the_same_density(kind, way, tmp_path):
    rows = data(300)
    given, n_rows = sources(rows, tmp_path)[kind]

    def likelihood(p, rows):
        if "a" in rows:
            rows = {"x": jnp.stack([rows["a"], rows["b"]], axis=-1), "y": rows["y"]}
        return log_likelihood(p, rows)

    target = infimum.Rows(log_prior, likelihood, given, EXAMPLE, n_rows=n_rows, way=way)
    assert target.n_rows == 300
    if way == "blocks":
        target.large.sums.passes.size = 41
    z = np.random.default_rng(1).standard_normal((5, 2))
    np.testing.assert_allclose(target.values(z), linear(rows).values(z), rtol=1e-12)


def test_a_part_is_corrected_until_it_says_what_all_rows_say(monkeypatch):
    """2,000 rows stand for 60,000; q is that of all of them, in a climb as in a fit."""
    from infimum.rows import rows as module

    monkeypatch.setattr(module, "FEWEST_ROWS", 2000)
    rng = np.random.default_rng(3)
    x = rng.standard_normal((60_000, 2))
    y = (rng.random(60_000) < 1 / (1 + np.exp(-x @ [1.0, -2.0]))).astype(np.float32)
    target = infimum.Rows(log_prior, logistic, {"x": x, "y": y}, EXAMPLE)
    assert target.way == "minibatch"
    whole = infimum.Rows(log_prior, logistic, {"x": x, "y": y}, EXAMPLE, way="whole")
    fit = infimum.fit(target, "fullrank", draws=500)
    best = infimum.fit(whole, "fullrank", draws=500)
    assert fit.verdict == "good"
    assert fit.elbo.value == pytest.approx(best.elbo.value, abs=1e-4)
    np.testing.assert_allclose(
        fit.q.mean, best.q.mean, atol=1e-3 * np.sqrt(best.q.variance()).min()
    )
    assert "corrected by" in str(fit)
    climbed = infimum.climb(target, ["meanfield", "fullrank"], draws=500, tol=0.0)
    assert climbed.best.elbo.value == pytest.approx(best.elbo.value, abs=1e-3)
    again = infimum.fit(target, "fullrank", draws=500)
    assert np.array_equal(again.q.mean, fit.q.mean)


def test_sorted_data_are_no_harder(monkeypatch):
    from infimum.rows import rows as module

    monkeypatch.setattr(module, "FEWEST_ROWS", 1000)
    rows = data(20_000)
    order = np.argsort(rows["y"])
    rows = {k: x[order] for k, x in rows.items()}
    fit = infimum.fit(linear(rows, way="minibatch"), "fullrank", draws=500)
    precision = np.eye(2) + rows["x"].T @ rows["x"] / SIGMA**2
    mean = np.linalg.solve(precision, rows["x"].T @ rows["y"] / SIGMA**2)
    np.testing.assert_allclose(fit.q.mean, mean, atol=1e-5)
    assert fit.verdict == "good"


def test_the_image_of_a_mode_is_seen_through_a_part(monkeypatch):
    """Two modes by symmetry: the correction at the one does not hide the other."""
    from infimum.rows import rows as module

    monkeypatch.setattr(module, "FEWEST_ROWS", 1000)
    rows = np.abs(np.random.default_rng(1).normal(1.0, 1.0, 20_000))

    def folded(p, rows):
        return jnp.logaddexp(-0.5 * (rows - p["m"]) ** 2, -0.5 * (rows + p["m"]) ** 2).sum()

    def prior(p):
        return -0.5 * (p["m"] / 3) ** 2

    example = {"m": 0.0}
    target = infimum.Rows(prior, folded, rows, example, way="minibatch")
    fit = infimum.fit(target, "fullrank", draws=500)
    m = np.linspace(0.8, 1.3, 4001)
    log_p = np.array([-0.5 * (x / 3) ** 2 + float(folded({"m": x}, rows)) for x in m[::10]])
    log_z = scipy.special.logsumexp(log_p) + np.log(m[10] - m[0]) + np.log(2)
    assert fit.log_evidence.value == pytest.approx(log_z, abs=0.05)
    assert fit.verdict != "good"


def test_ctrl_c_before_a_correction_is_told(monkeypatch):
    from infimum.rows import rows as module

    monkeypatch.setattr(module, "FEWEST_ROWS", 300)

    def leave(progress):
        if progress.stage == "reading":
            raise KeyboardInterrupt

    fit = infimum.fit(linear(data(3000), way="minibatch"), "fullrank", draws=500, callback=leave)
    assert fit.reason.name == "INTERRUPTED"
    assert fit.verdict == "unreliable"


def test_reading_ahead_gives_the_same_blocks_and_stops_when_left():
    blocks = [np.full(3, i) for i in range(7)]
    assert np.array_equal(np.concatenate(list(blocks.ahead(iter(blocks)))), np.repeat(range(7), 3))
    reader = blocks.ahead(iter(blocks))
    next(reader)
    reader.close()

    def broken():
        yield np.zeros(2)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(blocks.ahead(broken()))


# ---- bad input -----------------------------------------------------------------------------------


def test_row_counts_that_disagree_are_named():
    with pytest.raises(ValueError, match=r"data\['x'\] 5, data\['y'\] 4"):
        linear({"x": np.zeros((5, 2)), "y": np.zeros(4)})
    with pytest.raises(ValueError, match=r"n_rows 7"):
        linear(data(6), n_rows=7)


class Blocks:
    """Blocks that begin anew each time, of a number that may change."""

    def __init__(self, *parts):
        self.parts = parts
        self.times = 0

    def __iter__(self):
        self.times += 1
        return iter(self.parts)


def test_blocks_that_are_not_n_rows():
    rows = data(40)
    for n, told in ((50, "gave 40 rows, n_rows says 50"), (30, "more than 30 rows")):
        with pytest.raises(DataError, match=told):
            linear(Blocks(rows), n_rows=n)
    with pytest.raises(TypeError, match="give n_rows"):
        linear(Blocks(rows))


def test_what_can_be_read_once_is_refused():
    with pytest.raises(TypeError, match="iterated once only"):
        linear((x for x in [data(4)]), n_rows=4)

    class Once(Blocks):
        def __iter__(self):
            super().__iter__()
            return iter(self.parts if self.times < 3 else ())

    with pytest.raises(DataError, match=r"no rows.*only once"):
        linear(Once(data(9)), n_rows=9)


def test_blocks_of_other_forms_are_refused():
    first = data(10)
    for other in (
        {"x": first["x"].astype(np.float32), "y": first["y"]},
        {"x": first["x"][:, :1], "y": first["y"]},
    ):
        with pytest.raises(DataError, match="block 1 has the form"):
            linear(Blocks(first, other), n_rows=20)
    with pytest.raises(TypeError, match="expected numbers"):
        linear({"x": np.array([["a", "b"]] * 3), "y": np.zeros(3)})


@pytest.mark.parametrize("way", ["whole", "blocks"])
def test_a_row_that_is_nan_is_named(way):
    rows = data(5000)
    rows["y"][3217] = np.nan
    with pytest.raises(DataError, match=r"row 3,217 .*NaN"):
        linear(rows, way=way)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"y": np.zeros(5), "s": 3.0}, r"data\['s'\] is 3.0, .* same for all rows"),
        ({"y": np.zeros(5), "s": np.array(3.0)}, r"data\['s'\] is array\(3.\)"),
        ([0.0, 1.0], r"data\[0\] is 0.0, .*np.array"),
        ({"y": np.zeros(5, np.longdouble)}, "at most 64 bits"),
        ({"y": np.zeros(5, [("a", "f8")])}, "expected numbers"),
    ],
)
def test_what_is_no_array_of_rows_is_named(given, match):
    with pytest.raises(TypeError, match=match):
        linear(given)


def test_masked_entries_are_refused_wherever_they_are():
    """NumPy would give what is under the mask."""
    rows = data(3000)
    rows["y"] = np.ma.masked_array(rows["y"], np.arange(3000) == 2900)
    halves = [{k: x[a:b] for k, x in rows.items()} for a, b in ((0, 1500), (1500, 3000))]
    for given, n in ((rows, None), (halves, 3000)):
        with pytest.raises(DataError, match="masked entries"):
            linear(given, n_rows=n, way="blocks")


def test_another_byte_order_and_labels_of_rows_do_not_matter():
    import pandas as pd

    rows = data(30)
    z = np.ones((1, 2))
    turned = {name: x.astype(">f8") for name, x in rows.items()}
    labelled = {"x": rows["x"], "y": pd.Series(rows["y"], index=np.linspace(9, 0, 30))}
    for way, given in itertools.product(["whole", "blocks"], (turned, labelled)):
        assert linear(given, way=way).values(z) == pytest.approx(linear(rows).values(z))
    with pytest.raises(ValueError, match="two columns 'y'"):
        linear(pd.DataFrame(np.ones((3, 2)), columns=["y", "y"]))


def test_rows_that_depend_on_each_other_are_seen_where_parameters_are_zero():
    """At w = 0 a likelihood says nothing of how columns are centred."""

    def centring(p, rows):
        return log_likelihood(p, {**rows, "x": rows["x"] - rows["x"].mean(axis=0)})

    with pytest.raises(ValueError, match="not a sum over rows"):
        infimum.Rows(log_prior, centring, data(100), EXAMPLE)


def test_a_likelihood_that_is_no_sum_is_refused():
    with pytest.raises(ValueError, match="not a sum over rows"):
        infimum.Rows(log_prior, lambda p, r: log_likelihood(p, r) / len(r["y"]), data(100), EXAMPLE)
    with pytest.raises(ValueError, match="not a sum over rows"):  # a prior in the wrong place
        infimum.Rows(
            log_prior, lambda p, r: log_likelihood(p, r) + log_prior(p) - 5, data(100), EXAMPLE
        )
    with pytest.raises(ValueError, match=r"returned an array of shape.*\.sum\(\)"):
        infimum.Rows(log_prior, lambda p, r: r["y"] * p["w"][0], data(10), EXAMPLE)


def test_a_file_that_changes_in_mid_run(tmp_path):
    rows = data(2000)
    np.save(tmp_path / "x.npy", rows["x"])
    np.save(tmp_path / "y.npy", rows["y"])

    def mapped():
        return {k: np.load(tmp_path / f"{k}.npy", mmap_mode="r") for k in rows}

    target = linear(mapped(), way="blocks")
    calls = []

    def change(progress):
        calls.append(progress)
        if len(calls) == 3:
            os.utime(tmp_path / "y.npy", ns=(1, 1))

    with pytest.raises(DataError, match=r"y\.npy has changed"):
        infimum.fit(target, "meanfield", callback=change)
    target = linear(mapped(), way="blocks")
    (tmp_path / "x.npy").unlink()
    with pytest.raises(DataError, match=r"x\.npy has disappeared"):
        target.values(np.zeros((1, 2)))


def test_wrong_use_says_what_to_do(tmp_path):
    with pytest.raises(TypeError, match="log_prior is 3"):
        infimum.Rows(3, log_likelihood, data(3), EXAMPLE)
    with pytest.raises(ValueError, match="way is 'fast'"):
        linear(data(3), way="fast")
    with pytest.raises(ValueError, match="there is no file"):
        linear(tmp_path / "none.parquet")
    with pytest.raises(ValueError, match="no rows"):
        linear(data(0))
    with pytest.raises(TypeError, match="expected arrays"):
        linear(3)
    with pytest.raises(ValueError, match="log_likelihood raised KeyError"):
        infimum.Rows(log_prior, lambda p, rows: rows["z"].sum(), data(5), EXAMPLE)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_rows(n):
    rows = data(n)
    fit = infimum.fit(linear(rows, way="blocks"), "fullrank", draws=500)
    assert fit.elbo.value == pytest.approx(exact(rows)[2], abs=1e-6)


# ---- precision -----------------------------------------------------------------------------------


def test_float32_gives_the_answer_of_float64():
    rows = data(50_000)
    exact = linear(rows, way="blocks")
    rounded = linear(rows, way="blocks", precision="float32")
    z = np.random.default_rng(0).standard_normal((4, 2))
    assert rounded.value_and_gradient(z)[1].dtype == np.float64
    a, b = infimum.fit(exact, "fullrank", draws=500), infimum.fit(rounded, "fullrank", draws=500)
    sds = np.sqrt(a.q.variance())
    np.testing.assert_allclose(a.q.mean / sds, b.q.mean / sds, atol=0.02)
    np.testing.assert_allclose(np.sqrt(b.q.variance()) / sds, 1, atol=0.02)
    assert b.verdict == "good"


def test_float32_that_is_not_enough_is_warned_about():
    rows = data(20_000)
    rows["y"] = rows["y"] + 1e5
    with pytest.warns(UserWarning, match="in float32 differences of log p̂ are off by about"):
        linear(rows, way="blocks", precision="float32")
    with pytest.raises(ValueError, match="precision is 'half'"):
        linear(rows, precision="half")


# ---- memory, devices, processes ------------------------------------------------------------------

STREAMED = """
import resource, sys
import numpy as np
sys.path.insert(0, {tests!r})
import test_rows
import infimum
maps = {{k: np.load({folder!r} + f"/{{k}}.npy", mmap_mode="r") for k in ("x", "y")}}
target = test_rows.linear(maps, way="blocks")
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
    tests = os.path.dirname(__file__)
    code = STREAMED.format(tests=tests, folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100_000


DEVICES = """
import sys
import numpy as np
sys.path.insert(0, {tests!r})
import test_rows
import infimum, jax
assert len(jax.local_devices()) == {count}
import test_locals
linear = test_rows.linear(test_rows.data(5003), way="blocks")
grouped = test_locals.grouped(test_locals.groups(1003), way="blocks")
answer = []
for target in (linear, grouped):
    answer += target.value_and_gradient(np.ones((3, 2)))[1].ravel().tolist()
    assert ("devices" in target.large.told()) == ({count} > 1)
print(repr(answer))
"""


def test_rows_are_shared_out_among_devices():
    answers = []
    for count in (1, 4):
        flags = f"--xla_force_host_platform_device_count={count}"
        code = DEVICES.format(tests=os.path.dirname(__file__), count=count)
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
import test_rows
import infimum
import test_locals
if sys.argv[4] == "locals":
    rows, made, way = test_locals.groups(61), test_locals.grouped, "blocks"
else:
    rows, made, way = test_rows.data(3001), test_rows.linear, sys.argv[4]
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

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


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
    told = [process.communicate(timeout=timeout) for process in started]
    return [(p.returncode, *said) for p, said in zip(started, told, strict=True)]


@pytest.mark.parametrize("way", ["blocks", "minibatch", "locals"])
def test_processes_give_the_answer_of_one(way):
    code = PROCESS.format(tests=os.path.dirname(__file__))
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
    (status, _, err), (died, _, _) = run_processes(
        DIES.format(tests=os.path.dirname(__file__)), 2, "blocks"
    )
    assert died == 9
    assert status != 0
    assert "process of this distributed run has ended" in err


def test_peak_memory_is_measured_in_kilobytes_here():
    """What `test_memory_holds_blocks_and_not_the_data` takes for granted."""
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 50_000
    assert jax.process_count() == 1
