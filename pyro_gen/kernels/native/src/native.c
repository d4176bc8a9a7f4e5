/* Compiled kernels of a Bernoulli RBM and of NADE for a CPU, float32: a plain C interface that Python loads by ctypes.
 *
 * One source (rbm.inc.h, nade.inc.h) is compiled for several instruction sets, of which the processor's best is chosen at run time. Nothing
 * here knows of Python or torch. The extensions used are those that GCC and Clang share (vectors, function targets); another
 * compiler fails, the package is installed without this library, and the torch paths serve.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if !defined(__GNUC__)
#error "needs GCC or Clang: their vector extensions"
#endif

#define ALWAYS __attribute__((always_inline))
#define EXPORT __attribute__((visibility("default")))
#define TILE_LANES 1024 /* chains that are worked on together: they share tables, and their states stay in the second cache */
#ifndef KEPT_BYTES
#define KEPT_BYTES (1 << 22) /* tables up to this size are kept from sweep to sweep: a share of the third cache */
#endif
#define PART 2048      /* terms of a sum over rows that are added up in one go */
#define NADE_ROWS 8       /* rows that a weight of NADE is loaded for at once: a register each */
#define NADE_UNITS 512    /* hidden units of a panel on the way forward: sigmoids of NADE_ROWS rows fill half a first cache */
#define NADE_BACK_ROWS 16 /* rows that go back through four vectors of hidden units together: their state fills half a first cache */

/* Functions for an instruction set that not every processor of the target has. */
#if defined(__clang__)
#define TEXT(x) #x
#define BEGIN_TARGET(set) _Pragma(TEXT(clang attribute push(__attribute__((target(set))), apply_to = function)))
#define END_TARGET _Pragma("clang attribute pop")
#else
#define TEXT(x) #x
#define BEGIN_TARGET(set) _Pragma("GCC push_options") _Pragma(TEXT(GCC target(set)))
#define END_TARGET _Pragma("GCC pop_options")
#endif

enum { NO_MEMORY = 1, UNKNOWN_SET = 2, NOT_BINARY = 3 };         /* statuses, 0 where all is well */
enum { HIDDEN = 0, VISIBLE = 1 };                                /* streams, as in pyro_gen/kernels/random.py */
enum { PLAIN = 0, HIDDEN_ANNEALED = 1, VISIBLE_ANNEALED = 2, REMEMBERED = 3 }; /* kinds of half step */
enum { MADE = 0, KEPT = 1, READ = 2 };                           /* what a tile does about its tables */
enum { WHOLE = 0, SAMPLE = 1, DIFFERENTIATE = 2 };               /* phases of a contrast */

typedef struct { /* parameters; weight[i * row_step + j * column_step] */
    const float *weight;
    int64_t row_step, column_step;
    const float *vbias, *hbias;
    int64_t visible, hidden;
} Rbm;

typedef struct { /* one direction of a sweep: from `units` states to `outputs` fields */
    const float *weight;
    int64_t step, column_step;
    const float *bias;
    int64_t units, outputs;
} Side;

typedef struct { /* one temperature of annealed importance sampling */
    const float *base;
    float beta, next;
    double *log_weight;
} Anneal;

typedef struct { /* Philox: the keys of its rounds and the words of the counter that a half step shares */
    uint32_t key[10][2], step, stream, chain;
} Draw;

typedef struct { /* what Philox's first rounds make of the words that all chains share */
    uint32_t c0, c2, next_c0, next_c2, last_c2;
} Quad;

typedef struct { /* states of some chains, 32 units a word: bit (k & 31) of words[(k >> 5) * stride + chain] */
    uint32_t *words;
    int64_t stride;
} States;

typedef struct { /* columns of a matrix, of which `exist`: weight[k * step + j * column_step]; a bias or none */
    const float *weight;
    int64_t step, column_step;
    const float *bias;
    int64_t exist;
} Columns;

typedef struct { /* a workspace: 16 columns of the weights, tables, up to 16 fields of `width` lanes each */
    float *copy, *tables, *field;
    int64_t width, next; /* next: from the tables of four outputs to those of the next four; 0 where these replace them */
    int ready;           /* the tables of all outputs are there */
} Room;

