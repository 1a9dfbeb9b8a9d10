/* BridgeStan's C interface around a model with known answers, the file that MODEL_FILE names. */
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef BS_MAJOR
#define BS_MAJOR 2
#endif
#ifndef BS_MINOR
#define BS_MINOR 9
#endif
#ifndef BS_PATCH
#define BS_PATCH 0
#endif
#ifdef STAN_THREADS
#define THREADS "true"
#else
#define THREADS "false"
#endif
#define QUOTED(x) #x
#define TEXT(x) QUOTED(x)
#define HALF_LOG_2PI 0.91893853320467274178

enum { MAX_DIMS = 4, MAX_VARIABLES = 8 };

/* Errors and memory: what fails returns -1 and leaves its reason. */

typedef struct { char text[500]; } Error;

static int fail(Error *error, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(error->text, sizeof error->text, format, arguments);
  va_end(arguments);
  return -1;
}

static void *resized(void *memory, size_t count, size_t size) {
  memory = realloc(memory, (count ? count : 1) * size);
  if (!memory) abort();
  return memory;
}

static double *zeros(int count) {
  double *values = resized(NULL, (size_t)count, sizeof *values);
  for (int i = 0; i < count; i++) values[i] = 0;
  return values;
}

static int report(int code, const char *function, const char *arguments, const Error *error,
                  char **message) {
  if (!code || !message) return code;
  size_t length = strlen(function) + strlen(arguments) + strlen(error->text) + 32;
  *message = resized(NULL, length, 1);
  snprintf(*message, length, "%s(%s) failed with exception: %s\n", function, arguments,
           error->text);
  return code;
}

/* Variables: every sequence of entries is in Stan's order, the first index running fastest. */

typedef enum { PARAMETER, TRANSFORMED, GENERATED } Block;
typedef enum { REAL, POSITIVE, INTERVAL, SIMPLEXES } Kind; /* the last: an array of simplexes */

typedef struct {
  const char *name;
  int n_dims, dims[MAX_DIMS];
  Kind kind;
  double lower, upper;
  Block block;
  int start, free_start; /* where its entries are among those of its block */
} Variable;

typedef struct { Variable variables[MAX_VARIABLES]; int n, n_parameters; } Schema;

static Variable shaped(const char *name, int n_dims, int first, int second) {
  return (Variable){.name = name, .n_dims = n_dims, .dims = {first, second}};
}

/* A simplex has one free coordinate less than it has entries. */
static int side(const Variable *variable, int i, bool unconstrained) {
  bool lost = unconstrained && variable->kind == SIMPLEXES && i == variable->n_dims - 1;
  return variable->dims[i] - lost;
}

static int count(const Variable *variable, bool unconstrained) {
  int product = 1;
  for (int i = 0; i < variable->n_dims; i++) product *= side(variable, i, unconstrained);
  return product;
}

static int total(const Schema *schema, Block block, bool unconstrained) {
  int sum = 0;
  for (int i = 0; i < schema->n; i++)
    if (schema->variables[i].block == block) sum += count(&schema->variables[i], unconstrained);
  return sum;
}

static void declare(Schema *schema, Block block, Variable variable) {
  variable.block = block;
  variable.start = total(schema, block, false);
  variable.free_start = total(schema, block, true);
  schema->variables[schema->n++] = variable;
  schema->n_parameters += block == PARAMETER;
}

/* As in stanc's programs these do not name free coordinates of arrays in the order they are in,
   which is one simplex after another. */
static char *names(const Schema *schema, bool transformed, bool generated, bool unconstrained) {
  char *text = resized(NULL, 1, 1);
  *text = '\0';
  for (int v = 0; v < schema->n; v++) {
    const Variable *variable = &schema->variables[v];
    if (variable->block == TRANSFORMED && !transformed) continue;
    if (variable->block == GENERATED && !generated) continue;
    for (int entry = 0; entry < count(variable, unconstrained); entry++) {
      size_t length = strlen(text);
      text = resized(text, length + strlen(variable->name) + 12 * MAX_DIMS + 2, 1);
      char *at = text + length;
      at += sprintf(at, "%s%s", length ? "," : "", variable->name);
      for (int i = 0, rest = entry; i < variable->n_dims; i++) {
        at += sprintf(at, ".%d", rest % side(variable, i, unconstrained) + 1);
        rest /= side(variable, i, unconstrained);
      }
    }
  }
  return text;
}

