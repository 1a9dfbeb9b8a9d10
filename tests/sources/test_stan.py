"""Stan models: shapes, errors inside the density, versions; driven through bridgestan itself."""

import json

import numpy as np
import pytest
from languages import EFFECT, ERROR, stan_model
from stan.library import compiled

import infimum
from infimum import cli

bridgestan = pytest.importorskip("bridgestan")


@pytest.fixture
def build(tmp_path):
    def model(name, data=None, *flags):
        stan_model(tmp_path)  # skips where there is no compiler
        return bridgestan.StanModel(compiled(name, tmp_path, *flags), data)

    return model


def test_awkward_shapes_come_under_stans_names_in_row_order(build):
    target = infimum.from_stan(build("covariance"))
    fit = infimum.fit(target, "fullrank")
    assert {k: x.shape[1:] for k, x in fit.sample(2).items()} == {
        "m": (2, 3),
        "p": (2, 3),
        "total": (),
        "u": (),
    }
    draws = fit.sample(4000, weighted=True)
    expected = 10 * np.arange(1, 3)[:, None] + np.arange(1, 4)
    np.testing.assert_allclose(draws["m"].mean(axis=0), expected, atol=0.1)
    np.testing.assert_allclose(draws["p"].mean(axis=0), [[1 / 6, 2 / 6, 3 / 6]] * 2, atol=0.03)
    np.testing.assert_allclose(draws["total"], draws["m"].sum(axis=(1, 2)))
    assert draws["u"].min() > -1
    assert draws["u"].max() < 2
    assert abs(fit.log_evidence.value) < 4 * fit.log_evidence.se
    assert target.space.free_names[:6] == [f"m[{i}, {j}]" for i in range(2) for j in range(3)]
    z = np.random.default_rng(0).normal(size=(4, target.dim))
    np.testing.assert_allclose(fit.space.free(fit.space.draws(z))[0], z, atol=1e-9)


def test_an_error_inside_the_density_is_zero_density_and_shown(tmp_path):
    target = infimum.from_stan(stan_model(tmp_path, throw_above=25.0))
    fit = infimum.fit(target, "meanfield", draws=1000, starts=2)
    assert fit.work.n_failed > 0
    printed = " ".join(str(fit).split())
    assert "count as zero density; the first: RuntimeError" in printed
    assert "Scale parameter is inf" in printed
    assert 0 < fit.zero_fraction < 0.1
    assert np.isfinite(fit.elbo.value)


def test_undefined_densities_wrong_gradients_and_old_versions(build):
    fit = infimum.fit(infimum.from_stan(build("broken", {})), "fullrank")
    assert abs(fit.log_evidence.value - 3) < 1e-8
    undefined = infimum.fit(
        infimum.from_stan(build("broken", {"nan_above": 3.0})), "meanfield", draws=500, starts=1
    )
    assert undefined.work.n_undefined > 0
    assert undefined.verdict == "unreliable"
    with pytest.raises(ValueError, match="the sign is wrong"):
        infimum.from_stan(build("broken", {"sign": -1}))
    with pytest.raises(ValueError, match="has no parameter"):
        infimum.from_stan(build("broken", {"no_parameters": 1}))
    with pytest.warns(RuntimeWarning, match="version of the compiled model"):
        old = build("broken", {}, "-DBS_MINOR=4")
    with pytest.raises(ValueError, match=r"BridgeStan 2\.4\.0, this needs 2\.5 or later"):
        infimum.from_stan(old)
    with pytest.raises(
        TypeError, match=r"takes the path or text of a program, a bridgestan\.StanModel"
    ):
        infimum.from_stan(3)
    with pytest.raises(TypeError, match="has its data already"):
        infimum.from_stan(build("broken", {}), {})
    with pytest.raises(FileNotFoundError, match=r"there is no file absent.stan"):
        infimum.from_stan("absent.stan")


def test_no_verdict_hangs_on_random_generated_quantities(tmp_path):
    target = infimum.from_stan(stan_model(tmp_path))
    noisy = {leaf.name for leaf in target.space.leaves if leaf.noisy}
    assert noisy == {"effect_rep", "log_lik"}
    judged = np.array(target.names)[target.space.judged]
    assert "theta[0]" in judged
    assert not any(name.startswith(("effect_rep", "log_lik")) for name in judged)


def test_a_program_without_the_toolchain_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(bridgestan.compile, "get_bridgestan_path", lambda download=True: "")
    program = tmp_path / "model.stan"
    program.write_text("parameters { real x; } model { x ~ normal(0, 1); }")
    with pytest.raises(FileNotFoundError, match=r"toolchain is not installed.*BRIDGESTAN"):
        infimum.from_stan(program, engine="bridgestan")
    monkeypatch.undo()
    monkeypatch.setenv("BRIDGESTAN", str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError, match=r"absent' does not exist: .*set BRIDGESTAN"):
        infimum.from_stan(program, engine="bridgestan")
    spaced = tmp_path / "my model.stan"
    spaced.write_text(program.read_text())
    with pytest.raises(ValueError, match="a path with spaces: BridgeStan compiles files whose"):
        infimum.from_stan(spaced, engine="bridgestan")
    with pytest.raises(ValueError, match="the Stan program is text: BridgeStan compiles files"):
        infimum.from_stan(program.read_text(), engine="bridgestan")


def test_a_model_without_generated_quantities_says_what_to_write(build):
    fit = infimum.fit(infimum.from_stan(build("broken", {})), "meanfield", draws=200)
    with pytest.raises(ValueError, match="no generated quantities: draw them there"):
        infimum.predict(fit)
    with pytest.raises(ValueError, match="no log_lik among its generated quantities"):
        fit.to_arviz(log_likelihood=True)
    with pytest.raises(TypeError, match=r"one dict, one \.json file, or one other .*\[E434\]"):
        infimum.predict(fit, 1, 2)


def test_the_command_line_takes_a_program_with_its_data(tmp_path, monkeypatch, capsys):
    stan_model(tmp_path)
    monkeypatch.chdir(tmp_path)
    library = compiled("eight_schools", tmp_path)
    data = {"J": 8, "effect": EFFECT.tolist(), "standard_error": ERROR.tolist()}
    (tmp_path / "data.json").write_text(json.dumps(data))
    with pytest.raises(SystemExit) as done:
        cli.main(["fit", str(library), "--data", "data.json", "--family", "meanfield"])
    assert done.value.code == 0
    assert "tau" in capsys.readouterr().out
    for arguments, told in (
        (["--data", "absent.json"], "there is no file absent.json"),
        ([], "variable name=J"),
    ):
        library = compiled("eight_schools", tmp_path)  # a fresh copy, as in a process of its own
        with pytest.raises(SystemExit) as done:
            cli.main(["fit", str(library), *arguments])
        assert done.value.code == 2
        assert told in capsys.readouterr().err
