"""The fields of an answer as plain arrays and JSON, and the way back."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infimum import families
from infimum.answer.answer import Answer
from infimum.answer.assessment import Assessment
from infimum.answer.proposal import Proposal, WideScales
from infimum.answer.record import Route, RungReport, StartReport, Work
from infimum.answer.unseen import UnseenMass
from infimum.answer.weighed import WeighedDraws
from infimum.base.errors import coded_error
from infimum.base.program import double_precision
from infimum.base.seeds import Seed
from infimum.checks.weights import Estimate
from infimum.families._distribution import Distribution
from infimum.families._family import Family, arrays_below
from infimum.families._host import Conditioned, HostOnly
from infimum.gaussian.student_t import StudentT
from infimum.gaussian.student_t_mixture import StudentTMixture
from infimum.solvers._solver import Reason
from infimum.supports import Support, named
from infimum.target.bijection import Bijection
from infimum.target.model import Labels
from infimum.target.space import NO_COORDINATE, Leaf, Space

LARGEST_ARRAY = 2**33
"""Bytes that one array may take: 8 GiB, which stops decompression bombs."""

NO_CODE = (
    "a fit loaded from disk has neither the model's code nor its data, which this needs: use the "
    "original fit, or fit again"
)
"""Why a loaded fit can't predict."""


def _checked(member: Distribution) -> Distribution:
    """The member, once its arrays are known to have the shapes of one member."""
    if not _whole(member):
        return member
    if isinstance(member, HostOnly):
        z = member.draw(np.random.default_rng(0), 1)
        if z.shape != (1, member.dim) or member.log_density(z).shape != (1,):
            raise ValueError("the arrays of its q have shapes that do not belong together")
        return member
    with double_precision():
        key = jax.eval_shape(lambda: jax.random.key(0))
        z, log_q = jax.eval_shape(lambda key: member.sample_and_log_prob(key), key)
    if z.shape != (member.dim,) or log_q.shape != ():
        raise ValueError("the arrays of its q have shapes that do not belong together")
    return member


def options(family: Family) -> dict[str, Any]:
    """The fields of a family that are numbers or strings, which are those a user chooses."""
    fields = {x.name: getattr(family, x.name) for x in dataclasses.fields(family)}
    return {k: x for k, x in fields.items() if isinstance(x, str | int | float | None)}


def _fields(member: StudentT | StudentTMixture) -> dict[str, np.ndarray]:
    return {x.name: np.asarray(getattr(member, x.name)) for x in dataclasses.fields(member)}


def is_portable(fit: Answer) -> bool:
    """Whether arrays alone say all of it, so that a loaded fit needs no code of the model's."""
    return _portable(fit.space) and all(map(_whole, [fit.q, *fit.proposal.others]))


def arrays_of(fit: Answer, portable: bool) -> dict[str, np.ndarray]:
    """Every array by its name in the file; the draws too, if the fit is not portable."""
    arrays = {"log_p": fit.log_p, "log_q": fit.log_q, "log_r": fit.log_r}
    for place, member in enumerate([fit.q, *fit.proposal.others]):
        arrays |= {f"q{place}/{name}": leaf for name, leaf in member.arrays().items()}
    if fit.proposal.wide is not None:
        wide = fit.proposal.wide
        plain = wide.outer if isinstance(wide, WideScales) else wide
        arrays |= {f"wide/{name}": leaf for name, leaf in _fields(plain).items()}
    unseen = fit.assessment.unseen
    if unseen is not None:
        arrays |= {"beyond/z": unseen.z, "beyond/lacking": np.asarray(unseen.shift)}
    if not portable:
        values = jax.tree_util.tree_leaves(fit.weighed.constrained())
        arrays |= {f"draws/{place}": value for place, value in enumerate(values)}
    return arrays


def describe(fit: Answer, portable: bool) -> dict[str, Any]:
    """Everything that is no array, as JSON has it."""
    work = dataclasses.asdict(fit.work)
    return {
        "name": fit.name,
        "family": {"name": fit.family.name, **options(fit.family)},
        "seed": plain_seed(fit.seed),
        "reason": fit.reason.name,
        "n_draws": fit.n_draws,
        "beyond": None if fit.assessment.unseen is None else fit.assessment.unseen.mass,
        "kl_conditional": _pair(fit.assessment.kl_conditional),
        "looked": fit.assessment.looked,
        "members": 1 + fit.rivals,
        "n_colours": None if fit.structure is None else fit.structure.n_colours,
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
        "unknown_constant": fit.model.unknown_constant,
        "dims": {name: list(axes) for name, axes in fit.model.dims().items()},
        "coords": {name: _labels(labels) for name, labels in fit.model.coords().items()},
    }


