"""Stan programs that stanli runs, without a compiler."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from infimum.base.errors import coded_error
from infimum.base.extras import required
from infimum.sources.stan.bridge import MANIFEST, CompiledModel, Engine
from infimum.sources.stan.constants import Values, constant_of
from infimum.sources.stan.data import Data, data_text
from infimum.sources.stan.program import TEXT_NAME, Program

QUICK = 1e-4
"""Seconds of a gradient below which a call's own cost counts. stanli's own call takes 3 to 5
microseconds less than the one through BridgeStan's interface, of 8 to 18 in all at d < 50; but only
the latter may be called by several threads at once, which cost about 50 microseconds a batch."""


class Interpreted(Engine):
    """A program that stanli runs, with the constants that it drops added.

    Parameters
    ----------
    model
        The program with its data, as stanli's look-alike of a BridgeStan model.
    program
        Its text; None if that is not known.
    """

    def __init__(self, model: CompiledModel, program: Program | None) -> None:
        self.model = model
        self.program = program
        self._lock = threading.Lock()
        self._quick = self._find_quick()
        self._constant = 0.0
        if program is None:
            self.unknown_constant = (
                "the constants that `~` drops are not known, because the program's text is not: "
                "give from_stan the program and its data"
            )
        else:
            self.data_names = program.data_names
            constant = constant_of(program, self._of(model), model.param_unc_num(), self._variant)
            self._constant, self.unknown_constant = constant

    def _find_quick(self) -> Callable[[np.ndarray], tuple[float, np.ndarray]] | None:
        """stanli's own gradient if the program is cheap; if it is not, `threads` are used."""
        z = np.random.default_rng(0).uniform(-1, 1, self.model.param_unc_num())
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            with contextlib.suppress(RuntimeError):  # it costs time all the same
                self._bridged(z)
            seconds.append(time.perf_counter() - began)
        if min(seconds) > QUICK:
            self.threads = os.cpu_count() or 1
            return None
        manifest, data = _parts(self.model)
        stanli = required("stanli", "stan")
        quick = stanli.Model(mir=manifest["mir"], data=json.dumps(data), seed=_seed(self.model))
        return quick.log_prob_grad

    def _bridged(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        return self.model.log_density_gradient(z, propto=True, jacobian=True)

    def gradient(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        """log p̂ and its gradient, constants included."""
        if self._quick is not None:
            try:
                with self._lock:
                    log_p, gradient = self._quick(z)
                return log_p + self._constant, gradient
            except RuntimeError:  # without the program's own message, which the bridge has
                pass
        log_p, gradient = self._bridged(z)
        return log_p + self._constant, gradient

    def value(self, z: np.ndarray) -> float:
        """log p̂, constants included."""
        return self._of(self.model)(z) + self._constant

    def log_jacobian(self, z: np.ndarray) -> float:
        """log p̂ of the program without statements, which has no other terms."""
        return self._of(self._transforms)(z)

    def parameters(self, z: np.ndarray) -> np.ndarray:
        """The constrained entries of the parameters alone.

        stanli computes transformed parameters on the way, which may fail.
        """
        try:
            return self.model.param_constrain(z)
        except RuntimeError:
            if self.program is None:
                raise
            return self._transforms.param_constrain(z)

    @functools.cached_property
    def _transforms(self) -> CompiledModel:
        """The program's parameters alone."""
        if self.program is None:
            raise coded_error(
                ValueError,
                "E633",
                "the log-Jacobian of this Stan model is not known, because stanli computes it "
                "from the program's text: give from_stan the program and its data",
            )
        return self._build(without_statements(self.program))

    def _variant(self, text: str) -> Values:
        return self._of(self._build(text))

    def _build(self, text: str) -> CompiledModel:
        """Another program with the same data and seed."""
        stanli = required("stanli", "stan")
        data = json.dumps(_parts(self.model)[1])
        return built(stanli.stan_to_mir(text), self.model.name(), data, _seed(self.model))

    @staticmethod
    def _of(model: CompiledModel) -> Values:
        return lambda z: float(model.log_density(z, propto=True, jacobian=True))


def interpreted_program(program: Program, data: Data) -> Interpreted:
    """The program with its data.

    Raises
    ------
    ValueError
        If the program does not compile, or the data do not suit it.
    """
    stanli = required("stanli", "stan")
    try:
        mir = stanli.stan_to_mir(program.text, include_paths=program.folders)
    except RuntimeError as error:
        reason = str(error).strip().replace("'string'", repr(program.label))
        raise coded_error(
            ValueError, "E631", f"the Stan program does not compile: {reason}"
        ) from error
    text = data_text(data, program.data_names)
    try:
        model = built(mir, program.name, text)
    except RuntimeError as error:
        raise coded_error(ValueError, "E632", _refusal(program, str(error).strip())) from error
    return Interpreted(model, program)


def _refusal(program: Program, reason: str) -> str:
    """Why a program that compiles does not run with its data."""
    if reason.startswith(("stanli compile:", "mir:")):
        return (
            f"stanli cannot run {program.label}: {reason.partition(': ')[2]}. Give "
            'engine="bridgestan" to compile it'
        )
    return (
        f"the data do not suit {program.label}: {reason}. Compare them with the data block of "
        "the program"
    )


def interpreted_model(model: Any) -> Interpreted:
    """A `stanli.Model`, or stanli's look-alike of a BridgeStan model, as it is.

    Raises
    ------
    ValueError
        If the model does not tell its program.
    """
    if not hasattr(model, "log_prob_grad"):
        return Interpreted(model, None)
    stanli = required("stanli", "stan")
    try:
        mir, text, data = model._source
        mir = mir if mir is not None else stanli.stan_to_mir(text)
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise coded_error(
            ValueError,
            "E633",
            f"this stanli.Model does not tell its program ({error}): give from_stan the program "
            "and its data",
        ) from error
    bridged = built(mir, TEXT_NAME, data, getattr(model, "_seed", 1))
    known = text is not None and "#include" not in text
    return Interpreted(bridged, Program(text) if known else None)


def is_interpreted(model: object) -> bool:
    """Whether stanli runs this model."""
    data = getattr(model, "data", None)
    return hasattr(model, "log_prob_grad") or (isinstance(data, str) and f'"{MANIFEST}"' in data)


def built(mir: str, name: str, data: str, seed: int = 1) -> CompiledModel:
    """stanli's look-alike of a BridgeStan model.

    Parameters
    ----------
    mir
        The program as stanli has compiled it.
    data
        As JSON text.
    seed
        Of random numbers in transformed data.
    """
    required("bridgestan", "stan")
    stanli = required("stanli", "stan")
    with warnings.catch_warnings():
        # The interface may be a version older than the package that calls it.
        warnings.filterwarnings("ignore", message="The version of the compiled model")
        model: CompiledModel = stanli.bridgestan_model(mir=mir, name=name, data=data, seed=seed)
    return model


def _parts(model: CompiledModel) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest and the data of a model."""
    data = json.loads(model.data)
    return data.pop(MANIFEST), data


def _seed(model: CompiledModel) -> int:
    return int(getattr(model, "seed", 1))


def without_statements(program: Program) -> str:
    """The program with its parameters alone, whose density is the Jacobian.

    Transformed parameters stay if they add to the Jacobian themselves.
    """
    parts = []
    for name in ("functions", "data", "transformed data", "parameters", "transformed parameters"):
        if name not in program.blocks:
            continue
        first, last = (program.tokens[i] for i in program.blocks[name])
        body = program.whole[first.start : last.end]
        adds = any(token.text.endswith("jacobian") for token in program.tokens)
        if name != "transformed parameters" or adds:
            parts.append(f"{name} {body}")
    return "\n".join([*parts, "model {}"])
