"""Constants of `~` in Stan programs: restored, or the statement that hides them is named."""

import numpy as np
import pytest
from scipy import stats

import infimum
from infimum.sources.stan.constants import changed, changes_of
from infimum.sources.stan.program import Program

pytest.importorskip("stanli")
pytest.importorskip("bridgestan")

X = np.array([0.5, -1.0, 2.0])
COUNTS = np.array([3, 0, 2])
REAL = "parameters { real x; } model { %s }"
HALF = "parameters { real<lower=0> x; } model { %s }"
PAIR = "data { int N; vector[N] y; } parameters { real m; real<lower=0> s; } model { %s }"


def pair(density):
    """log p̂ at z = (m, log s), in the order of names, with the log-Jacobian."""
    return lambda z: density(z[0], np.exp(z[1])) + z[1]


CASES = {
    "normal": (REAL % "x ~ normal(1, 2);", {}, lambda z: stats.norm(1, 2).logpdf(z[0])),
    "half-normal without its factor": (
        HALF % "x ~ normal(0, 2);",
        {},
        lambda z: stats.norm(0, 2).logpdf(np.exp(z[0])) + z[0],
    ),
    "half-normal": (
        HALF % "x ~ normal(0, 2) T[0, ];",
        {},
        lambda z: stats.halfnorm(0, 2).logpdf(np.exp(z[0])) + z[0],
    ),
    "truncated on both sides": (
        "parameters { real<lower=-1, upper=2> x; } model { x ~ normal(0, 2) T[-1, 2]; }",
        {},
        lambda z: (
            stats.truncnorm(-0.5, 1, 0, 2).logpdf(-1 + 3 / (1 + np.exp(-z[0])))
            + np.log(3)
            - np.logaddexp(0, z[0])
            - np.logaddexp(0, -z[0])
        ),
    ),
    "many at once": (
        PAIR % "y ~ normal(m, s); m ~ student_t(4, 0, 2); s ~ gamma(2, 3);",
        {"N": 3, "y": X},
        pair(
            lambda m, s: (
                stats.norm(m, s).logpdf(X).sum()
                + stats.t(4, 0, 2).logpdf(m)
                + stats.gamma(2, scale=1 / 3).logpdf(s)
            )
        ),
    ),
    "a loop of one line": (
        PAIR % "for (n in 1:N) y[n] ~ normal(m, s); m ~ std_normal();",
        {"N": 3, "y": X},
        pair(lambda m, s: stats.norm(m, s).logpdf(X).sum() + stats.norm.logpdf(m)),
    ),
    "branches, comments and strings": (
        PAIR
        % """
        if (N > 2) // y ~ cauchy(m, s);
          y ~ /* not ; this */ normal(m, // the mean
                                      s);
        else y ~ cauchy(m, s);
        print("m ~ normal(0, 1);");
        { m } ~ normal({0}, 2); { [m]' ~ std_normal(); }
        """,
        {"N": 3, "y": X},
        pair(
            lambda m, s: (
                stats.norm(m, s).logpdf(X).sum() + stats.norm(0, 2).logpdf(m) + stats.norm.logpdf(m)
            )
        ),
    ),
    "target +=": (
        REAL
        % "target += normal_lpdf(x | 0, 1); target += normal_lupdf(x | 0, 3); x ~ cauchy(0, 2);",
        {},
        lambda z: (
            stats.norm.logpdf(z[0])
            + stats.norm(0, 3).logpdf(z[0])
            + stats.cauchy(0, 2).logpdf(z[0])
        ),
    ),
    "poisson and binomial": (
        """data { array[3] int y; } parameters { real<lower=0> r; real<lower=0, upper=1> p; }
        model { y ~ poisson(r); y ~ binomial(4, p); y[1] ~ neg_binomial_2(r, 2); }""",
        {"y": COUNTS},
        lambda z: (
            stats.poisson(np.exp(z[1])).logpmf(COUNTS).sum()
            + stats.binom(4, 1 / (1 + np.exp(-z[0]))).logpmf(COUNTS).sum()
            + stats.nbinom(2, 2 / (2 + np.exp(z[1]))).logpmf(3)
            + z[1]
            - np.logaddexp(0, z[0])
            - np.logaddexp(0, -z[0])
        ),
    ),
    "multi_normal": (
        "parameters { vector[2] x; } model { x ~ multi_normal([1, 2]', [[2, 0.5], [0.5, 1]]); }",
        {},
        lambda z: stats.multivariate_normal([1, 2], [[2, 0.5], [0.5, 1]]).logpdf(z),
    ),
    "a function of the user": (
        """functions { real twice_lpdf(real x, real m) { return normal_lupdf(x | m, 2); }
                       void prior_lp(real x) { x ~ normal(0, 3); } }
        parameters { real x; } model { x ~ twice(1); prior_lp(x); }""",
        {},
        lambda z: stats.norm(1, 2).logpdf(z[0]) + stats.norm(0, 3).logpdf(z[0]),
    ),
    "a mass function of the user": (
        """functions { real twice_lpmf(int y, real m) { return 2 * poisson_lupmf(y | m); } }
        parameters { real<lower=0> x; } model { 3 ~ twice(x); }""",
        {},
        lambda z: 2 * stats.poisson(np.exp(z[0])).logpmf(3) + z[0],
    ),
    "sums in parallel": (
        """functions { real part_lpmf(array[] int y, int a, int b, real r) {
                         return poisson_lupmf(y | r); } }
        data { array[3] int y; } parameters { real<lower=0> r; }
        model { target += reduce_sum(part_lupmf, y, 1, r); }""",
        {"y": COUNTS},
        lambda z: stats.poisson(np.exp(z[0])).logpmf(COUNTS).sum() + z[0],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_log_p_is_scipys(case, capfd):
    program, data, expected = CASES[case]
    target = infimum.from_stan(program, data)
    assert target.model.unknown_constant is None
    for z in np.random.default_rng(0).normal(size=(5, target.dim)):
        log_p = target.values(z[None])[0]
        assert log_p == pytest.approx(expected(z), rel=1e-10, abs=1e-10)
        assert target.value_and_gradient(z[None])[0][0] == pytest.approx(log_p, rel=1e-12)


def test_a_simplex_and_a_correlation_matrix_have_the_density_of_their_parameters():
    target = infimum.from_stan(
        """parameters { simplex[3] p; corr_matrix[2] C; }
        model { p ~ dirichlet([1, 2, 3]'); C ~ lkj_corr(2); }"""
    )
    z = np.random.default_rng(0).normal(size=(5, target.dim))
    draws = target.space.draws(z)
    _, log_jacobian = target.space.free(draws)
    expected = [
        stats.dirichlet([1, 2, 3]).logpdf(p / p.sum())
        # The density of r = 2 b - 1 with b ~ Beta(2, 2), as lkj_corr(2) is for two variables.
        + stats.beta(2, 2, -1, 2).logpdf(c[0, 1])
        for p, c in zip(draws["p"], draws["C"], strict=True)
    ]
    np.testing.assert_allclose(target.values(z) - log_jacobian, expected, rtol=1e-10)


def test_log_z_is_that_of_a_conjugate_model():
    target = infimum.from_stan(
        PAIR.replace("real<lower=0> s;", "") % "m ~ normal(0, 2); y ~ normal(m, 1);",
        {"N": 3, "y": X},
    )
    fit = infimum.fit(target, "fullrank", draws=500)
    marginal = stats.multivariate_normal(np.zeros(3), np.eye(3) + 4).logpdf(X)
    assert fit.log_evidence.value == pytest.approx(marginal, abs=1e-6)


@pytest.mark.parametrize(
    ("program", "statement"),
    [
        (
            REAL % "if (x > 0) x ~ normal(0, 1);\nelse x ~ normal(0, 2);",
            "`x ~ normal(0, 1);` (line 1)",
        ),
        (
            "functions { real f_lp(real x) { target += -x; return 1; } }\n"
            + REAL % "\nx ~ normal(f_lp(x), 1);",
            "`x ~ normal(f_lp(x), 1);` (line 3)",
        ),
    ],
)
def test_a_statement_without_a_constant_is_named(program, statement):
    target = infimum.from_stan(program)
    assert statement in target.model.unknown_constant
    assert "is not known: write it as target +=" in target.model.unknown_constant


def test_a_density_that_is_never_finite_leaves_the_constants_unknown():
    target = infimum.from_stan(REAL % "x ~ normal(0, 1); target += negative_infinity();")
    assert "finite at none of 400 points" in target.model.unknown_constant


def test_included_statements_count_and_are_named_by_their_file(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "prior.stan").write_text("\nif (x < 0)\n  x ~ normal(0, 2);\n")
    path = tmp_path / "model.stan"
    path.write_text(REAL % '\n#include "prior.stan"\n')
    target = infimum.from_stan(path, include_paths=tmp_path / "folder")
    assert "`x ~ normal(0, 2);` (line 3 of prior.stan)" in target.model.unknown_constant
    (tmp_path / "folder" / "prior.stan").write_text("x ~ normal(0, 2);")
    target = infimum.from_stan(path, include_paths=[str(tmp_path / "folder")])
    assert target.values(np.ones((1, 1)))[0] == pytest.approx(stats.norm(0, 2).logpdf(1))


def test_changes_keep_the_rest_of_the_program():
    program = Program(REAL % "if (x > 0) x ~ normal(0, 1) T[0, ]; // twice")
    text = changed(program.whole, changes_of(program))
    assert "".join(text.split()) == (
        "parameters{realx;}model{if(x>0){x~normal(0,1)T[0,];"
        "target+=normal_lpdf(x|0,1)-normal_lupdf(x|0,1);}//twice}"
    )
