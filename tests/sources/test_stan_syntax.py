"""The words of a Stan program: tokens, blocks, statements, declarations."""

from infimum.sources.stan.program import Program
from infimum.sources.stan.syntax import functions_of, statements_of

PROGRAM = """
functions { real f_lp(real a) { a ~ normal(0, 1); return 1; } // x ~ {
  void g(real x) { /* } */ } }
data {
  int<lower=0> N, M; array[N] real<lower=1, upper=(N > 2 ? 1 : 2)> y;
  tuple(int, real) t; matrix[N, M] X; vector<lower=0>[N] s;
}
transformed data { real k = 1; }
model {
  for (n in 1 : N) y[n] ~ normal(0, 1);
  {a, b} ~ normal(0, 1);
  { real z = {1, 2}[1]; if (z > 0) z ~ normal(0, 1); else { z ~ normal(0, 2) T[0, ]; } }
  while (1) { break; }
  print("a ~ b; }");
  profile("x") { target += normal_lupdf(y | 0, 1); }
}
"""


def test_blocks_functions_and_data():
    program = Program(PROGRAM)
    assert list(program.blocks) == ["functions", "data", "transformed data", "model"]
    assert program.data_names == ["N", "M", "y", "t", "X", "s"]
    names = [name for name, _, _ in functions_of(program.tokens, program.blocks["functions"])]
    assert names == ["f_lp", "g"]


def test_statements():
    program = Program(PROGRAM)
    texts = [
        program.whole[program.tokens[first].start : program.tokens[end].end]
        for first, end in statements_of(program.tokens, program.blocks["model"])
    ]
    assert texts == [
        "y[n] ~ normal(0, 1);",
        "{a, b} ~ normal(0, 1);",
        "real z = {1, 2}[1];",
        "z ~ normal(0, 1);",
        "z ~ normal(0, 2) T[0, ];",
        "break;",
        'print("a ~ b; }");',
        "target += normal_lupdf(y | 0, 1);",
    ]
