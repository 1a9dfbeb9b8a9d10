"""The catalogue of errors: each message has a code, and says what, where, and what to do."""

from __future__ import annotations

import ast
import dataclasses
import functools
import json
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import infimum
from infimum import corrections, families, plots, supports
from infimum.base import processes
from infimum.base.catalogue import areas, catalogue
from infimum.base.deprecation import warn_renamed
from infimum.base.errors import coded, plain
from infimum.cli import draws_file
from infimum.cli.app import app, main
from infimum.cli.user_file import UserError, read_target
from infimum.families.nested.table import Table
from infimum.target.journal.journal import Journal

ROOT = Path(infimum.__file__).parent
TESTS = Path(__file__).parents[1]

UNCODED = {
    "AttributeError": "Python's protocol of `__getattr__` requires it",
    "AssertionError": "a defect of infimum, not of its input",
    "KeyError": "the caller catches it and raises an error with a code",
    "SamplesError": "the caller catches it",
    "aside": "a function that returns an error with a code",
    "_UnfitError": "the reason in an Expectation; it is never raised",
    "damaged": "a function that returns an error with a code",
}
"""Errors whose messages have no code, with the reason."""

LOAD = "`infimum.load` catches it and raises an error with a code"

INSIDE = {
    "answer/fields.py": dict.fromkeys(
        ("_checked", "_assessment", "_space", "_unseen", "_tree"), LOAD
    ),
    "answer/file.py": dict.fromkeys(("_entry", "_array"), LOAD),
    "families/flow/flow.py": {"from_arrays": LOAD},
    "families/sparse/sparse.py": {"check": LOAD},
    "fitting/verbs.py": {"_climbed": "the reason of the last rung, which has a code"},
}
"""Functions whose errors have no code of their own, with the reason."""


# ---- the code of the package ---------------------------------------------------------------------


@functools.cache
def constructions() -> list[tuple[str, str, str, ast.Call]]:
    """Every call that makes an error or warning: its file, function, type, and syntax tree."""
    made = []
    for path in sorted(ROOT.rglob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {
            child: node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)
            for child in ast.walk(node)
        }
        raised = {node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            coded = ast.unparse(node.func) == "coded_error"
            kind = ast.unparse(node.args[0] if coded else node.func)
            named = kind.split(".")[-1]
            error = named.endswith(("Error", "Exit", "Interrupt", "warn"))
            if error or (node in raised and not named.startswith("_")):
                made.append((file, inside.get(node, ""), kind, node))
    return made


def code_of(call: ast.Call) -> str:
    """The literal code in an error's message; empty if there is none."""
    if ast.unparse(call.func) == "coded_error":
        return str(call.args[1].value) if isinstance(call.args[1], ast.Constant) else ""
    message = call.args[0] if call.args else None
    if isinstance(message, ast.Call) and ast.unparse(message.func) == "coded":
        code = message.args[0]
        return str(code.value) if isinstance(code, ast.Constant) else ""
    return ""


def test_every_message_has_a_code_of_the_catalogue():
    for file, function, kind, call in constructions():
        if kind in UNCODED or kind == "typer.Exit" or function in INSIDE.get(file, {}):
            assert not code_of(call), f"{file}:{call.lineno} has a code, and is excepted"
        else:
            assert code_of(call) in catalogue(), f"{file}:{call.lineno}: {ast.unparse(call)[:80]}"


def test_the_exceptions_are_there():
    made = {(file, function) for file, function, _, call in constructions()}
    assert {(file, function) for file, some in INSIDE.items() for function in some} <= made
    kinds = {kind for _, _, kind, _ in constructions()}
    raised = {
        ast.unparse(node.exc)
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Raise) and node.exc is not None
    }
    assert set(UNCODED) <= kinds | raised


def test_every_code_of_the_catalogue_is_used():
    assert {code_of(call) for *_, call in constructions()} - {""} == set(catalogue())


def test_the_catalogue_is_in_order_and_says_something():
    assert list(catalogue()) == sorted(catalogue())
    assert {code[:2] for code in catalogue()} == set(areas())
    titles = [entry.title for entry in catalogue().values()]
    assert len(set(titles)) == len(titles)
    for code, entry in catalogue().items():
        assert re.fullmatch(r"[EW]\d{3}", code)
        assert entry.title
        assert not entry.title.endswith(".")
        assert entry.means.endswith(".")
        assert entry.cure.endswith(".")


def test_a_message_has_one_code():
    assert coded("E301", "no target") == "no target [E301]"
    assert coded("E302", "fit: no target [E301]") == "fit: no target [E301]"
    assert plain(ValueError("no target [E301]")) == "no target"
    with pytest.raises(AssertionError):
        coded("E999", "")


