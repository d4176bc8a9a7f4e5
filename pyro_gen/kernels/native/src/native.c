/* Compiled kernels of a Bernoulli RBM and of NADE for a CPU, float32: a plain C interface that Python loads by ctypes.
 *
 * An op is one file: gibbs, ais, contrastive and nade.inc.h hold its interface and its kernels, which are made of half_step.inc.h and
 * compiled for several instruction sets (kernels.inc.h); the processor's best is chosen at run time. Nothing here knows of Python,
 * torch or threads: the caller splits the work (pyro_gen/kernels/native). The extensions used are those that GCC and Clang share
 * (vectors, function targets); another compiler fails, the package is installed without this library, and the torch paths serve.
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

/* Functions for an instruction set that not every processor of the target has. */
#define TEXT(x) #x
#if defined(__clang__)
#define BEGIN_TARGET(set) _Pragma(TEXT(clang attribute push(__attribute__((target(set))), apply_to = function)))
#define END_TARGET _Pragma("clang attribute pop")
#else
#define BEGIN_TARGET(set) _Pragma("GCC push_options") _Pragma(TEXT(GCC target(set)))
#define END_TARGET _Pragma("GCC pop_options")
#endif

enum { NO_MEMORY = 1, UNKNOWN_SET = 2, NOT_BINARY = 3 }; /* statuses, 0 where all is well */

static int64_t round_up(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

static int64_t words_of(int64_t units) { return (units + 31) / 32; }

static int64_t at_most(int64_t x, int64_t limit) { return x < limit ? x : limit; }

static int64_t at_least(int64_t x, int64_t limit) { return x > limit ? x : limit; }

static void *workspace(int64_t floats) { return aligned_alloc(64, (size_t)round_up(4 * floats, 64)); }

#include "random.h"
#include "half_step.inc.h"

typedef struct Slots Slots;
typedef struct Nade Nade;

typedef struct {
    int (*gibbs)(const Rbm *, const float *, float *, float *, int64_t, const float *, int64_t, uint64_t, uint64_t, uint64_t);
    int (*ais)(const Rbm *, const float *, const float *, const double *, int64_t, float *, double *, int64_t, uint64_t, uint64_t);
    int (*sample)(const Rbm *, const Slots *, const float *, const float *, float *, int64_t, int64_t, int64_t, uint64_t, uint64_t, uint64_t);
    int (*differentiate)(const Rbm *, const Slots *, int64_t, int64_t, float *, float *, float *);
    int (*nade)(const Nade *, int64_t, int64_t, float *);
    int (*nade_backward)(const Nade *, const float *, int64_t, int64_t, float *, float *, float *);
    int (*nade_sample)(const Nade *, const float *, const float *, int64_t, int64_t, int64_t, float *, float *);
} Kernels;

static const Kernels *kernels_of(int set);

/* All exported functions return a status. With NOT_BINARY the results are of no use. */
#include "gibbs.inc.h"
#include "ais.inc.h"
#include "contrastive.inc.h"
#include "nade.inc.h"

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

/* setuptools builds extension modules, and the linker of some systems looks for this name; it is never called. */
EXPORT void *PyInit__native(void) { return 0; }
