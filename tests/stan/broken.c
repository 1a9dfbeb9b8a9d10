/* Three independent normal(1, 2) with log Z 3, which the data can break: "sign": -1 turns the
   gradient around; "nan_above" bounds x[1]; "no_parameters": 1 leaves x empty. */
#define MODEL_NAME "broken_model"

typedef struct {
  int n;
  double sign, nan_above;
} Data;

static int model_read(Data *data, const Context *context, Schema *schema, Error *error) {
  (void)error;
  data->sign = setting(context, "sign", 1);
  data->nan_above = setting(context, "nan_above", INFINITY);
  data->n = setting(context, "no_parameters", 0) != 0 ? 0 : 3;
  declare(schema, PARAMETER, shaped("x", 1, data->n, 0));
  return 0;
}

static void model_free(Data *data) { (void)data; }

static int model_density(const Data *data, bool propto, const double *x, double *value,
                         double *slope, Error *error) {
  (void)error;
  double sum = 3;
  for (int i = 0; i < data->n; i++) {
    double spoilt = x[0] > data->nan_above ? NAN : 1;
    sum -= spoilt * (x[i] - 1) * (x[i] - 1) / 8 + (propto ? 0 : log(2) + HALF_LOG_2PI);
    slope[i] = -data->sign * spoilt * (x[i] - 1) / 4;
  }
  *value = sum;
  return 0;
}

static int model_generate(const Data *data, const double *theta, double *transformed,
                          double *generated, bs_rng *rng, Error *error) {
  (void)data, (void)theta, (void)transformed, (void)generated, (void)rng, (void)error;
  return 0;
}
