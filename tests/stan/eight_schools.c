/* The model of examples/eight_schools.stan; "throw_above" in the data bounds tau. */
#define MODEL_NAME "eight_schools_model"

typedef struct {
  int n;
  double *effect, *error, throw_above;
} Data;

static int model_read(Data *data, const Context *context, Schema *schema, Error *error) {
  data->throw_above = setting(context, "throw_above", INFINITY);
  if (take_size(context, "J", &data->n, error)) return -1;
  Variable effect = shaped("effect", 1, data->n, 0);
  Variable standard_error = shaped("standard_error", 1, data->n, 0);
  if (take_data(context, false, -INFINITY, INFINITY, effect, &data->effect, error)) return -1;
  if (take_data(context, false, 0, INFINITY, standard_error, &data->error, error)) return -1;
  Variable tau = shaped("tau", 0, 0, 0);
  tau.kind = POSITIVE;
  declare(schema, PARAMETER, shaped("mu", 0, 0, 0));
  declare(schema, PARAMETER, tau);
  declare(schema, PARAMETER, shaped("t", 1, data->n, 0));
  declare(schema, TRANSFORMED, shaped("theta", 1, data->n, 0));
  declare(schema, GENERATED, shaped("log_lik", 1, data->n, 0));
  declare(schema, GENERATED, shaped("effect_rep", 1, data->n, 0));
  return 0;
}

static void model_free(Data *data) {
  free(data->effect);
  free(data->error);
}

static int model_density(const Data *data, bool propto, const double *theta, double *value,
                         double *slope, Error *error) {
  double mu = theta[0], tau = theta[1];
  const double *t = theta + 2;
  if (!(isfinite(tau) && tau <= data->throw_above))
    return fail(error,
                "Exception: normal_lpdf: Scale parameter is %s, but must be positive finite! "
                "(in 'eight_schools.stan', line 14, column 2 to column 30)",
                isnan(tau) ? "nan" : "inf");
  double sum = -mu * mu / 50 - log1p(tau / 5 * (tau / 5));
  sum += log(2); /* of the truncation, which Stan never drops */
  if (!propto) sum -= (2 * data->n + 1) * HALF_LOG_2PI + log(3.14159265358979323846) + 2 * log(5);
  slope[0] = -mu / 25;
  slope[1] = -2 * tau / (25 + tau * tau);
  for (int j = 0; j < data->n; j++) {
    double residual = (data->effect[j] - (mu + tau * t[j])) / data->error[j];
    sum -= (t[j] * t[j] + residual * residual) / 2;
    if (!propto) sum -= log(data->error[j]);
    slope[0] += residual / data->error[j];
    slope[1] += residual / data->error[j] * t[j];
    slope[2 + j] = residual / data->error[j] * tau - t[j];
  }
  *value = sum;
  return 0;
}

static int model_generate(const Data *data, const double *theta, double *transformed,
                          double *generated, bs_rng *rng, Error *error) {
  for (int j = 0; j < data->n; j++) {
    double location = theta[0] + theta[1] * theta[2 + j], scale = data->error[j];
    double residual = (data->effect[j] - location) / scale;
    if (transformed) transformed[j] = location;
    if (!generated) continue;
    if (!isfinite(location))
      return fail(error, "Exception: normal_rng: Location parameter is %s, but must be finite!",
                  isnan(location) ? "nan" : location > 0 ? "inf" : "-inf");
    generated[j] = -residual * residual / 2 - HALF_LOG_2PI - log(scale);
    generated[data->n + j] = location + scale * normal(rng);
  }
  return 0;
}