/* JSON: one flat object of numbers and nested arrays of numbers. */

typedef struct {
  char name[64];
  int n_dims, dims[MAX_DIMS], size;
  bool whole;
  double *values;
} Entry;

typedef struct { Entry *entries; int n; } Context;

static bool accept(const char **at, char token) {
  *at += strspn(*at, " \t\r\n");
  if (**at != token) return false;
  if (token) ++*at;
  return true;
}

static int unexpected(const char *at, const char *wanted, Error *error) {
  return fail(error, "Error in JSON parsing: expected %s at '%.20s'", wanted, at);
}

static int parse_number(const char **at, Entry *entry, Error *error) {
  char *end;
  double value = strtod(*at, &end);
  if (end == *at) return unexpected(*at, "a number", error);
  if ((entry->size & (entry->size - 1)) == 0)
    entry->values = resized(entry->values, 2 * (size_t)entry->size, sizeof value);
  entry->values[entry->size++] = value;
  entry->whole = entry->whole && strcspn(*at, ".eENI") >= (size_t)(end - *at);
  *at = end;
  return 0;
}

static int parse_values(const char **at, Entry *entry, int depth, Error *error) {
  int length = 0;
  bool list = accept(at, '['), deeper = list && depth >= entry->n_dims;
  if (!list && depth == entry->n_dims) return parse_number(at, entry, error);
  if (!list || depth == MAX_DIMS || (deeper && entry->size > 0))
    return unexpected(*at, "a rectangular array", error);
  if (deeper) entry->dims[entry->n_dims++] = -1;
  if (!accept(at, ']')) {
    do {
      if (parse_values(at, entry, depth + 1, error)) return -1;
      length++;
    } while (accept(at, ','));
    if (!accept(at, ']')) return unexpected(*at, "',' or ']'", error);
  }
  if (entry->dims[depth] >= 0 && entry->dims[depth] != length)
    return unexpected(*at, "a rectangular array", error);
  entry->dims[depth] = length;
  return 0;
}

static int parse_key(const char **at, Entry *entry, Error *error) {
  if (!accept(at, '"')) return unexpected(*at, "a name", error);
  size_t length = strcspn(*at, "\"");
  if (length >= sizeof entry->name || !(*at)[length]) return unexpected(*at, "a name", error);
  memcpy(entry->name, *at, length);
  *at += length + 1;
  return accept(at, ':') ? 0 : unexpected(*at, "':'", error);
}

static int parse(const char *at, Context *context, Error *error) {
  if (!at || accept(&at, '\0')) return 0;
  if (!accept(&at, '{')) return unexpected(at, "'{'", error);
  bool more = !accept(&at, '}');
  while (more) {
    size_t size = (size_t)++context->n;
    context->entries = resized(context->entries, size, sizeof(Entry));
    Entry *entry = &context->entries[size - 1];
    *entry = (Entry){.whole = true};
    if (parse_key(&at, entry, error) || parse_values(&at, entry, 0, error)) return -1;
    more = accept(&at, ',');
    if (!more && !accept(&at, '}')) return unexpected(at, "',' or '}'", error);
  }
  return accept(&at, '\0') ? 0 : unexpected(at, "the end", error);
}

static void discard(Context *context) {
  for (int i = 0; i < context->n; i++) free(context->entries[i].values);
  free(context->entries);
}

static const Entry *find(const Context *context, const char *name) {
  for (int i = 0; i < context->n; i++)
    if (strcmp(context->entries[i].name, name) == 0) return &context->entries[i];
  return NULL;
}

static void write_dims(char *text, int n_dims, const int *dims) {
  text += sprintf(text, "(");
  for (int i = 0; i < n_dims; i++) text += sprintf(text, i ? ",%d" : "%d", dims[i]);
  sprintf(text, ")");
}

static int check_dims(const Entry *found, const char *stage, const Variable *variable,
                      Error *error) {
  char expected[64], actual[64];
  bool same = found->n_dims == variable->n_dims;
  const char *what = same ? "dimension" : "number dimensions";
  for (int i = 0; same && i < found->n_dims; i++) same = found->dims[i] == variable->dims[i];
  if (same || (found->size == 0 && count(variable, false) == 0)) return 0;
  write_dims(expected, variable->n_dims, variable->dims);
  write_dims(actual, found->n_dims, found->dims);
  return fail(error,
              "Exception: mismatch in %s declared and found in context; processing stage=%s; "
              "variable name=%s; dims declared=%s; dims found=%s", what, stage,
              variable->name, expected, actual);
}

