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

static inline ALWAYS vf plus_portable(vf x, vf y, const int turn) {
    (void)turn;
    return x + y;
}

/* By a shift, whatever the order of a word's bytes. */
static inline ALWAYS vu byte_portable(const uint32_t *words, int byte) {
    vu r;
    memcpy(&r, words, sizeof r);
    return r >> (8 * (uint32_t)byte);
}

static inline ALWAYS vu set_where_less_portable(vu word, vf x, float limit, uint32_t bit) { return word | ((vu)(x < limit) & bit); }

static inline ALWAYS void philox_words_portable(const Quad *q, uint32_t chain, const Draw *draw, vu *words) {
    const uint32_t m0 = 0xD2511F53, m1 = 0xCD9E8D57;
    for (int i = 0; i < 4; i++) words[i] = (vu){0};
    for (int lane = 0; lane < LANES; lane++) {
        uint64_t p0 = (uint64_t)((chain + (uint32_t)lane) ^ q->c0) * m0, p1 = (uint64_t)((uint32_t)(p0 >> 32) ^ q->c2) * m1;
        uint32_t c0 = (uint32_t)(p1 >> 32) ^ q->next_c0, c2 = (uint32_t)p0 ^ q->next_c2, c1 = (uint32_t)p1, c3;
        p0 = (uint64_t)c0 * m0, p1 = (uint64_t)c2 * m1;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ draw->key[3][0], c2 = (uint32_t)(p0 >> 32) ^ q->last_c2, c1 = (uint32_t)p1, c3 = (uint32_t)p0;
        for (int round = 4; round < 10; round++) {
            p0 = (uint64_t)c0 * m0, p1 = (uint64_t)c2 * m1;
            c0 = (uint32_t)(p1 >> 32) ^ c1 ^ draw->key[round][0], c1 = (uint32_t)p1;
            c2 = (uint32_t)(p0 >> 32) ^ c3 ^ draw->key[round][1], c3 = (uint32_t)p0;
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

static inline ALWAYS void unpack_word_portable(uint32_t word, int count, float *x) {
    for (int i = 0; i < count; i++) x[i] = (float)(word >> i & 1);
}

static void store_transposed_portable(const float *sums, int64_t width, int64_t rows, int64_t count, float *out, int64_t stride) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < count; j++) out[i * stride + j] = sums[j * width + i];
}

static inline ALWAYS vf multiply_add_portable(vf x, vf y, vf z) { return x * y + z; }

static inline ALWAYS float sum_of_portable(vf x) { return (x[0] + x[2]) + (x[1] + x[3]); }

#include "kernels.inc.h"
