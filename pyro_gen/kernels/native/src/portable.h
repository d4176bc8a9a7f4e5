/* Any processor: 4 lanes of the compiler's vectors (SSE2, NEON), look-ups by scalar loads. */
#define LANES 4
#define TILE_BLOCKS 1
#define TILE_OUTPUTS 4
#define NAME(x) x##_portable
#define vf vf4
#define vu vu4
#define vi vi4
#define Table Table4

typedef float vf4 __attribute__((vector_size(16)));
typedef uint32_t vu4 __attribute__((vector_size(16)));
typedef int32_t vi4 __attribute__((vector_size(16)));
typedef struct {
    float sum[16];
} Table4;

static inline ALWAYS Table4 table_of_portable(float w0, float w1, float w2, float w3) {
    const float a[4] = {0, w0, w1, w0 + w1};
    Table4 t;
    for (int i = 0; i < 4; i++) t.sum[i] = a[i], t.sum[4 + i] = a[i] + w2, t.sum[8 + i] = a[i] + w3, t.sum[12 + i] = a[i] + w2 + w3;
    return t;
}

static inline ALWAYS vf smaller_portable(vf x, vf y) {
    for (int i = 0; i < LANES; i++) x[i] = x[i] < y[i] ? x[i] : y[i]; /* y where either is NaN, as x86's instruction has it */
    return x;
}

static inline ALWAYS vf larger_portable(vf x, vf y) {
    for (int i = 0; i < LANES; i++) x[i] = x[i] > y[i] ? x[i] : y[i];
    return x;
}

static inline ALWAYS vf look_up_portable(Table4 table, vu index) {
    return (vf){table.sum[index[0] & 15], table.sum[index[1] & 15], table.sum[index[2] & 15], table.sum[index[3] & 15]};
}

static inline ALWAYS void philox_words_portable(uint32_t quad, uint32_t chain, Draw draw, vu *words) {
    for (int lane = 0; lane < LANES; lane++) {
        uint32_t c0 = quad, c1 = chain + (uint32_t)lane, c2 = draw.step, c3 = draw.stream, k0 = draw.key[0], k1 = draw.key[1];
        for (int round = 0; round < 10; round++, k0 += 0x9E3779B9, k1 += 0xBB67AE85) {
            const uint64_t p0 = (uint64_t)c0 * 0xD2511F53, p1 = (uint64_t)c2 * 0xCD9E8D57;
            c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, c1 = (uint32_t)p1;
            c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1, c3 = (uint32_t)p0;
        }
        words[0][lane] = c0, words[1][lane] = c1, words[2][lane] = c2, words[3][lane] = c3;
    }
}

static uint32_t pack_word_portable(const float *x, int count, int *binary) {
    uint32_t word = 0;
    for (int i = 0; i < count; i++) {
        word |= (uint32_t)(x[i] != 0.0f) << i;
        *binary &= x[i] == 0.0f || x[i] == 1.0f;
    }
    return word;
}

static void store_transposed_portable(const float *sums, int64_t rows, int64_t count, float *out, int64_t stride) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < count; j++) out[i * stride + j] = sums[j * TILE_LANES + i];
}

#include "rbm.inc.h"
#undef LANES
#undef TILE_BLOCKS
#undef TILE_OUTPUTS
#undef NAME
#undef vf
#undef vu
#undef vi
#undef Table