/* Copy a variable out of the context, from the order of nested lists into Stan's. */
static int take(const Context *context, const char *stage, bool whole, Variable variable,
                double *out, Error *error) {
  const Entry *found = find(context, variable.name);
  int size = count(&variable, false);
  if (!found && size == 0) return 0;
  if (!found)
    return fail(error,
                "Exception: variable does not exist; processing stage=%s; variable name=%s; "
                "base type=%s", stage, variable.name, whole ? "int" : "double");
  if (whole && !found->whole)
    return fail(error,
                "Exception: int variable contained non-int values; processing stage=%s; "
                "variable name=%s; base type=int", stage, variable.name);
  if (check_dims(found, stage, &variable, error)) return -1;
  for (int entry = 0; entry < size; entry++) {
    int position = 0;
    for (int i = 0, rest = entry; i < variable.n_dims; rest /= variable.dims[i++])
      position = position * variable.dims[i] + rest % variable.dims[i];
    out[entry] = found->values[position];
  }
  return 0;
}

/* Data of a model: a new array of values, all of them within bounds. */
static inline int take_data(const Context *context, bool whole, double lower, double upper,
                            Variable variable, double **out, Error *error) {
  *out = zeros(count(&variable, false));
  if (take(context, "data initialization", whole, variable, *out, error)) return -1;
  for (int i = 0; i < count(&variable, false); i++)
    if ((*out)[i] < lower || (*out)[i] > upper)
      return fail(error, "Exception: %s is %g, but must be %s than or equal to %g", variable.name,
                  (*out)[i], (*out)[i] < lower ? "greater" : "less",
                  (*out)[i] < lower ? lower : upper);
  return 0;
}

static inline int take_size(const Context *context, const char *name, int *out, Error *error) {
  double *value;
  int code = take_data(context, true, 0, 1e6, shaped(name, 0, 0, 0), &value, error);
  *out = code ? 0 : (int)*value;
  free(value);
  return code;
}

/* A switch for tests, which no Stan program declares. */
static inline double setting(const Context *context, const char *name, double otherwise) {
  const Entry *found = find(context, name);
  return found && found->size == 1 ? found->values[0] : otherwise;
}

/* Random numbers: splitmix64, and Box and Muller's normal. */

typedef struct { uint64_t state; } bs_rng;

static double uniform(bs_rng *rng) {
  uint64_t bits = rng->state += UINT64_C(0x9e3779b97f4a7c15);
  bits = (bits ^ (bits >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  bits = (bits ^ (bits >> 27)) * UINT64_C(0x94d049bb133111eb);
  return (double)((bits ^ (bits >> 31)) >> 11) * 0x1p-53;
}

static inline double normal(bs_rng *rng) {
  double radius = sqrt(-2 * log1p(-uniform(rng)));
  return radius * cos(6.28318530717958647693 * uniform(rng));
}

/* Transforms, with their log-Jacobians: exp and scaled logit as in Stan; a simplex is the softmax
   of its free coordinates and a zero. */

static double log1p_exp(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }

static double inv_logit(double x) { return x > 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)); }

static double softmax(int size, int stride, const double *x, double *theta) {
  double top = 0, sum = 0, log_jacobian = 0;
  for (int k = 0; k < size - 1; k++) top = fmax(top, x[k]);
  for (int k = 0; k < size; k++) sum += theta[k * stride] = exp((k < size - 1 ? x[k] : 0) - top);
  for (int k = 0; k < size; k++) log_jacobian += log(theta[k * stride] /= sum);
  return log_jacobian;
}

static double constrain(const Variable *variable, const double *x, double *theta) {
  double log_jacobian = 0, width = variable->upper - variable->lower;
  if (variable->kind == SIMPLEXES)
    for (int i = 0, n = variable->dims[0], size = variable->dims[1]; i < n; i++)
      log_jacobian += softmax(size, n, x + i * (size - 1), theta + i);
  else
    for (int i = 0; i < count(variable, false); i++) {
      theta[i] = x[i];
      if (variable->kind == POSITIVE) theta[i] = exp(x[i]), log_jacobian += x[i];
      if (variable->kind != INTERVAL) continue;
      theta[i] = variable->lower + width * inv_logit(x[i]);
      log_jacobian += log(width) - log1p_exp(x[i]) - log1p_exp(-x[i]);
    }
  return log_jacobian;
}

