/* Compiled kernels of a Bernoulli RBM for a CPU, float32: a plain C interface that Python loads by ctypes.
 *
 * One source (rbm.inc.h) is compiled for several instruction sets, of which the processor's best is chosen at run time. Nothing
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
#define TILE_LANES 128 /* chains that are worked on together */
#define PART 2048      /* terms of a sum over rows that are added up in one go */

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
enum { PLAIN = 0, HIDDEN_ANNEALED = 1, VISIBLE_ANNEALED = 2 };   /* kinds of half step */

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

typedef struct { /* Philox: key and the words of the counter that a half step shares */
    uint32_t key[2], step, stream, chain;
} Draw;

typedef struct {
    int (*gibbs)(const Rbm *, const float *, float *, float *, int64_t, const float *, int64_t, uint64_t, uint64_t, uint64_t);
    int (*ais)(const Rbm *, const float *, const float *, const double *, int64_t, float *, double *, int64_t, uint64_t, uint64_t);
    int (*statistics)(const Rbm *, const float *, int64_t, const float *, int64_t, int64_t, int64_t, float *, float *, float *);
} Kernels;

static Side upwards(const Rbm *r) { return (Side){r->weight, r->row_step, r->column_step, r->hbias, r->visible, r->hidden}; }

static Side downwards(const Rbm *r) { return (Side){r->weight, r->column_step, r->row_step, r->vbias, r->hidden, r->visible}; }

static int64_t round_up(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

static int64_t words_of(int64_t units) { return (units + 31) / 32; }

static void *workspace(int64_t bytes) { return aligned_alloc(64, (size_t)round_up(bytes, 64)); }

/* Bit-packed states of one tile, and a panel of 16 columns of the weights. */
static int64_t tile_bytes(const Rbm *r) {
    const int64_t larger = r->visible > r->hidden ? r->visible : r->hidden;
    return 4 * ((words_of(r->visible) + words_of(r->hidden)) * TILE_LANES + 16 * larger);
}

static Draw draws(uint64_t seed, uint64_t step, uint32_t stream, uint64_t chain) {
    return (Draw){{(uint32_t)seed, (uint32_t)(seed >> 32)}, (uint32_t)step, stream | (uint32_t)(step >> 32) << 8, (uint32_t)chain};
}

/* Rows of states into slots: packed by row (tiles of TILE_LANES) and by unit (bit = slot); returns whether all are binary. */
static int pack_slots(const float *x, int64_t rows, int64_t units, int64_t first, uint32_t *by_row, int64_t words, uint32_t *by_unit,
                       int64_t padded, uint32_t (*pack_word)(const float *, int, int *)) {
    int binary = 1;
    for (int64_t r = 0; r < rows; r++) {
        const int64_t slot = first + r;
        const float *row = x + r * units;
        uint32_t *own = by_row + slot / TILE_LANES * words * TILE_LANES + slot % TILE_LANES, *unit = by_unit + slot / 32 * padded;
        for (int64_t k = 0; k < units; k += 32)
            own[(k >> 5) * TILE_LANES] = pack_word(row + k, units - k < 32 ? (int)(units - k) : 32, &binary);
        for (int64_t k = 0; k < units; k++) unit[k] |= (uint32_t)(row[k] != 0.0f) << (slot & 31);
    }
    return binary;
}

/* Mean state of the particles less that of the data: the gradient of the visible biases. */
static void moments(const uint32_t *by_unit, int64_t padded, int64_t units, int64_t first, int64_t end, int64_t rows, int64_t chains, float *out) {
    for (int64_t k = 0; k < units; k++) {
        int64_t data = 0, model = 0;
        for (int64_t w = 0; w < first; w++) data += __builtin_popcount(by_unit[w * padded + k]);
        for (int64_t w = first; w < end; w++) model += __builtin_popcount(by_unit[w * padded + k]);
        out[k] = (float)((double)model / (double)chains - (double)data / (double)rows);
    }
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
EXPORT int pyro_gen_interface(void) { return 2; }

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

/* Gradient of the mean contrast for the hidden units from `from` (a multiple of 16) to `to`; with `from` = 0 the visible biases' too. */
EXPORT int pyro_gen_rbm_statistics(int set, const float *weight, int64_t row_step, int64_t column_step, const float *vbias,
                                   const float *hbias, int64_t visible, int64_t hidden, const float *batch, int64_t rows,
                                   const float *particles, int64_t chains, int64_t from, int64_t to, float *weight_gradient,
                                   float *vbias_gradient, float *hbias_gradient) {
    const Rbm rbm = {weight, row_step, column_step, vbias, hbias, visible, hidden};
    const Kernels *kernels = kernels_of(set);
    return kernels ? kernels->statistics(&rbm, batch, rows, particles, chains, from, to, weight_gradient, vbias_gradient, hbias_gradient) : UNKNOWN_SET;
}

/* setuptools builds extension modules, and the linker of some systems looks for this name; it is never called. */
EXPORT void *PyInit__native(void) { return 0; }