typedef struct { /* share sigmoid(field) of each hidden unit and lane, to be remembered */
    float *weighted;
    int64_t stride;
    float share;
} Memory;

typedef struct { /* slots of a contrast: `rows` of data, then, from slot `first` on, `chains` particles up to slot `used` */
    int64_t rows, chains, first, used;
    States by_row;
    uint32_t *by_unit; /* bit (slot & 31) of by_unit[(slot >> 5) * padded + unit] */
    int64_t padded;
    float *weighted; /* the data's, remembered by the particles' first half step where that starts from the data; or none */
} Slots;

typedef struct { /* x (rows, features, width), weight (features, width, hidden), output (features, parameters, hidden); start[r * start_step + j] */
    const float *x, *weight, *start, *output;
    int64_t rows, features, width, hidden, parameters, start_step;
} Nade;

typedef struct {
    int (*gibbs)(const Rbm *, const float *, float *, float *, int64_t, const float *, int64_t, uint64_t, uint64_t, uint64_t);
    int (*ais)(const Rbm *, const float *, const float *, const double *, int64_t, float *, double *, int64_t, uint64_t, uint64_t);
    int (*sample)(const Rbm *, const Slots *, const float *, const float *, float *, int64_t, int64_t, int64_t, uint64_t, uint64_t, uint64_t);
    int (*differentiate)(const Rbm *, const Slots *, int64_t, int64_t, float *, float *, float *);
    int (*nade)(const Nade *, int64_t, int64_t, float *);
    int (*nade_backward)(const Nade *, const float *, int64_t, int64_t, float *, float *, float *);
    int (*nade_sample)(const Nade *, const float *, const float *, int64_t, int64_t, int64_t, float *, float *);
} Kernels;

static Side upwards(const Rbm *r) { return (Side){r->weight, r->row_step, r->column_step, r->hbias, r->visible, r->hidden}; }

static Side downwards(const Rbm *r) { return (Side){r->weight, r->column_step, r->row_step, r->vbias, r->hidden, r->visible}; }

static int64_t round_up(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

static int64_t words_of(int64_t units) { return (units + 31) / 32; }

static int64_t at_most(int64_t x, int64_t limit) { return x < limit ? x : limit; }

static int64_t at_least(int64_t x, int64_t limit) { return x > limit ? x : limit; }

static void *workspace(int64_t floats) { return aligned_alloc(64, (size_t)round_up(4 * floats, 64)); }

/* Lanes from one word of 32 units to the next. Loads that start within a word read beyond the last lane, and a power of two would hit
 * one set of the cache only: hence 16 more. */
static int64_t stride_of(int64_t lanes) { return round_up(lanes, 32) + 16; }

/* Space of a room for sums over `units` terms on `lanes` lanes. */
static int64_t room_floats(int64_t units, int64_t lanes) { return 32 * round_up(units, 8) + 16 * round_up(lanes, 16); }

static Room room_in(float *memory, int64_t units, int64_t lanes) {
    float *tables = memory + 16 * round_up(units, 8);
    return (Room){memory, tables, tables + 16 * round_up(units, 8), round_up(lanes, 16), 0, 0};
}

/* Tables of all outputs of both half steps are worth their memory where several sweeps read them from a cache. */
static int64_t kept_floats(const Rbm *r, int64_t chains, int64_t sweeps) {
    const int64_t both = 4 * (round_up(r->visible, 8) * round_up(r->hidden, 4) + round_up(r->hidden, 8) * round_up(r->visible, 4));
    return sweeps > 1 && chains > 8 && 4 * both <= KEPT_BYTES ? both : 0;
}

static void keep_tables(const Rbm *r, float *memory, Room *rooms) {
    rooms[0].next = 16 * round_up(r->visible, 8), rooms[1].next = 16 * round_up(r->hidden, 8);
    rooms[0].tables = memory, rooms[1].tables = memory + round_up(r->hidden, 4) / 4 * rooms[0].next;
}

static uint32_t high(uint32_t x, uint32_t y) { return (uint32_t)((uint64_t)x * y >> 32); }

static Draw draws(uint64_t seed, uint64_t step, uint32_t stream, uint64_t chain) {
    Draw d = {.step = (uint32_t)step, .stream = stream | (uint32_t)(step >> 32) << 8, .chain = (uint32_t)chain};
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9, k1 += 0xBB67AE85) d.key[round][0] = k0, d.key[round][1] = k1;
    return d;
}