/* From slopes in theta to the gradient in x. */
static void pull_back(const Variable *variable, const double *x, const double *theta,
                      const double *slope, bool jacobian, double *gradient) {
  double width = variable->upper - variable->lower;
  if (variable->kind == SIMPLEXES)
    for (int i = 0, n = variable->dims[0], size = variable->dims[1]; i < n; i++) {
      double mean = 0;
      for (int k = 0; k < size; k++) mean += theta[i + n * k] * slope[i + n * k];
      for (int k = 0; k < size - 1; k++)
        gradient[i * (size - 1) + k] = theta[i + n * k] * (slope[i + n * k] - mean) +
                                       jacobian * (1 - size * theta[i + n * k]);
    }
  else
    for (int i = 0; i < count(variable, false); i++) {
      double share = inv_logit(x[i]), other = inv_logit(-x[i]);
      gradient[i] = slope[i];
      if (variable->kind == POSITIVE) gradient[i] = slope[i] * theta[i] + jacobian;
      if (variable->kind == INTERVAL)
        gradient[i] = slope[i] * width * share * other + jacobian * (other - share);
    }
}

static int unconstrain(const Variable *variable, const double *theta, double *x, Error *error) {
  int n = variable->dims[0], size = variable->dims[1];
  bool valid = true;
  for (int i = 0; variable->kind == SIMPLEXES && i < n; i++) {
    double sum = 0, last = theta[i + n * (size - 1)];
    for (int k = 0; k < size; k++) sum += theta[i + n * k], valid &= theta[i + n * k] >= 0;
    for (int k = 0; k < size - 1; k++) x[i * (size - 1) + k] = log(theta[i + n * k] / last);
    valid &= fabs(sum - 1) <= 1e-8;
  }
  for (int i = 0; variable->kind != SIMPLEXES && i < count(variable, false); i++) {
    double above = theta[i] - variable->lower, below = variable->upper - theta[i];
    x[i] = theta[i];
    if (variable->kind == POSITIVE) x[i] = log(theta[i]), valid &= theta[i] >= 0;
    if (variable->kind == INTERVAL) x[i] = log(above / below), valid &= above >= 0 && below >= 0;
  }
  return valid ? 0 : fail(error, "Exception: %s is not within its constraints", variable->name);
}

/* A model declares its parameters first, and defines
     MODEL_NAME, Data, and model_read and model_free for them;
     model_density of constrained parameters, and its slopes, which are zero at the call;
     model_generate, whose two outputs are NULL unless wanted. */
#include MODEL_FILE

typedef struct {
  Schema schema;
  Data data;
  int dim;
  char *names[2][2], *free_names;
} bs_model;

const int bs_major_version = BS_MAJOR;
const int bs_minor_version = BS_MINOR;
const int bs_patch_version = BS_PATCH;

void bs_free_error_msg(char *message) { free(message); }

/* Nothing here prints. */
int bs_set_print_callback(void (*callback)(const char *, size_t), char **message) {
  (void)callback, (void)message;
  return 0;
}

void bs_model_destruct(bs_model *model) {
  model_free(&model->data);
  for (int i = 0; i < 4; i++) free(model->names[i / 2][i % 2]);
  free(model->free_names);
  free(model);
}

bs_model *bs_model_construct(const char *data, unsigned int seed, char **message) {
  Error error;
  Context context = {0};
  bs_model *model = resized(NULL, 1, sizeof *model);
  memset(model, 0, sizeof *model);
  int code = parse(data, &context, &error);
  if (!code) code = model_read(&model->data, &context, &model->schema, &error);
  discard(&context);
  if (code) {
    char *arguments = resized(NULL, strlen(data ? data : "NULL") + 16, 1);
    sprintf(arguments, "%s, %u", data ? data : "NULL", seed);
    report(code, "construct", arguments, &error, message);
    free(arguments);
    bs_model_destruct(model);
    return NULL;
  }
  model->dim = total(&model->schema, PARAMETER, true);
  model->free_names = names(&model->schema, false, false, true);
  for (int i = 0; i < 4; i++)
    model->names[i / 2][i % 2] = names(&model->schema, i / 2, i % 2, false);
  return model;
}

