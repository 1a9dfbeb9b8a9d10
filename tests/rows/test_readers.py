"""Readers: data of every kind give the same density, and what is no rows is named."""

import itertools
import os

import jax.numpy as jnp
import numpy as np
import pytest
from row_models import EXAMPLE, data, linear, log_likelihood, log_prior

import infimum
from infimum.rows.blocks import DataError


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
    source, n_rows = sources(rows, tmp_path)[kind]

    def likelihood(p, rows):
        if "a" in rows:
            rows = {"x": jnp.stack([rows["a"], rows["b"]], axis=-1), "y": rows["y"]}
        return log_likelihood(p, rows)

    target = infimum.Rows(log_prior, likelihood, source, EXAMPLE, n_rows=n_rows, way=way)
    assert target.n_rows == 300
    if way == "blocks":
        target.large.posterior.passes.size = 41
    z = np.random.default_rng(1).standard_normal((5, 2))
    np.testing.assert_allclose(target.values(z), linear(rows).values(z), rtol=1e-12)


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
    for n, message in ((50, "gave 40 rows, n_rows says 50"), (30, "more than 30 rows")):
        with pytest.raises(DataError, match=message):
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


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ({"y": np.zeros(5), "s": 3.0}, r"data\['s'\] is 3.0, .* same for all rows"),
        ({"y": np.zeros(5), "s": np.array(3.0)}, r"data\['s'\] is array\(3.\)"),
        ([0.0, 1.0], r"data\[0\] is 0.0, .*np.array"),
        ({"y": np.zeros(5, np.longdouble)}, "at most 64 bits"),
        ({"y": np.zeros(5, [("a", "f8")])}, "expected numbers"),
    ],
)
def test_what_is_no_array_of_rows_is_named(source, match):
    with pytest.raises(TypeError, match=match):
        linear(source)


def test_masked_entries_are_refused_wherever_they_are():
    """NumPy would give what is under the mask."""
    rows = data(3000)
    rows["y"] = np.ma.masked_array(rows["y"], np.arange(3000) == 2900)
    halves = [{k: x[a:b] for k, x in rows.items()} for a, b in ((0, 1500), (1500, 3000))]
    for source, n in ((rows, None), (halves, 3000)):
        with pytest.raises(DataError, match="masked entries"):
            linear(source, n_rows=n, way="blocks")


def test_another_byte_order_and_labels_of_rows_do_not_matter():
    import pandas as pd

    rows = data(30)
    z = np.ones((1, 2))
    turned = {name: x.astype(">f8") for name, x in rows.items()}
    labelled = {"x": rows["x"], "y": pd.Series(rows["y"], index=np.linspace(9, 0, 30))}
    for way, source in itertools.product(["whole", "blocks"], (turned, labelled)):
        assert linear(source, way=way).values(z) == pytest.approx(linear(rows).values(z))
    with pytest.raises(ValueError, match="two columns 'y'"):
        linear(pd.DataFrame(np.ones((3, 2)), columns=["y", "y"]))
