"""A fit as a file: a zip of plain arrays (.npy) and JSON. Loading it executes nothing."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infimum import families
from infimum.answer.answer import Answer
from infimum.answer.assessment import Assessment
from infimum.answer.proposal import Proposal, StudentT
from infimum.answer.record import Route, RungReport, StartReport, Work
from infimum.answer.unseen import UnseenMass
from infimum.answer.weighed import WeighedDraws
from infimum.base.errors import coded, plain
from infimum.base.program import double_precision
from infimum.base.seeds import Seed
from infimum.checks.weights import Estimate
from infimum.families._distribution import Distribution
from infimum.gaussian.stack import Tails
from infimum.solvers._solver import Reason
from infimum.supports import Support, named
from infimum.target.bijection import Bijection
from infimum.target.model import Labels
from infimum.target.space import NONE, Leaf, Space

FORMAT = 3
"""Version of the file; a file of another version is refused."""

NO_CODE = (
    "a fit loaded from disk has neither the model's code nor its data, which this needs: use the "
    "original fit, or fit again"
)

AGAIN = "Take another copy of it, or save the fit again"

LARGEST_ENTRY = 2**33
"""Bytes that one array of a file may unpack to: 8 GiB, against decompression bombs."""


def save(fit: Answer, path: Path) -> Path:
    """Write the fit; an existing file is replaced only when the new one is whole."""
    portable = _portable(fit.space) and all(map(_whole, [fit.q, *fit.proposal.others]))
    arrays = {"log_p": fit.log_p, "log_q": fit.log_q, "log_r": fit.log_r}
    for place, member in enumerate([fit.q, *fit.proposal.others]):
        arrays |= {f"q{place}/{name}": leaf for name, leaf in member.arrays().items()}
    if fit.proposal.wide is not None:
        arrays |= {f"wide/{name}": leaf for name, leaf in _fields(fit.proposal.wide).items()}
    unseen = fit.assessment.unseen
    if unseen is not None:
        arrays |= {"beyond/z": unseen.z, "beyond/lacking": np.asarray(unseen.shift)}
    if not portable:
        values = jax.tree_util.tree_leaves(fit.weighed.constrained())
        arrays |= {f"draws/{place}": value for place, value in enumerate(values)}
    partial = path.with_name(path.name + ".part")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("fit.json", json.dumps(_description(fit, portable), indent=1))
        for name, value in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asarray(value), allow_pickle=False)
            archive.writestr(f"{name}.npy", buffer.getvalue())
    partial.replace(path)
    return path


def read(path: str | Path) -> dict[str, Any]:
    """The fields of the answer that a file holds.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not such a file, is damaged, or has another version; nothing in it is executed.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            described = json.loads(_entry(archive, "fit.json"))
            version = described.get("format") if isinstance(described, dict) else None
            if version != FORMAT:
                raise ValueError(
                    coded(
                        "E421",
                        f"{path} has format version {version!r}, this infimum reads {FORMAT}: load "
                        "it with the version of infimum that wrote it",
                    )
                )
            arrays = {
                name.removesuffix(".npy"): _array(archive, name)
                for name in archive.namelist()
                if name.endswith(".npy")
            }
        return _rebuild(described, arrays)
    except (zipfile.BadZipFile, KeyError, TypeError, AttributeError, EOFError) as error:
        told = f"{path} is not a fit saved by infimum, or is damaged: {plain(error)}. {AGAIN}"
        raise ValueError(coded("E420", told)) from error
    except ValueError as error:
        if str(error).startswith(str(path)):
            raise
        told = f"{path} is not a fit saved by infimum: {plain(error)}. {AGAIN}"
        raise ValueError(coded("E420", told)) from error


def _checked(member: Distribution) -> Distribution:
    """The member, if a draw and its density can be had from it; or if they need the model."""
    if not _whole(member):
        return member
    with double_precision():
        key = jax.eval_shape(lambda: jax.random.key(0))
        z, log_q = jax.eval_shape(lambda key: member.sample_and_log_prob(key), key)
    if z.shape != (member.dim,) or log_q.shape != ():
        raise ValueError("the arrays of its q have shapes that do not belong together")
    return member


def options(family: Any) -> dict[str, Any]:
    """The fields of a family that are numbers and strings; what it found in its target is none."""
    fields = {x.name: getattr(family, x.name) for x in dataclasses.fields(family)}
    return {k: x for k, x in fields.items() if isinstance(x, str | int | float | None)}


def _fields(member: Any) -> dict[str, np.ndarray]:
    return {x.name: np.asarray(getattr(member, x.name)) for x in dataclasses.fields(member)}


