/* The least that NADE's recursion asks of a processor on dense rows: for each feature, row and hidden unit a sigmoid and a rank-one update
 * forwards, and the same on the way back, by the package's own vector functions. Four vectors of hidden units go through all features
 * before the next four, so that rows and activations stay in the first cache. Compiled by benchmarks/nade.py. */
#include "native.c"

#define FLOOR(set)                                                                                                        \
    static void floor_##set(const float *weight, int64_t features, int64_t rows, float *a, float *h) {                    \
        for (int64_t k = 0; k < features; k++)                                                                            \
            for (int64_t i = 0; i < rows; i++) {                                                                          \
                sigmoids_##set(a + i * QUAD_##set, h + i * QUAD_##set, QUAD_##set);                                       \
                add_scaled_##set(a + i * QUAD_##set, 0.5f, weight + k * QUAD_##set, QUAD_##set);                          \
            }                                                                                                             \
    }                                                                                                                     \
    static float all_##set(const float *weight, int64_t features, int64_t hidden, int64_t rows, float *a, float *h) {     \
        float sum = 0;                                                                                                    \
        for (int64_t first = 0; first < hidden; first += QUAD_##set) {                                                    \
            memset(a, 0, sizeof(float) * rows * QUAD_##set);                                                              \
            for (int way = 0; way < 2; way++) floor_##set(weight, features, rows, a, h), sum += h[0];                     \
        }                                                                                                                 \
        return sum;                                                                                                       \
    }

FLOOR(portable)
#if defined(__x86_64__)
BEGIN_TARGET("avx2")
FLOOR(avx2)
END_TARGET
BEGIN_TARGET("avx512f,avx512bw,avx512dq,avx512vl")
FLOOR(avx512)
END_TARGET
#endif

/* weight: features times 64 numbers; a and h: rows times 64. */
EXPORT float nade_floor(const float *weight, int64_t features, int64_t hidden, int64_t rows, float *a, float *h) {
#if defined(__x86_64__)
    if (pyro_gen_best_set() == AVX512_SET) return all_avx512(weight, features, hidden, rows, a, h);
    if (pyro_gen_best_set() == AVX2_SET) return all_avx2(weight, features, hidden, rows, a, h);
#endif
    return all_portable(weight, features, hidden, rows, a, h);
}