const char *bs_name(const bs_model *model) { return (void)model, MODEL_NAME; }

const char *bs_model_info(const bs_model *model) {
  (void)model;
  return "BridgeStan version: " TEXT(BS_MAJOR) "." TEXT(BS_MINOR) "." TEXT(BS_PATCH) "\n"
         "Stan version: 2.37.0\nStan C++ Defines:\n\tSTAN_THREADS=" THREADS "\n"
         "\tSTAN_MPI=false\n\tSTAN_OPENCL=false\n\tSTAN_NO_RANGE_CHECKS=false\n"
         "\tBRIDGESTAN_AD_HESSIAN=false\n"
         "Stan Compiler Details:\n\twritten in C for tests, without a Stan compiler\n";
}

const char *bs_param_names(const bs_model *model, bool transformed, bool generated) {
  return model->names[transformed][generated];
}

const char *bs_param_unc_names(const bs_model *model) { return model->free_names; }

int bs_param_unc_num(const bs_model *model) { return model->dim; }

int bs_param_num(const bs_model *model, bool transformed, bool generated) {
  return total(&model->schema, PARAMETER, false) +
         (transformed ? total(&model->schema, TRANSFORMED, false) : 0) +
         (generated ? total(&model->schema, GENERATED, false) : 0);
}

bs_rng *bs_rng_construct(unsigned int seed, char **message) {
  bs_rng *rng = resized(NULL, 1, sizeof *rng);
  (void)message;
  rng->state = (uint64_t)seed << 32;
  return rng;
}

void bs_rng_destruct(bs_rng *rng) { free(rng); }

static double constrain_all(const bs_model *model, const double *x, double *theta) {
  double log_jacobian = 0;
  const Variable *end = model->schema.variables + model->schema.n_parameters;
  for (const Variable *variable = model->schema.variables; variable < end; variable++)
    log_jacobian += constrain(variable, x + variable->free_start, theta + variable->start);
  return log_jacobian;
}

int bs_param_constrain(const bs_model *model, bool with_transformed, bool with_generated,
                       const double *x, double *theta, bs_rng *rng, char **message) {
  Error error;
  double *transformed = theta + bs_param_num(model, false, false);
  double *generated = theta + bs_param_num(model, with_transformed, false);
  constrain_all(model, x, theta);
  int code = model_generate(&model->data, theta, with_transformed ? transformed : NULL,
                            with_generated ? generated : NULL, rng, &error);
  return report(code, "param_constrain", "", &error, message);
}

int bs_param_unconstrain(const bs_model *model, const double *theta, double *x, char **message) {
  Error error;
  int code = 0;
  const Variable *end = model->schema.variables + model->schema.n_parameters;
  for (const Variable *variable = model->schema.variables; !code && variable < end; variable++)
    code = unconstrain(variable, theta + variable->start, x + variable->free_start, &error);
  return report(code, "param_unconstrain", "", &error, message);
}

/* Set the coordinates of the variables in the context, which must be all of them unless partial. */
static int place(const bs_model *model, const Context *context, bool partial, double *x,
                 Error *error) {
  int code = 0;
  double *theta = zeros(bs_param_num(model, false, false));
  const Variable *end = model->schema.variables + model->schema.n_parameters;
  for (const Variable *variable = model->schema.variables; !code && variable < end; variable++) {
    if (partial && !find(context, variable->name)) continue;
    code = take(context, "parameter initialization", false, *variable, theta, error);
    if (!code) code = unconstrain(variable, theta, x + variable->free_start, error);
  }
  free(theta);
  return code;
}

int bs_param_unconstrain_json(const bs_model *model, const char *json, double *x, char **message) {
  Error error;
  Context context = {0};
  int code = parse(json, &context, &error);
  if (!code) code = place(model, &context, false, x, &error);
  discard(&context);
  return report(code, "param_unconstrain_json", "", &error, message);
}