def _below(folder: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of one folder, by their names in it."""
    start = f"{folder}/"
    return {name[len(start) :]: x for name, x in arrays.items() if name.startswith(start)}


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    if info.file_size > LARGEST_ENTRY:
        raise ValueError(f"entry {name} claims {info.file_size} bytes")
    return archive.read(name)


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    value = np.lib.format.read_array(io.BytesIO(_entry(archive, name)), allow_pickle=False)
    if value.dtype.kind not in "fi":
        raise ValueError(f"entry {name} has dtype {value.dtype}, expected numbers")
    return value.astype(np.float64) if value.dtype.kind == "f" else value


def _description(fit: Answer, portable: bool) -> dict[str, Any]:
    work = dataclasses.asdict(fit.work)
    return {
        "format": FORMAT,
        "name": fit.name,
        "family": {"name": fit.family.name, **options(fit.family)},
        "seed": plain_seed(fit.seed),
        "reason": fit.reason.name,
        "n_draws": fit.n_draws,
        "beyond": None if fit.assessment.unseen is None else fit.assessment.unseen.mass,
        "members": 1 + fit.rivals,
        "starts": [
            {**dataclasses.asdict(s), "reason": s.reason.name, "elbo": _number(s.elbo)}
            for s in fit.starts
        ],
        "work": work,
        "route": None if fit.route is None else _plain_route(fit.route),
        "trace": [[n, _number(value)] for n, value in fit.trace],
        "tree": _skeleton(fit.space),
        "supports": _supports(fit.space) if portable else None,
        "leaves": [
            [leaf.name, list(leaf.shape), leaf.derived, leaf.noisy] for leaf in fit.space.leaves
        ],
        "free_names": fit.space.free_names,
        "dims": {name: list(axes) for name, axes in fit.model.dims().items()},
        "coords": {name: _labels(labels) for name, labels in fit.model.coords().items()},
    }


def _rebuild(described: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    options = dict(described["family"])
    family = dataclasses.replace(families.named(options.pop("name")), **options)
    q, *others = (
        _checked(family.from_arrays(_below(f"q{place}", arrays)))
        for place in range(described["members"])
    )
    wide = _below("wide", arrays)
    proposal = Proposal(q, _wide(wide) if wide else None, tuple(others))
    leaves = tuple(
        Leaf(str(name), tuple(shape), *flags) for name, shape, *flags in described["leaves"]
    )
    if 8 * sum(math.prod(leaf.shape) for leaf in leaves) > LARGEST_ENTRY:
        raise ValueError(f"its parameters claim shapes {[leaf.shape for leaf in leaves]}")
    structure = jax.tree_util.tree_structure(_tree(described["tree"]))
    stored = None
    space: Space
    if described["supports"] is None:
        held = [arrays[f"draws/{place}"] for place in range(len(leaves))]
        stored = jax.tree_util.tree_unflatten(structure, held)
        space = StoredSpace(leaves, structure, [str(name) for name in described["free_names"]])
    else:
        space = _bijection(leaves, structure, described["supports"])
    n_draws = int(described["n_draws"])
    lengths = {len(arrays[name]) for name in ("log_p", "log_q", "log_r")}
    if lengths != {sum(proposal.counts(n_draws))} or space.dim != q.dim:
        raise ValueError("its arrays do not belong together")
    unseen = _unseen(described.get("beyond"), _below("beyond", arrays), q.dim, len(space.names))
    draws = WeighedDraws(
        proposal=proposal,
        space=space,
        seed=_seed(described["seed"]),
        n=n_draws,
        log_p=arrays["log_p"],
        log_q=arrays["log_q"],
        log_r=arrays["log_r"],
        stored=stored,
    )
    return dict(
        family=family,
        name=str(described["name"]),
        assessment=Assessment(draws, Reason[described["reason"]], unseen),
        starts=tuple(
            StartReport(**{**s, "reason": Reason[s["reason"]], "elbo": _float(s["elbo"])})
            for s in described["starts"]
        ),
        work=Work(**described["work"]),
        route=None if described["route"] is None else _route(described["route"]),
        trace=tuple((int(n), _float(value)) for n, value in described["trace"]),
        model=Labels(described["dims"], described["coords"], (NO_CODE, NO_CODE)),
    )


def _unseen(
    mass: float | None, arrays: dict[str, np.ndarray], dim: int, k: int
) -> UnseenMass | None:
    """As it was found; files from before it was looked for have none."""
    if mass is None:
        return None
    z, shift = arrays["z"], arrays["lacking"]
    if not 0 <= mass < math.inf or z.shape[1:] != (dim,) or shift.shape not in ((), (k,)):
        raise ValueError("what it found beyond the weights does not belong to it")
    return UnseenMass(float(mass), z, shift)


def _plain_route(route: Route) -> dict[str, Any]:
    rungs = [
        [rung.family, *map(_number, (*rung.elbo, *rung.kl, rung.seconds)), rung.verdict]
        for rung in route.rungs
    ]
    return {"rungs": rungs, "skipped": route.skipped, "ended": route.ended}


def _route(plain: dict[str, Any]) -> Route:
    rungs = []
    for family, *numbers, verdict in plain["rungs"]:
        elbo, elbo_se, kl, kl_se, seconds = map(_float, numbers)
        known = Estimate(elbo, elbo_se), Estimate(kl, kl_se)
        rungs.append(RungReport(str(family), *known, str(verdict), seconds))
    skipped = tuple((str(name), str(why)) for name, why in plain["skipped"])
    return Route(tuple(rungs), skipped, str(plain["ended"]))


def _wide(arrays: dict[str, np.ndarray]) -> StudentT | Tails:
    """A wide proposal from its arrays, of one component or of several."""
    freedom = float(arrays["freedom"])
    if "log_weights" in arrays:
        return Tails(arrays["means"], arrays["factors"], arrays["log_weights"], freedom)
    return StudentT(arrays["mean"], arrays["factor"], freedom)


def _bijection(leaves: Sequence[Leaf], structure: Any, supports: list[Any]) -> Bijection:
    example = [np.zeros(leaf.shape) for leaf in leaves]
    read = [named(s["name"], *_arguments(s["arguments"])) for s in supports]
    unflatten = jax.tree_util.tree_unflatten
    with double_precision():
        return Bijection(unflatten(structure, example), unflatten(structure, read))


class StoredSpace(Space):
    """The space of a loaded fit whose quantities only the model's own code can compute."""

    def __init__(self, leaves: tuple[Leaf, ...], treedef: Any, free_names: list[str]) -> None:
        self.leaves = leaves
        self.treedef = self.structure = treedef
        self.dim = len(free_names)
        self._free_names = free_names

    @property
    def free_names(self) -> list[str]:
        """As the model had them."""
        return self._free_names

    def draws(self, z: np.ndarray) -> Any:
        """Refuse."""
        raise ValueError(coded("E401", "new draws need the model's own code: use the original fit"))

    def invert(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Refuse."""
        raise ValueError(
            coded("E401", "log_prob needs the model's own code here: use the original fit")
        )

    def coordinates(self) -> list[int]:
        """None is known."""
        return [NONE] * len(self.names)


def _labels(labels: Sequence[Any]) -> list[Any]:
    plain: list[Any] = np.asarray(labels).tolist()
    return [x if isinstance(x, str | int | float) else str(x) for x in plain]


def _whole(member: Any) -> bool:
    """Whether the arrays of a member, and of the members that it is made of, say all of it."""
    inner = [getattr(member, field.name) for field in dataclasses.fields(member)]
    nested = [x for x in inner if isinstance(x, Distribution)]
    return member.portable and all(map(_whole, nested))


def _portable(space: Space) -> bool:
    return (
        isinstance(space, Bijection)
        and space.derived is None
        and all(isinstance(p.support, Support) and p.support.portable for p in space.parameters)
    )


def _supports(space: Any) -> list[dict[str, Any]]:
    return [_support(parameter.support) for parameter in space.parameters]


def _support(support: Any) -> dict[str, Any]:
    arguments = [np.asarray(argument).tolist() for argument in support.arguments]
    return {"name": support.name, "arguments": arguments}


def _arguments(given: list[Any]) -> list[Any]:
    return [np.asarray(x, np.float64) if isinstance(x, list) else x for x in given]


def _skeleton(space: Space) -> Any:
    """The parameters' structure in JSON; containers of a user's own become dicts by name."""
    blank = jax.tree_util.tree_unflatten(space.treedef, range(len(space.leaves)))
    plain = _is_plain(blank)
    return blank if plain else {leaf.name: i for i, leaf in enumerate(space.leaves)}


def _is_plain(tree: Any) -> bool:
    if isinstance(tree, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in tree.items())
    return isinstance(tree, int) or (type(tree) is list and all(map(_is_plain, tree)))


def _tree(skeleton: Any) -> Any:
    if not _is_plain(skeleton):
        raise ValueError("its parameter structure is malformed")
    return skeleton


def plain_seed(seed: Seed) -> Any:
    if isinstance(seed, int | np.integer):
        return int(seed)
    typed = isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key)
    return [int(word) for word in np.ravel(jax.random.key_data(seed) if typed else seed)]


def _seed(plain: Any) -> Seed:
    return plain if isinstance(plain, int) else np.asarray(plain, np.uint32)


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _float(value: Any) -> float:
    return float(value)
