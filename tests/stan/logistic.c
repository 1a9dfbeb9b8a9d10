/* The model of examples/logistic.stan: logistic regression. */
#define MODEL_NAME "logistic_model"

typedef struct {
  int n, k;
  double *x, *y; /* x[row + n * column] */
} Data;

static int model_read(Data *data, const Context *context, Schema *schema, Error *error) {
  if (take_size(context, "N", &data->n, error)) return -1;
  if (take_size(context, "K", &data->k, error)) return -1;
  Variable x = shaped("x", 2, data->n, data->k), y = shaped("y", 1, data->n, 0);
  if (take_data(context, false, -INFINITY, INFINITY, x, &data->x, error)) return -1;
  if (take_data(context, true, 0, 1, y, &data->y, error)) return -1;
  declare(schema, PARAMETER, shaped("alpha", 0, 0, 0));
  declare(schema, PARAMETER, shaped("beta", 1, data->k, 0));
  declare(schema, GENERATED, shaped("log_lik", 1, data->n, 0));
  declare(schema, GENERATED, shaped("y_rep", 1, data->n, 0));
  return 0;
}

static void model_free(Data *data) {
  free(data->x);
  free(data->y);
}

static double logit_of(const Data *data, const double *theta, int row) {
  double logit = theta[0];
  for (int k = 0; k < data->k; k++) logit += data->x[row + data->n * k] * theta[1 + k];
  return logit;
}

static int model_density(const Data *data, bool propto, const double *theta, double *value,
                         double *slope, Error *error) {
  double sum = 0;
  for (int i = 0; i <= data->k; i++) {
    double scale = i ? 2.5 : 5;
    slope[i] = -theta[i] / (scale * scale);
    sum += slope[i] * theta[i] / 2;
    if (!propto) sum -= log(scale) + HALF_LOG_2PI;
  }
  for (int row = 0; row < data->n; row++) {
    double logit = logit_of(data, theta, row), sign = data->y[row] > 0 ? 1 : -1;
    double pull = sign * inv_logit(-sign * logit);
    if (isnan(logit))
      return fail(error,
                  "Exception: bernoulli_logit_lpmf: Logit transformed probability parameter[%d] is "
                  "nan, but must be not nan!", row + 1);
    sum -= log1p_exp(-sign * logit);
    slope[0] += pull;
    for (int k = 0; k < data->k; k++) slope[1 + k] += pull * data->x[row + data->n * k];
  }
  *value = sum;
  return 0;
}

static int model_generate(const Data *data, const double *theta, double *transformed,
                          double *generated, bs_rng *rng, Error *error) {
  (void)transformed, (void)error;
  for (int row = 0; generated && row < data->n; row++) {
    double logit = logit_of(data, theta, row);
    generated[row] = -log1p_exp(data->y[row] > 0 ? -logit : logit);
    generated[data->n + row] = uniform(rng) < inv_logit(logit);
  }
  return 0;
}