/* Philox with the counter (quad, chain, step, stream): only the second word differs between chains, and it reaches the others one by
 * one. What the first three rounds do without it is done here, once for all chains; four of their six products are. */
static Quad quad_of(const Draw *d, uint32_t quad) {
    const uint32_t m0 = 0xD2511F53, m1 = 0xCD9E8D57;
    const uint32_t second = high(quad, m0) ^ d->stream ^ d->key[0][1], third = high(second, m1) ^ d->step * m1 ^ d->key[1][0];
    return (Quad){high(d->step, m1) ^ d->key[0][0], quad * m0 ^ d->key[1][1], second * m1 ^ d->key[2][0],
                  high(third, m0) ^ d->key[2][1], third * m0 ^ d->key[3][1]};
}

/* A contrast's slots in `memory`, which has slots_floats; `shared`: the particles start from the data. */
static int64_t slots_floats(int64_t visible, int64_t hidden, int64_t rows, int64_t chains, int shared) {
    const int64_t first = round_up(rows, 32), used = first + chains;
    return words_of(visible) * stride_of(used) + words_of(used) * stride_of(visible) + (shared ? hidden * first : 0);
}

static Slots slots_in(float *memory, const Rbm *r, int64_t rows, int64_t chains, int shared) {
    const int64_t first = round_up(rows, 32), used = first + chains;
    Slots s = {rows, chains, first, used, {(uint32_t *)memory, stride_of(used)}, 0, stride_of(r->visible), 0};
    s.by_unit = s.by_row.words + words_of(r->visible) * s.by_row.stride;
    if (shared) s.weighted = (float *)(s.by_unit + words_of(used) * s.padded);
    return s;
}

static States from_lane(States s, int64_t lane) { return (States){s.words + lane, s.stride}; }

/* No states in the lanes from `lane` to `end`. */
static void clear(States s, int64_t units, int64_t lane, int64_t end) {
    for (int64_t w = 0; w < words_of(units) && lane < end; w++) memset(s.words + w * s.stride + lane, 0, sizeof(uint32_t) * (end - lane));
}

/* by_unit of the slots from `slot` (a multiple of 32) to `end`: 32 x 32 bits are transposed in five stages of exchanges. */
static void turn(const Slots *s, int64_t visible, int64_t slot, int64_t end) {
    for (; slot < end; slot += 32)
        for (int64_t w = 0; w < words_of(visible); w++) {
            uint32_t x[32], *to = s->by_unit + slot / 32 * s->padded + 32 * w;
            memcpy(x, s->by_row.words + w * s->by_row.stride + slot, sizeof x);
            uint32_t mask = 0x0000FFFF;
            for (int apart = 16; apart; apart >>= 1, mask ^= mask << apart)
                for (int half = 0; half < 32; half += 2 * apart)
                    for (int i = half; i < half + apart; i++) {
                        const uint32_t t = (x[i] >> apart ^ x[i + apart]) & mask;
                        x[i] ^= t << apart, x[i + apart] ^= t;
                    }
            memcpy(to, x, sizeof x);
        }
}

/* Mean state of the particles less that of the data: the gradient of the visible biases. */
static void moments(const Slots *s, int64_t visible, float *out) {
    for (int64_t k = 0; k < visible; k++) {
        int64_t data = 0, model = 0;
        for (int64_t w = 0; w < s->first / 32; w++) data += __builtin_popcount(s->by_unit[w * s->padded + k]);
        for (int64_t w = s->first / 32; w < words_of(s->used); w++) model += __builtin_popcount(s->by_unit[w * s->padded + k]);
        out[k] = (float)((double)model / (double)s->chains - (double)data / (double)s->rows);
    }
}

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

#if defined(__x86_64__)
#include <immintrin.h>
#include "avx512.h"
#include "avx2.h"
#endif
#include "portable.h"

enum { PORTABLE_SET = 0, AVX2_SET = 1, AVX512_SET = 2 };

static const Kernels *kernels_of(int set) {
#if defined(__x86_64__)
    if (set == AVX512_SET) return &kernels_avx512;
    if (set == AVX2_SET) return &kernels_avx2;
#endif
    return set == PORTABLE_SET ? &kernels_portable : 0;
}

