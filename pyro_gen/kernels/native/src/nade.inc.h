/* The kernels of a neural autoregressive density estimator, written once for every instruction set; included after half_step.inc.h.
 *
 * Besides what that file needs an instruction set has defined multiply_add (fused where it has it) and sum_of (of a vector).
 *
 * Layout: lanes are hidden units; the weights of a panel of them are packed side by side, with zeros where there are none, so that no
 * inner loop has an end of its own and the panel stays in a cache while the rows go by.
 *
 * A hidden layer changes only where the feature before it is not zero. So activations are updated and sigmoids taken for such steps alone,
 * and a zero of a binary row costs a product with the output weights and no more; on the way back the slopes h (1 - h) are applied once for
 * all steps that share a hidden layer. Which rows these are is found beforehand (rows_told): a branch a row would be guessed wrong for every
 * other random bit, and each time the sigmoids under way would be lost.
 */

#ifndef NAME /* once */
#define NADE_ROWS 8       /* rows that a weight of NADE is loaded for at once: a register each */
#define NADE_UNITS 512    /* hidden units of a panel on the way forward: sigmoids of NADE_ROWS rows fill half a first cache */
#define NADE_BACK_ROWS 16 /* rows that go back through four vectors of hidden units together: their state fills half a first cache */

struct Nade { /* x (rows, features, width), weight (features, width, hidden), output (features, parameters, hidden); start[r * start_step + j] */
    const float *x, *weight, *start, *output;
    int64_t rows, features, width, hidden, parameters, start_step;
};

/* A panel of NADE's hidden units from `first` on: `units` numbers, zeros where there are no more units. */
static void pack_units(const Nade *m, const float *x, int64_t first, int64_t units, float *to) {
    const int64_t exist = at_most(m->hidden - first, units);
    memcpy(to, x + first, sizeof(float) * exist);
    memset(to + exist, 0, sizeof(float) * (units - exist));
}

static void pack_panel(const Nade *m, const float *x, int64_t rows, int64_t first, int64_t units, float *to) {
    for (int64_t r = 0; r < rows; r++) pack_units(m, x + r * m->hidden, first, units, to + r * units);
}

static void unpack_panel(const Nade *m, const float *from, int64_t rows, int64_t first, int64_t units, float *x) {
    for (int64_t r = 0; r < rows; r++) memcpy(x + r * m->hidden + first, from + r * units, sizeof(float) * at_most(m->hidden - first, units));
}

/* told[k]: which of some rows, a bit each, have a feature k that is not zero. */
static void rows_told(const Nade *m, int64_t row, int64_t rows, uint32_t *told) {
    const float *x = m->x + row * m->features * m->width;
    memset(told, 0, sizeof(uint32_t) * m->features);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t e = 0; e < m->width; e++)
            for (int64_t k = 0; k < m->features; k++) told[k] |= (uint32_t)(x[(i * m->features + k) * m->width + e] != 0) << i;
}

/* NADE's fields (rows, features, parameters), for the rows from `from` to `to`. */
EXPORT int pyro_gen_nade(int set, const float *x, const float *weight, const float *start, const float *output, int64_t rows, int64_t features,
                         int64_t width, int64_t hidden, int64_t parameters, int64_t start_step, float *fields, int64_t from, int64_t to) {
    const Nade nade = {x, weight, start, output, rows, features, width, hidden, parameters, start_step};
    const Kernels *kernels = kernels_of(set);
    return kernels ? kernels->nade(&nade, from, to, fields) : UNKNOWN_SET;
}

/* Gradients of weight, start (rows, hidden) and output from that of the fields, for the hidden units from `from` to `to`. */
EXPORT int pyro_gen_nade_backward(int set, const float *x, const float *weight, const float *start, const float *output, int64_t rows,
                                  int64_t features, int64_t width, int64_t hidden, int64_t parameters, int64_t start_step,
                                  const float *gradient, float *weight_gradient, float *start_gradient, float *output_gradient, int64_t from,
                                  int64_t to) {
    const Nade nade = {x, weight, start, output, rows, features, width, hidden, parameters, start_step};
    const Kernels *kernels = kernels_of(set);
    return kernels ? kernels->nade_backward(&nade, gradient, from, to, weight_gradient, start_gradient, output_gradient) : UNKNOWN_SET;
}

/* Draws of binary features and the fields that they were drawn from, both (rows, features), for the rows from `from` to `to`: feature k of
 * row r is on where uniforms[k * rows + r] lies below its chance; bias[r * bias_step + k]. */