def rebuild(described: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The fields of the answer, from the file's JSON and its arrays by name."""
    options = dict(described["family"])
    family = dataclasses.replace(families.named(options.pop("name")), **options)
    return {
        "family": family,
        "name": str(described["name"]),
        "assessment": _assessment(family, described, arrays),
        "starts": tuple(
            StartReport(**{**s, "reason": Reason[s["reason"]], "elbo": _float(s["elbo"])})
            for s in described["starts"]
        ),
        "work": Work(**described["work"]),
        "_n_colours": described.get("n_colours"),
        "route": None if described["route"] is None else _route(described["route"]),
        "trace": tuple((int(n), _float(value)) for n, value in described["trace"]),
        "model": Labels(
            described["dims"],
            described["coords"],
            (NO_CODE, NO_CODE),
            described.get("unknown_constant"),
        ),
    }


def _assessment(
    family: Family, described: dict[str, Any], arrays: dict[str, np.ndarray]
) -> Assessment:
    members = [
        _checked(family.from_arrays(arrays_below(f"q{place}", arrays)))
        for place in range(described["members"])
    ]
    proposal = Proposal(members[0], _wide(members[0], arrays), tuple(members[1:]))
    space, stored = _space(described, arrays)
    n_draws, dim = int(described["n_draws"]), proposal.q.dim
    densities = {name: arrays[name] for name in ("log_p", "log_q", "log_r")}
    lengths = {len(values) for values in densities.values()}
    if lengths != {sum(proposal.counts(n_draws))} or space.dim != dim:
        raise ValueError("its arrays do not belong together")
    seed = _seed(described["seed"])
    draws = WeighedDraws(proposal, space, seed, n_draws, **densities, stored=stored)
    unseen = _unseen(described.get("beyond"), arrays_below("beyond", arrays), dim, len(space.names))
    pair = described.get("kl_conditional")
    kl_conditional = None if pair is None else Estimate(*map(_float, pair))
    looked = bool(described.get("looked", True))
    return Assessment(draws, Reason[described["reason"]], unseen, kl_conditional, looked)


def _pair(estimate: Estimate | None) -> list[Any] | None:
    """An estimate in JSON."""
    return None if estimate is None else [_number(number) for number in estimate]


def _space(described: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[Space, Any]:
    """The space, and the stored draws if only the model's own code could make new ones."""
    leaves = tuple(
        Leaf(str(name), tuple(shape), *flags) for name, shape, *flags in described["leaves"]
    )
    if 8 * sum(math.prod(leaf.shape) for leaf in leaves) > LARGEST_ARRAY:
        raise ValueError(f"its parameters claim shapes {[leaf.shape for leaf in leaves]}")
    structure = jax.tree_util.tree_structure(_tree(described["tree"]))
    if described["supports"] is not None:
        return _bijection(leaves, structure, described["supports"]), None
    values = [arrays[f"draws/{place}"] for place in range(len(leaves))]
    names = [str(name) for name in described["free_names"]]
    stored = jax.tree_util.tree_unflatten(structure, values)
    return StoredSpace(leaves, structure, names), stored


def _unseen(
    mass: float | None, arrays: dict[str, np.ndarray], dim: int, k: int
) -> UnseenMass | None:
    """The unseen mass; older files, from before it was looked for, have none."""
    if mass is None:
        return None
    z, shift = arrays["z"], arrays["lacking"]
    if not 0 <= mass < math.inf or z.shape[1:] != (dim,) or shift.shape not in ((), (k,)):
        raise ValueError("its unseen mass has arrays of other shapes")
    return UnseenMass(float(mass), z, shift if shift.ndim else float(shift))


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


def _wide(
    q: Distribution, arrays: dict[str, np.ndarray]
) -> StudentT | StudentTMixture | WideScales | None:
    """The wide proposal from its arrays, of one component or of several; None without any."""
    arrays = arrays_below("wide", arrays)
    if not arrays:
        return None
    freedom = float(arrays["freedom"])
    if "log_weights" in arrays:
        return StudentTMixture(arrays["means"], arrays["factors"], arrays["log_weights"], freedom)
    wide = StudentT(arrays["mean"], arrays["factor"], freedom)
    return WideScales(q, wide) if isinstance(q, Conditioned) else wide


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
        raise coded_error(
            ValueError, "E401", "new draws need the model's own code: use the original fit"
        )

    def invert(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Refuse."""
        raise coded_error(
            ValueError, "E401", "log_prob needs the model's own code here: use the original fit"
        )

    def coordinates(self) -> list[int]:
        """None is known."""
        return [NO_COORDINATE] * len(self.names)


def _labels(labels: Sequence[Any]) -> list[Any]:
    plain: list[Any] = np.asarray(labels).tolist()
    return [x if isinstance(x, str | int | float) else str(x) for x in plain]


def _whole(member: Distribution) -> bool:
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


def _arguments(plain: list[Any]) -> list[Any]:
    return [np.asarray(x, np.float64) if isinstance(x, list) else x for x in plain]


def _skeleton(space: Space) -> Any:
    """The parameters' structure in JSON; containers of a user's own become dicts by name."""
    blank = jax.tree_util.tree_unflatten(space.treedef, range(len(space.leaves)))
    plain = _is_plain(blank)
    return blank if plain else {leaf.name: i for i, leaf in enumerate(space.leaves)}


def _is_plain(tree: object) -> bool:
    if isinstance(tree, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in tree.items())
    return isinstance(tree, int) or (type(tree) is list and all(map(_is_plain, tree)))


def _tree(skeleton: object) -> Any:
    if not _is_plain(skeleton):
        raise ValueError("its parameter structure is malformed")
    return skeleton


def plain_seed(seed: Seed) -> Any:
    """A seed as JSON has it: an int, or the words of a key."""
    if isinstance(seed, int | np.integer):
        return int(seed)
    typed = isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key)
    return [int(word) for word in np.ravel(jax.random.key_data(seed) if typed else seed)]


def _seed(plain: int | list[int]) -> Seed:
    return plain if isinstance(plain, int) else np.asarray(plain, np.uint32)


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _float(value: float | str) -> float:
    return float(value)
