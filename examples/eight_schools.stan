// Eight schools (Rubin 1981), non-centred: the effect of coaching on test scores.
data {
  int<lower=0> J;
  vector[J] effect;
  vector<lower=0>[J] standard_error;
}
parameters {
  real mu;
  real<lower=0> tau;
  vector[J] t;
}
transformed parameters {
  vector[J] theta = mu + tau * t;
}
model {
  mu ~ normal(0, 5);
  tau ~ cauchy(0, 5) T[0, ];
  t ~ normal(0, 1);
  effect ~ normal(theta, standard_error);
}
generated quantities {
  vector[J] log_lik;
  vector[J] effect_rep = to_vector(normal_rng(theta, standard_error));
  for (j in 1:J) {
    log_lik[j] = normal_lpdf(effect[j] | theta[j], standard_error[j]);
  }
}