EXPORT int pyro_gen_nade_sample(int set, const float *uniforms, const float *weight, const float *start, const float *output, int64_t rows,
                                int64_t features, int64_t hidden, int64_t start_step, const float *bias, int64_t bias_step, float *states,
                                float *fields, int64_t from, int64_t to) {
    const Nade nade = {0, weight, start, output, rows, features, 1, hidden, 1, start_step};
    const Kernels *kernels = kernels_of(set);
    return kernels ? kernels->nade_sample(&nade, uniforms, bias, bias_step, from, to, states, fields) : UNKNOWN_SET;
}

#else /* for every instruction set */
enum { NAME(QUAD) = 4 * LANES };

/* h = sigmoid(a), four vectors side by side. */
static inline ALWAYS void NAME(sigmoids)(const float *a, float *h, int64_t units) {
    for (int64_t j = 0; j < units; j += NAME(QUAD)) {
        vf y[4];
#pragma GCC unroll 4
        for (int l = 0; l < 4; l++) y[l] = NAME(load)(a + j + l * LANES) * -1.44269504088896341f;
        NAME(powers_of_two)(4, y);
#pragma GCC unroll 4
        for (int l = 0; l < 4; l++) {
            y[l] = 1.0f / (1.0f + y[l]);
            memcpy(h + j + l * LANES, &y[l], sizeof(vf));
        }
    }
}

/* a += factor w */
static inline ALWAYS void NAME(add_scaled)(float *a, float factor, const float *w, int64_t units) {
    for (int64_t j = 0; j < units; j += LANES) {
        const vf sum = NAME(multiply_add)(NAME(splat)(factor), NAME(load)(w + j), NAME(load)(a + j));
        memcpy(a + j, &sum, sizeof sum);
    }
}

/* Add what one feature says to the activations of a row, `sign` times. */
static inline ALWAYS void NAME(tell)(const Nade *m, const float *x, float sign, const float *weight, int64_t units, float *a) {
    for (int64_t e = 0; e < m->width; e++)
        if (x[e] != 0) NAME(add_scaled)(a, sign * x[e], weight + e * units, units);
}