def test_an_error_inside_a_file_keeps_its_code(tmp_path):
    """The user has to fix that error; the message gives its place first."""
    (tmp_path / "model.py").write_text("import infimum\n\nposterior = infimum.Target(3, 0.0)\n")
    with pytest.raises(UserError, match=r"model\.py.* line 3.*not 3 \[E101\]$"):
        read_target(f"{tmp_path / 'model.py'}:posterior")


# ---- the command line ----------------------------------------------------------------------------


def run(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


@pytest.mark.parametrize("code", ["E110", "e110", "[E110]"])
def test_explain_prints_the_entry(code, capsys):
    assert run("explain", code) == 0
    printed = " ".join(capsys.readouterr().out.split())
    entry = catalogue()["E110"]
    assert printed == f"{entry.title}. {entry.means} What to do: {entry.cure}"


def test_explain_refuses_an_unknown_code(capsys):
    assert run("explain", "E999") == 2
    assert "there is no error code 'E999'. Give the code" in capsys.readouterr().err


# ---- a way to each code --------------------------------------------------------------------------


def log_density(z: Any) -> Any:
    return -0.5 * jnp.sum(z**2)


def both(z: np.ndarray) -> tuple[float, np.ndarray]:
    return -0.5 * float(z @ z), -z


@pytest.fixture(scope="module")
def normal() -> infimum.Target:
    return infimum.Target(log_density, np.zeros(2), name="normal")


@pytest.fixture(scope="module")
def fitted(normal) -> infimum.Fit:
    return infimum.fit(normal, "meanfield", starts=1, draws=200, progress=False)


@dataclasses.dataclass
class Context:
    """What the calls that raise an error start from."""

    normal: infimum.Target
    fit: infimum.Fit
    folder: Path
    patch: pytest.MonkeyPatch

    def file(self, text: str, name: str = "model.py") -> str:
        (self.folder / name).write_text(text)
        return str(self.folder / name)


@pytest.fixture
def context(normal, fitted, tmp_path, monkeypatch) -> Context:
    monkeypatch.chdir(tmp_path)
    return Context(normal, fitted, tmp_path, monkeypatch)


def target(function: Callable[..., Any], example: Any, support: Any = None) -> infimum.Target:
    return infimum.Target(function, example, support)


def command(*arguments: str) -> None:
    app(arguments, standalone_mode=False)


def summed(p: Any, rows: Any) -> Any:
    return -0.5 * jnp.sum((rows["y"] - p["m"]) ** 2)


def apart(p: Any, local: Any, rows: Any) -> Any:
    return -0.5 * (rows["y"] - p["m"] - local["u"]) ** 2 - 0.5 * local["u"] ** 2


def prior(p: Any) -> Any:
    return -0.5 * p["m"] ** 2


def rows(likelihood: Any = summed, data: Any = None, n: int = 8, **options: Any) -> infimum.Rows:
    columns = {"y": np.arange(float(n))} if data is None else data
    return infimum.Rows(prior, likelihood, columns, {"m": 0.0}, **options)


def of_rows(y: Any) -> None:
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", len(y)):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def chain(z: Any) -> Any:
    return -0.5 * jnp.sum(jnp.diff(z) ** 2) - 0.5 * jnp.sum(z**2)


# Calls of more than one line:


def wrong_gradient(context: Context) -> None:
    infimum.from_numpy(lambda z: (-0.5 * z @ z, z), 2)


def random_density(context: Context) -> None:
    rng = np.random.default_rng(0)
    infimum.from_numpy(lambda z: (rng.normal(), -z), 2)


def too_many_for_a_flow(context: Context) -> None:
    context.patch.setattr("infimum.families.flow.flow.LARGEST_FULL_DIM", 1)
    q = families.named("sinharcsinh").init(np.zeros(2), np.ones(2))
    families.Flow().start_at(q, context.normal, np.random.default_rng(0))


def on_the_host(context: Context) -> None:
    cells = np.zeros(1), np.eye(1), np.array([-1.0]), np.array([0.5]), np.zeros(4)
    Table.of(*cells).sample(jax.random.key(0))


def overflowing_location(context: Context) -> None:
    def model() -> None:
        v = numpyro.sample("v", dist.Normal(0.0, 3.0))
        numpyro.sample("x", dist.Normal(jnp.exp(v), 1.0))

    target = infimum.from_numpyro(model)
    family = families.named("noncentred").adapted(target, np.random.default_rng(0))
    family.start_from(families.FullRank().init(np.array([5000.0, 0.0]), np.ones(2)))


def too_little_memory(context: Context) -> None:
    context.patch.setattr("infimum.base.memory.total", lambda: 24 * 10**9)
    infimum.fit(target(log_density, np.zeros(50_000)), "fullrank")


def weights_of_nothing(context: Context) -> None:
    nowhere = target(lambda z: jnp.where(z[0] > 50, 0.0, -jnp.inf), np.zeros(2))
    weighed = dataclasses.replace(
        context.fit.weighed, log_p=np.full_like(context.fit.log_p, -np.inf)
    )
    assessment = dataclasses.replace(context.fit.assessment, draws=weighed)
    fit = dataclasses.replace(context.fit, target=nowhere, assessment=assessment)
    fit.sample(10, weighted=True)


def few_of_weight(context: Context) -> None:
    far = target(lambda z: jnp.where(z[0] > 4, log_density(z), -jnp.inf), np.zeros(2))
    fit = dataclasses.replace(context.fit, target=far)
    corrections.importance(fit, 1000, replace=False)


def other_version(context: Context) -> None:
    with zipfile.ZipFile("fit.zip", "w") as archive:
        archive.writestr("fit.json", json.dumps({"format": 99}))
    infimum.load("fit.zip")


def all_predictions(context: Context) -> None:
    target = infimum.from_numpyro(of_rows, np.zeros(5), rows="rows")
    infimum.predict(infimum.fit(target, "meanfield", starts=1, draws=200, progress=False))


def iterated_once(context: Context) -> None:
    rows(data=(block for block in [{"y": np.zeros(3)}]), n_rows=3)


def masked(context: Context) -> None:
    rows(data={"y": np.ma.masked_array(np.zeros(3), [False, True, False])}, way="blocks")


def gone(context: Context) -> None:
    np.save("y.npy", np.zeros(9))
    target_on_disk = rows(data={"y": np.load("y.npy", mmap_mode="r")}, way="blocks")
    Path("y.npy").unlink()
    target_on_disk.values(np.zeros((1, 1)))


def undefined_row(context: Context) -> None:
    y = np.zeros(5000)
    y[3217] = np.nan
    rows(data={"y": y})


def library_missing(context: Context) -> None:
    context.patch.setitem(sys.modules, "torch", None)
    infimum.from_torch(lambda p: p, 0.0)


def constant_site(context: Context) -> None:
    def model() -> None:
        numpyro.param("p", 1.0)
        numpyro.sample("x", dist.Normal(0.0, 1.0))

    infimum.from_numpyro(model)


def values_needed(context: Context) -> None:
    def model(group: Any, y: Any) -> None:
        with numpyro.plate("groups", int(group.max()) + 1):
            level = numpyro.sample("level", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows", len(y)):
            numpyro.sample("y", dist.Normal(level[group], 1.0), obs=y)

    infimum.from_numpyro(model, np.arange(6) % 3, np.zeros(6), rows="rows")


def latent_inside(context: Context) -> None:
    def model(y: Any) -> None:
        with numpyro.plate("rows", len(y)):
            theta = numpyro.sample("theta", dist.Normal(0.0, 1.0))
            numpyro.sample("y", dist.Normal(theta, 1.0), obs=y)

    infimum.from_numpyro(model, np.zeros(6), rows="rows")


def untransformed(context: Context) -> None:
    from languages import import_pymc

    pm = import_pymc()
    with pm.Model() as model:
        pm.HalfNormal("sigma", default_transform=None)
    infimum.from_pymc(model)


def no_toolchain(context: Context) -> None:
    bridgestan = pytest.importorskip("bridgestan")
    context.patch.setattr(bridgestan.compile, "get_bridgestan_path", lambda download=True: "")
    path = context.file("parameters { real x; }", "model.stan")
    infimum.from_stan(path, engine="bridgestan")


STAN = "data { vector[2] y; } parameters { real x; } model { %s }"


def stan(context: Context, program: str, data: Any = None, engine: str | None = None) -> None:
    for library in ("stanli", "bridgestan"):
        pytest.importorskip(library)
    infimum.from_stan(program, data, engine)


def stan_without_text(context: Context) -> None:
    pytest.importorskip("bridgestan")
    stanli = pytest.importorskip("stanli")
    model = stanli.bridgestan_model(stan_code="parameters { real x; } model { x ~ normal(0, 1); }")
    infimum.from_stan(model).unconstrain({"x": 0.0})


def unknown_constant(context: Context) -> None:
    for library in ("stanli", "bridgestan"):
        pytest.importorskip(library)
    program = "if (x > 0) x ~ normal(0, 1); else x ~ normal(0, 2);"
    target = infimum.from_stan(STAN % program, {"y": [1, 2]})
    fits = [infimum.fit(target, "meanfield", draws=500, starts=1, max_steps=3)] * 2
    infimum.compare(fits)


def two_devices(context: Context) -> None:
    torch = pytest.importorskip("torch")
    infimum.from_torch(log_density, [torch.zeros(2), torch.zeros(2, device="meta")])


def file_for_a_checkpoint(context: Context) -> None:
    infimum.fit(context.normal, checkpoint=context.file("", "thesis.tex"))


def begun(context: Context) -> Journal:
    """A checkpoint of another job."""
    return Journal.open(context.folder / "kept", {"seed": "0"})


def damaged(context: Context) -> None:
    begun(context).close()
    (context.folder / "kept" / "evaluations.bin").unlink()
    infimum.fit(context.normal, checkpoint="kept")


def another_job(context: Context) -> None:
    begun(context).close()
    infimum.fit(context.normal, checkpoint="kept")


def in_use(context: Context) -> None:
    pytest.importorskip("fcntl")
    journal = begun(context)
    try:
        infimum.fit(context.normal, checkpoint="kept")
    finally:
        journal.close()


def other_format(context: Context) -> None:
    begun(context).close()
    context.patch.setattr("infimum.target.journal.state.FORMAT", 99)
    infimum.fit(context.normal, checkpoint="kept")


def nobody_answers(context: Context) -> None:
    def initialize(*places: Any, **options: Any) -> None:
        raise RuntimeError("no coordinator")

    context.patch.setattr(jax.distributed, "initialize", initialize)
    processes.begin(None, None, None)


def shared(context: Context, parts: Callable[[np.ndarray], np.ndarray]) -> None:
    """Act as process 0 of two; `parts` gives the arrays of both."""
    context.patch.setattr(processes, "count", lambda: 2)
    context.patch.setattr(processes, "rank", lambda: 0)
    context.patch.setattr("jax.experimental.multihost_utils.process_allgather", parts)


def peer_ended(context: Context) -> None:
    def parts(array: np.ndarray) -> np.ndarray:
        raise RuntimeError("connection reset")

    shared(context, parts)
    processes.gathered(np.zeros(1))


def columns_differ(context: Context) -> None:
    shared(context, lambda array: np.stack([array, array + 1]))
    processes.agreed("the columns of the data", "['y']")


def nothing_corrects(context: Context) -> None:
    context.patch.setattr("infimum.trust.correct.LARGEST_DENSE", 1)
    context.patch.setattr(infimum.Fit, "verdict", "unreliable")
    infimum.correct(context.fit)


def many_parameters(context: Context) -> None:
    module = sys.modules["infimum.corrections.linear_response"]  # the name is the function's
    context.patch.setattr(module, "MOST_PARAMETERS", 1)
    corrections.linear_response(context.fit)


def at_a_saddle(context: Context) -> None:
    wells = target(lambda z: jnp.sum(40 * z**2 - z**4), np.zeros(2))
    corrections.linear_response(dataclasses.replace(context.fit, target=wells))


def no_way(context: Context) -> None:
    nowhere = target(lambda z: jnp.where(z[0] > 50, 0.0, -jnp.inf), np.zeros(2))
    corrections.annealing(dataclasses.replace(context.fit, target=nowhere))


def one_group(context: Context) -> None:
    fit = infimum.fit(target(chain, np.zeros(60)), "sparse", starts=1, draws=200, progress=False)
    corrections.blocks(fit)


def doubtful(context: Context) -> None:
    unreliable = dataclasses.replace(infimum.evidence(context.fit, "importance"), reliable=False)
    infimum.compare([unreliable, unreliable])


def all_failing(context: Context) -> None:
    calls = []

    def simulate(rng: np.random.Generator) -> Any:
        calls.append(rng)
        if len(calls) > 1:
            raise OverflowError("too far out")
        return np.zeros(2), context.normal

    infimum.calibrate(simulate=simulate, n=20, progress=False)


def far_workers(context: Context) -> None:
    infimum.calibrate(simulate=lambda rng: (np.zeros(2), context.normal), workers=2)


def without_data(context: Context) -> None:
    infimum.calibrate(lambda y: numpyro.sample("m", dist.Normal(y.sum(), 1.0)), np.zeros(3))


def stated(context: Context, text: str, name: str) -> None:
    read_target(f"{context.file(text)}:{name}")


def full_disk(context: Context) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    journal = begun(context)
    context.patch.setattr("infimum.target.journal.journal.write_state", full)
    journal._records.added = True
    journal.close()


def too_coarse(context: Context) -> None:
    rows(data={"y": 1e5 + np.arange(20_000.0)}, way="blocks", precision="float32")


WAYS: dict[str, tuple[Callable[[Context], Any], str, str, str]] = {
    "E101": (lambda g: target(3, 0.0), "log_density", "not 3", "must be a function"),
    "E102": (
        lambda g: target(lambda z: float(z[0]), np.zeros(2)),
        "log_density is not differentiable",
        "turns a parameter into a NumPy array or a Python number",
        "Use jax.numpy",
    ),
    "E103": (
        lambda g: target(lambda p: p["b"], {"a": 0.0}),
        "log_density asks for parameter",
        "'b'",
        "its parameters have shapes {'a': ()}",
    ),
    "E105": (lambda g: target(lambda z: z, np.zeros(3)), "log_density", "shape (3,)", ".sum()"),
    "E107": (
        lambda g: infimum.fit(target(lambda z: jnp.sum(jnp.log(z - 50)), np.zeros(2)), "meanfield"),
        "log density is NaN",
        "z[0] =",
        "give its support",
    ),
    "E108": (wrong_gradient, "gradient", "coordinate 'z[", "the sign is wrong"),
    "E109": (random_density, "the log density is", "and then", "it must be a function"),
    "E110": (
        lambda g: infimum.from_numpy(lambda z: -0.5 * z @ z, 21),
        "without a gradient",
        "this has 21",
        "Return (value, gradient)",
    ),
    "E120": (lambda g: target(log_density, {"k": 3}), "parameter 'k'", "is 3", "Write a float"),
    "E121": (
        lambda g: target(log_density, {"s": -1.0}, {"s": "positive"}),
        "example of parameter 's'",
        "-1.0, is outside its support positive",
        "give a value inside it",
    ),
    "E122": (
        lambda g: target(log_density, {}),
        "the example",
        "no parameters",
        "Give at least one",
    ),
    "E123": (
        lambda g: target(log_density, {"a": {"b": 0.0}, "a.b": 0.0}),
        "duplicate parameter name",
        "'a.b'",
        "rename one of the two",
    ),
    "E130": (
        lambda g: target(log_density, {"s": 0.0}, {"s": "posetive"}),
        "parameter 's': unknown support",
        "'posetive'",
        "known: ",
    ),
    "E131": (lambda g: supports.interval(2, 1), "interval", "(2, 1)", "must be below the upper"),
    "E132": (
        lambda g: target(log_density, {"p": 0.5}, {"p": "simplex"}),
        "support simplex does not fit parameter 'p'",
        "of shape ()",
        "Give the example these",
    ),
    "E134": (
        lambda g: target(log_density, {"a": 0.0}, {"b": "positive"}),
        "a support is given for",
        "'b'",
        "its parameters are 'a'",
    ),
    "E201": (lambda g: infimum.fit(g.normal, "fulrank"), "family", "'fulrank'", "known: auto"),
    "E202": (
        lambda g: families.MeanField().start_from("q"),
        "mean-field can start from",
        "not from str",
        "begin with init",
    ),
    "E203": (lambda g: families.LowRank(0), "rank", "is 0", "at least 1, or None"),
    "E205": (on_the_host, "a Table", "inside a program of JAX", "use draw and log_density"),
    "E210": (
        lambda g: infimum.fit(g.normal, "noncentred"),
        "target 'normal'",
        "no location-scale hierarchy",
        'take family="fullrank"',
    ),
    "E211": (too_many_for_a_flow, "a flow", "in 2 dimensions, more than 1", "give a base"),
    "E212": (overflowing_location, "location and scale of", "x", "look for a scale that overflows"),
    "E220": (
        lambda g: infimum.fit(infimum.from_numpy(lambda z: -0.5 * z @ z, 3, name="v"), "sparse"),
        "has no gradient",
        "'v'",
        '"fullrank"',
    ),
    "E222": (
        lambda g: infimum.fit(target(lambda z: -0.5 * jnp.sum(z) ** 2, np.zeros(3)), "sparse"),
        "the Hessian of",
        "has no zeros",
        'Fit "fullrank"',
    ),
    "E223": (
        lambda g: infimum.fit(g.normal, families.Sparse(np.array([[40], [0]]))),
        "edges name coordinates",
        "from 0 to 40",
        "outside 0 to 1",
    ),
    "E225": (
        lambda g: plots.plot_sparsity(g.fit),
        "the family is 'meanfield'",
        "no pattern",
        'fit with family="sparse"',
    ),
    "E226": (
        lambda g: infimum.fit(g.normal, families.Nested()),
        "nested family does not suit 'normal'",
        "2 dimensions",
        "fewer than 9",
    ),
    "E227": (
        lambda g: infimum.fit(target(lambda z: -0.5 * jnp.sum(z**2), np.zeros(11)), "emulated"),
        "emulated family does not suit",
        "11 dimensions",
        "more than 10",
    ),
    "E230": (too_little_memory, "fullrank at d = 50,000", "24 GB", "try "),
    "E301": (
        lambda g: infimum.fit(3),
        "infimum.Target",
        "not 3",
        "wrap a log density",
    ),
    "E302": (
        lambda g: infimum.fit(g.normal, draws=1),
        "draws",
        "is 1",
        "expected an integer of at least 100",
    ),
    "E303": (
        lambda g: infimum.fit(g.normal, tolerance=-1.0),
        "tolerance",
        "is -1.0",
        "expected a positive number of nats",
    ),
    "E304": (
        lambda g: infimum.fit(g.normal, seed=-3),
        "seed",
        "is -3",
        "expected an integer of at least 0",
    ),
    "E305": (lambda g: infimum.climb(g.normal, []), "ladder", "empty", "give at least one family"),
    "E306": (
        lambda g: infimum.evidence(g.fit, "bridge"),
        "method",
        "is 'bridge'",
        "expected 'auto', 'importance' or 'smc'",
    ),
    "E307": (
        lambda g: infimum.fit(g.normal, start=np.zeros(3)),
        "the start of parameter 'z'",
        "shape (3,)",
        "expected (2,) for a point",
    ),
    "E308": (
        lambda g: infimum.fit(target(lambda p: jnp.log(p["x"]), {"x": 1.0}), start={"x": -1.0}),
        "the log density is NaN at the start",
        "x = -1",
        "leave start out",
    ),
    "E310": (
        lambda g: infimum.fit(g.normal, "fullrank", solver="adam"),
        "solver",
        "'adam'",
        "known: Natural",
    ),
    "E401": (
        lambda g: corrections.importance(dataclasses.replace(g.fit, target=None)),
        "this fit",
        "without its target",
        "fit again, or build the target",
    ),
    "E403": (
        lambda g: corrections.importance(g.fit, 50).sample(100),
        "n is 100",
        "made 50 draws",
        "correct the fit again with more",
    ),
    "E404": (
        weights_of_nothing,
        "draws can't be reweighted",
        "undefined, or zero",
        "See fit.advice",
    ),
    "E405": (
        few_of_weight,
        "n is 1000",
        "draws have weight",
        "draw with replacement",
    ),
    "E410": (lambda g: g.fit.summary(["nope"]), "quantity", "'nope'", "there are z[0]"),
    "E411": (
        lambda g: g.normal.unconstrain({"b": np.zeros(2)}),
        "draws of structure",
        "'b'",
        "as fit.sample gives them",
    ),
    "E420": (
        lambda g: infimum.load(g.file("hello", "fit.zip")),
        "fit.zip",
        "is not a fit saved by infimum",
        "Take another copy",
    ),
    "E421": (other_version, "fit.zip", "format version 99", "load it with the version"),
    "E430": (
        lambda g: infimum.predict(3),
        "predict takes a fit",
        "not 3",
        "infimum.predict(infimum.fit(target))",
    ),
    "E431": (
        lambda g: infimum.predict(g.fit),
        "this target is a log density",
        "nothing about new data",
        "compute predictions from fit.sample(n)",
    ),
    "E432": (
        lambda g: g.fit.loo(),
        "this target is a log density",
        "does not tell observations apart",
        "state the model with from_numpyro",
    ),
    "E433": (all_predictions, "predictions", "for all rows", "give new rows"),
    "E501": (
        lambda g: rows(data=[0.0, 1.0]),
        "data[0]",
        "is 0.0",
        "make arrays of lists, with np.array",
    ),
    "E502": (iterated_once, "data are a generator", "once only", "that can be iterated again"),
    "E504": (
        lambda g: rows(data={"x": np.zeros(5), "y": np.zeros(4)}),
        "row counts disagree",
        "data['x'] 5, data['y'] 4",
        "first axis is the rows",
    ),
    "E505": (lambda g: rows(n=0), "the data", "no rows", "give at least one"),
    "E507": (masked, "data['y']", "masked entries", "leave their rows out, or fill them"),
    "E508": (
        lambda g: rows(data=[{"y": np.zeros(3)}, {"y": np.zeros(3, np.float32)}], n_rows=6),
        "block 1",
        "float32",
        "must be those of the first",
    ),
    "E510": (gone, "the data file", "y.npy has disappeared", "Fit again"),
    "E520": (
        lambda g: rows(lambda p, rows: rows["z"]),
        "log_likelihood raised KeyError",
        "'z'",
        "structure and dtypes are those of the data",
    ),
    "E521": (
        lambda g: rows(lambda p, rows: rows["y"] * p["m"]),
        "log_likelihood must return a scalar",
        "an array of shape",
        "sum over the rows, with .sum()",
    ),
    "E523": (
        lambda g: rows(lambda p, rows: summed(p, rows) / len(rows["y"])),
        "log_likelihood is not a sum over rows",
        "all 8 together",
        "do not average",
    ),
    "E524": (
        lambda g: rows(
            lambda p, local, rows: apart(p, local, rows) + jnp.mean(rows["y"]), local={"u": 0.0}
        ),
        "log_likelihood mixes rows",
        "row ",
        "may depend on that row and its own local variables only",
    ),
    "E525": (undefined_row, "row 3,217", "nan", "Leave such rows out"),
    "E530": (
        lambda g: rows(apart, local={"u": np.zeros(21)}),
        "local",
        "21 variables a row, at most 20",
        "make rows smaller",
    ),
    "E531": (
        lambda g: rows().locals({"m": np.zeros(3)}),
        "the target",
        "no local variables",
        "declare them with Rows(local=...)",
    ),
    "E532": (
        lambda g: rows(apart, local={"u": 0.0}).locals({"m": np.zeros(3)}, rows=[3, 1]),
        "rows",
        "[3, 1]",
        "must ascend, between 0 and 7",
    ),
    "E601": (lambda g: infimum.from_numpyro(3), "from_numpyro", "not 3", "takes a model function"),
    "E602": (library_missing, "torch", "is not installed", 'pip install "infimum[torch]"'),
    "E603": (
        lambda g: infimum.from_numpyro(of_rows),
        "model 'of_rows'",
        "'y'",
        "Give its arguments after it",
    ),
    "E610": (constant_site, "site 'p' of model 'model'", "numpyro.param", "give it a prior"),
    "E611": (
        lambda g: infimum.from_numpyro(of_rows, np.zeros(3), rows="row"),
        "model 'of_rows'",
        "no plate 'row'; its plates are rows",
        "Put the observations into a plate",
    ),
    "E612": (values_needed, "model 'model' raised", "not known", "must be an argument of its own"),
    "E614": (latent_inside, "site 'theta'", "inside the plate 'rows'", "infimum.Rows(..., local="),
    "E620": (untransformed, "variable 'sigma'", "no transform", "leave default_transform as it is"),
    "E630": (no_toolchain, "model.stan", "toolchain is not installed", "for how to install it"),
    "E631": (
        lambda g: stan(g, "parameters { real x }"),
        "Stan program does not compile",
        "line 1, column 20",
        'Expected ";" after variable declaration',
    ),
    "E632": (
        lambda g: stan(g, STAN % "", {"y": [1.0, np.nan]}),
        "data entry y[1]",
        "nan",
        "remove these observations",
    ),
    "E633": (
        stan_without_text,
        "log-Jacobian of this Stan model",
        "not known",
        "give from_stan the program",
    ),
    "E634": (
        lambda g: stan(g, STAN % "", {"y": [1, 2]}, "cmdstan"),
        "engine",
        "'cmdstan'",
        "expected 'stanli' or 'bridgestan'",
    ),
    "E640": (two_devices, "the example's tensors", "meta", "Move them to one"),
    "E651": (
        lambda g: infimum.from_numpy(lambda z: (1.0, -z, 2), 2),
        "value_and_gradient",
        "it returned 3 things",
        "must return (log p̂, gradient)",
    ),
    "E652": (
        lambda g: infimum.from_numpy(both, 3, ["a", "b"]),
        "names",
        "given: ['a', 'b']",
        "must be 3 different names",
    ),
    "E701": (file_for_a_checkpoint, "checkpoint", "thesis.tex", "expected a folder"),
    "E703": (damaged, "checkpoint in 'kept'", "evaluations.bin is missing", "restore a copy"),
    "E704": (another_job, "checkpoint in 'kept'", "that of this call is normal", "another folder"),
    "E706": (in_use, "checkpoint in 'kept'", "in use by another fit", "wait for it to end"),
    "E707": (other_format, "checkpoint in 'kept'", "this infimum reads 99", "use the version"),
    "E720": (nobody_answers, "the distributed run", "no coordinator", "--coordinator HOST:PORT"),
    "E721": (peer_ended, "a process", "connection reset", "start all processes again"),
    "E723": (columns_differ, "the columns of the data", "['y']", "Give all processes the same"),
    "E724": (
        lambda g: command("fit", g.file(""), "--process", "0"),
        "--coordinator, --processes and --process",
        "have no effect without --distributed",
        "add it, or leave them out",
    ),
    "E801": (nothing_corrects, "no correction applies", "none is for d = 2", "Fit a larger family"),
    "E802": (many_parameters, "q has 4 parameters", "at most 1.", "Fit a smaller family"),
    "E804": (at_a_saddle, "q is not at a minimum", "eigenvalue -", "Fit it to convergence first"),
    "E805": (no_way, "p̂ is zero or undefined", "all but 0 of", "Give parameters the supports"),
    "E806": (one_group, "more than", "coordinates are coupled", "blocks is for small groups"),
    "E811": (
        lambda g: infimum.compare([g.fit]),
        "fits to compare",
        "1 given",
        "expected at least two",
    ),
    "E814": (
        unknown_constant,
        "can't be compared",
        "`x ~ normal(0, 1);` (line 1)",
        "write it as target +=",
    ),
    "E813": (doubtful, "evidence is not reliable", "normal", "Fit a larger family"),
    "E820": (
        lambda g: infimum.calibrate(),
        "calibrate(",
        "neither was given",
        "expected calibrate(model, *args)",
    ),
    "E821": (all_failing, "none of 20 data sets", "OverflowError: too far out", "data set 0"),
    "E822": (
        lambda g: infimum.calibrate(simulate=lambda rng: 3),
        "simulate returned",
        "3",
        "expected (params, infimum.Target)",
    ),
    "E824": (
        far_workers,
        "other processes",
        "can't have the model",
        "define the model in a module",
    ),
    "E826": (without_data, "model '<lambda>'", "no observed site", "give it data"),
    "E901": (
        lambda g: read_target("absent.py"),
        "there is no file",
        "absent.py",
        "give FILE.py:NAME",
    ),
    "E902": (
        lambda g: plots.plot_families([]),
        "got 0 fits",
        "expected at least one",
        "give fits of one target",
    ),
    "E905": (
        lambda g: plots.plot_predictions(g.fit, "y"),
        "observed site",
        "'y'",
        "observed: none",
    ),
    "E906": (
        lambda g: g.fit.plot(masses=[0.5, 90]),
        "masses",
        "[0.5, 90]",
        "expected numbers between 0 and 1",
    ),
    "E911": (
        lambda g: draws_file.writer(Path("draws.xls")),
        "draws",
        "draws.xls",
        "must end in .csv, .parquet or .nc",
    ),
    "E912": (
        lambda g: command("report", "fit.zip", "--out", "absent/page.html"),
        "page.html",
        "there is no folder absent",
        "Create the folder first",
    ),
    "E913": (
        lambda g: read_target(g.file("", "model.txt")),
        "model.txt",
        "neither a Python file nor a Stan program",
        "give FILE.py:NAME or FILE.stan",
    ),
    "E915": (
        lambda g: stated(g, "number = 3", "number"),
        "'number' in",
        "3",
        "expected an infimum.Target",
    ),
    "E917": (
        lambda g: stated(g, "def model(x, y): ...", "model"),
        "'model' in",
        "needs arguments (x, y)",
        "bind them in the file",
    ),
    "E918": (
        lambda g: stated(g, "\nraise RuntimeError('no such column')", "model"),
        "model.py",
        "line 2",
        "no such column",
    ),
    "E920": (
        lambda g: command("explain", "E999"),
        "code",
        "'E999'",
        "Give the code at the end of a message",
    ),
    "W101": (full_disk, "checkpoint in", "No space left on device", "See that there is room"),
    "W102": (too_coarse, "in float32", "over 20,000 rows", 'give precision="float64"'),
    "W103": (
        lambda g: warn_renamed("old_name", "new_name"),
        "old_name",
        "is now called new_name",
        "is removed in infimum",
    ),
}
"""For each code a call that raises it, and words on what, where or how much, and what to do."""

ELSEWHERE = {
    "E434": (
        "sources/test_stan.py",
        "test_a_model_without_generated_quantities_says_what_to_write",
    ),
}
"""Codes that take too long to reach here, with the file and the test that reach them."""


def test_there_is_a_way_to_every_code():
    assert sorted([*WAYS, *ELSEWHERE]) == list(catalogue())


@pytest.mark.parametrize("code", WAYS)
def test_its_message_says_what_how_much_and_what_to_do(code, context):
    way, *words = WAYS[code]
    if code.startswith("W"):
        with pytest.warns(
            (UserWarning, DeprecationWarning), match=re.escape(f"[{code}]")
        ) as caught:
            way(context)
        (message,) = {str(one.message) for one in caught}
    else:
        with pytest.raises(Exception) as raised:  # noqa: PT011
            way(context)
        message = str(raised.value)
    assert message.endswith(f"[{code}]")
    assert len(re.findall(r"\[[EW]\d{3}\]", message)) == 1
    for word in words:
        assert word in message


@pytest.mark.parametrize("code", ELSEWHERE)
def test_other_tests_reach_the_remaining_codes(code):
    file, name = ELSEWHERE[code]
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    (test,) = (x for x in ast.walk(tree) if isinstance(x, ast.FunctionDef) and x.name == name)
    assert f"[{code}]" in ast.unparse(test).replace("\\", "")