/* To be raised with every change of an exported function: Python takes a library of another number for none. */
EXPORT int pyro_gen_interface(void) { return 4; }

/* The best instruction set of this processor: 0 portable, 1 AVX2, 2 AVX-512. */
EXPORT int pyro_gen_best_set(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) return AVX512_SET;
    if (__builtin_cpu_supports("avx2")) return AVX2_SET;
#endif
    return PORTABLE_SET;
}

/* All of these return a status. With NOT_BINARY the results are of no use. */
EXPORT int pyro_gen_rbm_gibbs(int set, const float *weight, int64_t row_step, int64_t column_step, const float *vbias, const float *hbias,
                              int64_t visible, int64_t hidden, const float *start, float *v, float *h, int64_t chains, const float *beta,
                              int64_t sweeps, uint64_t seed, uint64_t step, uint64_t chain_offset) {
    const Rbm rbm = {weight, row_step, column_step, vbias, hbias, visible, hidden};
    const Kernels *kernels = kernels_of(set);
    return kernels ? kernels->gibbs(&rbm, start, v, h, chains, beta, sweeps, seed, step, chain_offset) : UNKNOWN_SET;
}

EXPORT int pyro_gen_rbm_ais(int set, const float *weight, int64_t row_step, int64_t column_step, const float *vbias, const float *hbias,
                            int64_t visible, int64_t hidden, const float *start, const float *base, const double *betas, int64_t count,
                            float *v, double *log_weight, int64_t chains, uint64_t seed, uint64_t chain_offset) {
    const Rbm rbm = {weight, row_step, column_step, vbias, hbias, visible, hidden};
    const Kernels *kernels = kernels_of(set);
    return kernels ? kernels->ais(&rbm, start, base, betas, count, v, log_weight, chains, seed, chain_offset) : UNKNOWN_SET;
}

/* Space that a contrast in phases needs, in floats. */
EXPORT int64_t pyro_gen_rbm_contrast_space(int64_t visible, int64_t hidden, int64_t rows, int64_t chains, int shared) {
    return slots_floats(visible, hidden, rows, chains, shared);
}

/* Particles, `sweeps` after `start`, and the gradient of the mean contrast between `batch` and them; in one go, without `space`, or in
 * two phases that share it, of which each may be split among threads: SAMPLE over the rows and chains from `from` to `to` (multiples of
 * 64), then DIFFERENTIATE over the hidden units (multiples of 16; the part with 0 does the visible biases too). Where `start` is the
 * batch itself the first half step's probabilities are the data's, and are not computed again. */
EXPORT int pyro_gen_rbm_contrast(int set, const float *weight, int64_t row_step, int64_t column_step, const float *vbias, const float *hbias,
                                 int64_t visible, int64_t hidden, const float *batch, int64_t rows, const float *start, int64_t chains,
                                 int64_t sweeps, uint64_t seed, uint64_t step, uint64_t chain_offset, float *particles,
                                 float *weight_gradient, float *vbias_gradient, float *hbias_gradient, float *space, int phase, int64_t from,
                                 int64_t to) {
    const Rbm rbm = {weight, row_step, column_step, vbias, hbias, visible, hidden};
    const Kernels *kernels = kernels_of(set);
    if (!kernels) return UNKNOWN_SET;
    const int shared = batch == start && rows == chains && sweeps > 0;
    float *memory = space ? space : workspace(slots_floats(visible, hidden, rows, chains, shared));
    if (!memory) return NO_MEMORY;
    const Slots slots = slots_in(memory, &rbm, rows, chains, shared);
    int status = 0;
    if (phase == WHOLE) from = 0, to = at_least(rows, chains);
    if (phase != DIFFERENTIATE) status = kernels->sample(&rbm, &slots, batch, start, particles, from, to, sweeps, seed, step, chain_offset);
    if (phase == WHOLE) to = hidden;
    if (phase != SAMPLE && !status) status = kernels->differentiate(&rbm, &slots, from, to, weight_gradient, vbias_gradient, hbias_gradient);
    if (!space) free(memory);
    return status;
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

/* setuptools builds extension modules, and the linker of some systems looks for this name; it is never called. */
EXPORT void *PyInit__native(void) { return 0; }