/* sums[i] = v . h of row i, for NADE_ROWS rows. */
static inline ALWAYS void NAME(products)(const float *v, const float *h, int64_t units, float *sums) {
    vf sum[NADE_ROWS] = {{0}};
    for (int64_t j = 0; j < units; j += LANES) {
        const vf own = NAME(load)(v + j);
#pragma GCC unroll 8
        for (int i = 0; i < NADE_ROWS; i++) sum[i] = NAME(multiply_add)(own, NAME(load)(h + i * units + j), sum[i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < NADE_ROWS; i++) sums[i] = NAME(sum_of)(sum[i]);
}

/* Fields of up to NADE_ROWS rows from one panel of hidden units, added to what earlier panels gave. */
static void NAME(nade_rows)(const Nade *m, const uint32_t *told, const float *weight, const float *output, int64_t units, int64_t first,
                            int64_t row, int64_t rows, float *a, float *h, float *fields) {
    for (int64_t i = 0; i < NADE_ROWS; i++) pack_units(m, m->start + (row + (i < rows ? i : 0)) * m->start_step, first, units, a + i * units);
    NAME(sigmoids)(a, h, NADE_ROWS * units);
    for (int64_t k = 0; k < m->features; k++) {
        for (uint32_t left = k ? told[k - 1] : 0; left; left &= left - 1) {
            const int64_t i = __builtin_ctz(left);
            NAME(tell)(m, m->x + ((row + i) * m->features + k - 1) * m->width, 1, weight + (k - 1) * m->width * units, units, a + i * units);
            NAME(sigmoids)(a + i * units, h + i * units, units);
        }
        for (int64_t p = 0; p < m->parameters; p++) {
            float sums[NADE_ROWS], *own = fields + (row * m->features + k) * m->parameters + p;
            NAME(products)(output + (k * m->parameters + p) * units, h, units, sums);
            for (int64_t i = 0; i < rows; i++, own += m->features * m->parameters) *own = first ? *own + sums[i] : sums[i];
        }
    }
}

/* Fields of the rows from `from` to `to`. */
static int NAME(nade)(const Nade *m, int64_t from, int64_t to, float *fields) {
    const int64_t units = at_most(round_up(m->hidden, NAME(QUAD)), NADE_UNITS);
    const int64_t weights = m->features * m->width * units, outputs = m->features * m->parameters * units;
    float *weight = workspace(weights + outputs + 2 * NADE_ROWS * units + m->features);
    if (!weight) return NO_MEMORY;
    float *output = weight + weights, *a = output + outputs, *h = a + NADE_ROWS * units;
    uint32_t *told = (uint32_t *)(h + NADE_ROWS * units);
    for (int64_t first = 0; first < m->hidden; first += units) {
        pack_panel(m, m->weight, m->features * m->width, first, units, weight);
        pack_panel(m, m->output, m->features * m->parameters, first, units, output);
        for (int64_t row = from; row < to; row += NADE_ROWS) {
            rows_told(m, row, at_most(to - row, NADE_ROWS), told);
            NAME(nade_rows)(m, told, weight, output, units, first, row, at_most(to - row, NADE_ROWS), a, h, fields);
        }
    }
    free(weight);
    return 0;
}

/* Draws of the rows from `from` to `to`, width and parameters being 1: all hidden units in one panel, since a draw needs their sum. */
static int NAME(nade_sample)(const Nade *m, const float *uniforms, const float *bias, int64_t bias_step, int64_t from, int64_t to, float *states,
                             float *fields) {
    const int64_t units = round_up(m->hidden, NAME(QUAD)), features = m->features;
    float *weight = workspace(2 * (features + NADE_ROWS) * units);
    if (!weight) return NO_MEMORY;
    float *output = weight + features * units, *a = output + features * units, *h = a + NADE_ROWS * units;
    pack_panel(m, m->weight, features, 0, units, weight);
    pack_panel(m, m->output, features, 0, units, output);
    for (int64_t row = from; row < to; row += NADE_ROWS) {
        const int64_t rows = at_most(to - row, NADE_ROWS);
        for (int64_t i = 0; i < NADE_ROWS; i++) pack_units(m, m->start + (row + (i < rows ? i : 0)) * m->start_step, 0, units, a + i * units);
        NAME(sigmoids)(a, h, NADE_ROWS * units);
        for (int64_t k = 0; k < features; k++) {
            float field[NAME(QUAD)] = {0}, chance[NAME(QUAD)];
            NAME(products)(output + k * units, h, units, field);
            for (int64_t i = 0; i < rows; i++) field[i] += bias[(row + i) * bias_step + k];
            NAME(sigmoids)(field, chance, NAME(QUAD));
            for (int64_t i = 0; i < rows; i++) {
                const int on = uniforms[k * m->rows + row + i] < chance[i];
                states[(row + i) * features + k] = (float)on, fields[(row + i) * features + k] = field[i];
                if (!on) continue;
                NAME(add_scaled)(a + i * units, 1, weight + k * units, units);
                NAME(sigmoids)(a + i * units, h + i * units, units);
            }
        }
    }
    free(weight);
    return 0;
}

/* Rows on their way back through one panel of hidden units: activations, sigmoids, what the fields ask of the present sigmoids, and the
 * gradient of the activations so far. */
typedef struct {
    float a[NADE_BACK_ROWS][NAME(QUAD)], h[NADE_BACK_ROWS][NAME(QUAD)], asked[NADE_BACK_ROWS][NAME(QUAD)], slope[NADE_BACK_ROWS][NAME(QUAD)];
} NAME(Back);

/* One field's part: its output weights learn from the sigmoids, and the sigmoids from it. */
static inline ALWAYS void NAME(ask)(NAME(Back) *s, int64_t rows, const float *gradient, int64_t step, const float *v, float *learned) {
    vf own[4], sum[4];
#pragma GCC unroll 4
    for (int l = 0; l < 4; l++) own[l] = NAME(load)(v + l * LANES), sum[l] = NAME(load)(learned + l * LANES);
    for (int64_t i = 0; i < rows; i++) {
        const vf g = NAME(splat)(gradient[i * step]);
#pragma GCC unroll 4
        for (int l = 0; l < 4; l++) {
            const vf asked = NAME(multiply_add)(g, own[l], NAME(load)(s->asked[i] + l * LANES));
            sum[l] = NAME(multiply_add)(g, NAME(load)(s->h[i] + l * LANES), sum[l]);
            memcpy(s->asked[i] + l * LANES, &asked, sizeof asked);
        }
    }
    memcpy(learned, sum, sizeof sum);
}

/* Hand what was asked of a row's sigmoids on to its activations. */
static inline ALWAYS void NAME(settle)(NAME(Back) *s, int64_t i) {
    for (int64_t j = 0; j < NAME(QUAD); j += LANES) {
        const vf h = NAME(load)(s->h[i] + j), none = {0};
        const vf slope = NAME(multiply_add)(NAME(load)(s->asked[i] + j), h - h * h, NAME(load)(s->slope[i] + j));
        memcpy(s->slope[i] + j, &slope, sizeof slope);
        memcpy(s->asked[i] + j, &none, sizeof none);
    }
}

/* Undo one feature: its weights learn from the activations after it, which then are those before it. */
static inline ALWAYS void NAME(untell)(const Nade *m, NAME(Back) *s, int64_t i, const float *x, const float *weight, float *learned) {
    NAME(settle)(s, i);
    for (int64_t e = 0; e < m->width; e++)
        if (x[e] != 0) NAME(add_scaled)(learned + e * NAME(QUAD), x[e], s->slope[i], NAME(QUAD));
    NAME(tell)(m, x, -1, weight, NAME(QUAD), s->a[i]);
    NAME(sigmoids)(s->a[i], s->h[i], NAME(QUAD));
}

/* The gradients of some rows through one panel: those of the weights are added up, that of the start is written. */
static void NAME(nade_back_rows)(const Nade *m, const uint32_t *told, const float *gradient, NAME(Back) *s, int64_t row, int64_t rows,
                                 const float *weight, const float *output, float *learned_weight, float *learned_output, int64_t first,
                                 float *learned_start) {
    const int64_t features = m->features, parameters = m->parameters, units = NAME(QUAD);
    memset(s, 0, sizeof *s);
    for (int64_t i = 0; i < rows; i++) pack_units(m, m->start + (row + i) * m->start_step, first, units, s->a[i]);
    for (int64_t k = 0; k + 1 < features; k++)
        for (uint32_t left = told[k]; left; left &= left - 1) {
            const int64_t i = __builtin_ctz(left);
            NAME(tell)(m, m->x + ((row + i) * features + k) * m->width, 1, weight + k * m->width * units, units, s->a[i]);
        }
    NAME(sigmoids)(s->a[0], s->h[0], rows * units);
    for (int64_t k = features - 1; k >= 0; k--) {
        for (int64_t p = 0; p < parameters; p++)
            NAME(ask)(s, rows, gradient + (row * features + k) * parameters + p, features * parameters,
                      output + (k * parameters + p) * units, learned_output + (k * parameters + p) * units);
        for (uint32_t left = k ? told[k - 1] : 0; left; left &= left - 1) {
            const int64_t i = __builtin_ctz(left);
            NAME(untell)(m, s, i, m->x + ((row + i) * features + k - 1) * m->width, weight + (k - 1) * m->width * units,
                         learned_weight + (k - 1) * m->width * units);
        }
    }
    for (int64_t i = 0; i < rows; i++) {
        NAME(settle)(s, i);
        memcpy(learned_start + (row + i) * m->hidden + first, s->slope[i], sizeof(float) * at_most(m->hidden - first, units));
    }
}

/* Gradients for the hidden units from `from` to `to`, of all rows: those of different units have nothing to do with each other. */
static int NAME(nade_backward)(const Nade *m, const float *gradient, int64_t from, int64_t to, float *weight_gradient, float *start_gradient,
                               float *output_gradient) {
    const int64_t units = NAME(QUAD), weights = m->features * m->width, outputs = m->features * m->parameters;
    float *weight = workspace(2 * (weights + outputs) * units);
    uint32_t *told = workspace(m->features * round_up(m->rows, NADE_BACK_ROWS) / NADE_BACK_ROWS);
    NAME(Back) *s = workspace(sizeof *s / sizeof(float));
    if (weight && told && s) {
        for (int64_t row = 0; row < m->rows; row += NADE_BACK_ROWS)
            rows_told(m, row, at_most(m->rows - row, NADE_BACK_ROWS), told + row / NADE_BACK_ROWS * m->features);
        float *output = weight + weights * units, *learned_weight = output + outputs * units, *learned_output = learned_weight + weights * units;
        for (int64_t first = from; first < to; first += units) {
            pack_panel(m, m->weight, weights, first, units, weight);
            pack_panel(m, m->output, outputs, first, units, output);
            memset(learned_weight, 0, sizeof(float) * (weights + outputs) * units);
            for (int64_t row = 0; row < m->rows; row += NADE_BACK_ROWS)
                NAME(nade_back_rows)(m, told + row / NADE_BACK_ROWS * m->features, gradient, s, row, at_most(m->rows - row, NADE_BACK_ROWS), weight,
                                     output, learned_weight, learned_output, first, start_gradient);
            unpack_panel(m, learned_weight, weights, first, units, weight_gradient);
            unpack_panel(m, learned_output, outputs, first, units, output_gradient);
        }
    }
    const int status = weight && told && s ? 0 : NO_MEMORY;
    free(weight), free(told), free(s);
    return status;
}
#endif