static int evaluate(const bs_model *model, bool propto, bool jacobian, const double *x,
                    double *value, double *gradient, Error *error) {
  int size = bs_param_num(model, false, false);
  double *theta = zeros(size), *slope = zeros(size), log_jacobian = constrain_all(model, x, theta);
  int code = model_density(&model->data, propto, theta, value, slope, error);
  const Variable *end = model->schema.variables + model->schema.n_parameters;
  for (const Variable *variable = model->schema.variables; !code && variable < end; variable++)
    pull_back(variable, x + variable->free_start, theta + variable->start,
              slope + variable->start, jacobian, gradient + variable->free_start);
  if (!code && jacobian) *value += log_jacobian;
  free(theta);
  free(slope);
  return code;
}

int bs_log_density_gradient(const bs_model *model, bool propto, bool jacobian, const double *x,
                            double *value, double *gradient, char **message) {
  Error error;
  int code = evaluate(model, propto, jacobian, x, value, gradient, &error);
  return report(code, "log_density_gradient", "", &error, message);
}

int bs_log_density(const bs_model *model, bool propto, bool jacobian, const double *x,
                   double *value, char **message) {
  Error error;
  double *gradient = zeros(model->dim);
  int code = evaluate(model, propto, jacobian, x, value, gradient, &error);
  free(gradient);
  return report(code, "log_density", "", &error, message);
}

int bs_param_initialize(const bs_model *model, const char *json, bs_rng *rng, double radius,
                        int max_tries, bool jacobian, double *x, char **message) {
  Error error;
  Context context = {0};
  double value, *gradient = zeros(model->dim);
  bool found = false;
  int code = parse(json, &context, &error);
  for (int try = 0; !code && !found && try < max_tries; try++) {
    for (int i = 0; i < model->dim; i++) x[i] = radius * (2 * uniform(rng) - 1);
    code = place(model, &context, true, x, &error);
    found = !code && !evaluate(model, false, jacobian, x, &value, gradient, &error) &&
            isfinite(value);
  }
  if (!code && !found)
    code = fail(&error, "Initialization between (-%g, %g) failed after %d attempts.", radius,
                radius, max_tries);
  free(gradient);
  discard(&context);
  return report(code, "param_initialize", "", &error, message);
}

/* The product of the Hessian and a direction: the gradient's central difference along it. */
static int product(const bs_model *model, bool propto, bool jacobian, const double *x,
                   const double *direction, double *out, Error *error) {
  int n = model->dim, code = 0;
  double unused, length = 0, scale = 1, *moved = zeros(n), *gradient = zeros(n);
  for (int i = 0; i < n; i++) {
    out[i] = 0;
    length = fmax(length, fabs(direction[i]));
    if (direction[i] != 0) scale = fmax(scale, fabs(x[i]));
  }
  double step = length > 0 ? 6e-6 * scale / length : 0; /* the cube root of a rounding error */
  for (int sign = -1; !code && step > 0 && sign <= 1; sign += 2) {
    for (int i = 0; i < n; i++) moved[i] = x[i] + sign * step * direction[i];
    code = evaluate(model, propto, jacobian, moved, &unused, gradient, error);
    for (int i = 0; i < n; i++) out[i] += sign * gradient[i] / (2 * step);
  }
  free(moved);
  free(gradient);
  return code;
}

int bs_log_density_hessian_vector_product(const bs_model *model, bool propto, bool jacobian,
                                          const double *x, const double *direction,
                                          double *value, double *out, char **message) {
  Error error;
  int code = evaluate(model, propto, jacobian, x, value, out, &error);
  if (!code) code = product(model, propto, jacobian, x, direction, out, &error);
  return report(code, "log_density_hessian_vector_product", "", &error, message);
}

int bs_log_density_hessian(const bs_model *model, bool propto, bool jacobian, const double *x,
                           double *value, double *gradient, double *hessian, char **message) {
  Error error;
  int n = model->dim, code = evaluate(model, propto, jacobian, x, value, gradient, &error);
  double *unit = zeros(n);
  for (int i = 0; !code && i < n; i++) {
    if (i > 0) unit[i - 1] = 0;
    unit[i] = 1;
    code = product(model, propto, jacobian, x, unit, hessian + i * n, &error);
  }
  for (int i = 0; !code && i < n; i++)
    for (int j = 0; j < i; j++)
      hessian[i * n + j] = hessian[j * n + i] = (hessian[i * n + j] + hessian[j * n + i]) / 2;
  free(unit);
  return report(code, "log_density_hessian", "", &error, message);
}
