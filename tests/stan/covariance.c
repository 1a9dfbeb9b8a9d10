/* Awkward shapes: an array of simplexes, a matrix and an interval, independent, with log Z 0. */
#define MODEL_NAME "covariance_model"

typedef struct { char none; } Data;

static int model_read(Data *data, const Context *context, Schema *schema, Error *error) {
  (void)data, (void)context, (void)error;
  Variable p = shaped("p", 2, 2, 3), u = shaped("u", 0, 0, 0);
  p.kind = SIMPLEXES;
  u.kind = INTERVAL, u.lower = -1, u.upper = 2;
  declare(schema, PARAMETER, p);
  declare(schema, PARAMETER, shaped("m", 2, 2, 3));
  declare(schema, PARAMETER, u);
  declare(schema, GENERATED, shaped("total", 0, 0, 0));
  return 0;
}

static void model_free(Data *data) { (void)data; }

/* p ~ dirichlet(1, 2, 3); m[i, j] ~ normal(10 i + j, 1); u ~ uniform(-1, 2). */
static int model_density(const Data *data, bool propto, const double *theta, double *value,
                         double *slope, Error *error) {
  (void)data, (void)error;
  double sum = propto ? 0 : 2 * log(60) - 6 * HALF_LOG_2PI - log(3);
  for (int entry = 0; entry < 6; entry++) {
    int i = entry % 2 + 1, j = entry / 2 + 1;
    double p = theta[entry], offset = theta[6 + entry] - (10 * i + j);
    sum += (j > 1 ? (j - 1) * log(p) : 0) - offset * offset / 2;
    slope[entry] = j > 1 ? (j - 1) / p : 0;
    slope[6 + entry] = -offset;
  }
  *value = sum;
  return 0;
}

static int model_generate(const Data *data, const double *theta, double *transformed,
                          double *generated, bs_rng *rng, Error *error) {
  (void)data, (void)transformed, (void)rng, (void)error;
  for (int i = 0; generated && i < 6; i++) *generated = theta[6 + i] + (i ? *generated : 0);
  return 0;
}
