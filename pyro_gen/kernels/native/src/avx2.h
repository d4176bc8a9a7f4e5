/* AVX2: 8 lanes, a table of 16 numbers in two registers, two permutations and a blend a look-up. */
BEGIN_TARGET("avx2")
#define LANES 8
#define TILE_BLOCKS 4
#define TILE_OUTPUTS 2
#define NAME(x) x##_avx2
#define vf vf8
#define vu vu8
#define vi vi8
#define Table Table8

typedef float vf8 __attribute__((vector_size(32)));
typedef uint32_t vu8 __attribute__((vector_size(32)));
typedef int32_t vi8 __attribute__((vector_size(32)));
typedef struct {
    __m256 low, high;
} Table8;

static inline ALWAYS Table8 table_of_avx2(float w0, float w1, float w2, float w3) {
    const vf8 bit0 = {0, 1, 0, 1, 0, 1, 0, 1}, bit1 = {0, 0, 1, 1, 0, 0, 1, 1}, bit2 = {0, 0, 0, 0, 1, 1, 1, 1};
    const vf8 low = bit0 * w0 + bit1 * w1 + bit2 * w2;
    return (Table8){(__m256)low, (__m256)(low + w3)};
}

static inline ALWAYS vf smaller_avx2(vf x, vf y) { return (vf)_mm256_min_ps((__m256)x, (__m256)y); }

static inline ALWAYS vf larger_avx2(vf x, vf y) { return (vf)_mm256_max_ps((__m256)x, (__m256)y); }

static inline ALWAYS vf look_up_avx2(Table8 table, vu index) {
    const __m256 low = _mm256_permutevar8x32_ps(table.low, (__m256i)index), high = _mm256_permutevar8x32_ps(table.high, (__m256i)index);
    return (vf)_mm256_blendv_ps(low, high, (__m256)(index << 28)); /* the sign bit chooses: bit 3 of the index */
}

static inline ALWAYS vf plus_avx2(vf x, vf y, const int turn) {
    (void)turn;
    return x + y;
}

static inline ALWAYS vu byte_avx2(const uint32_t *words, int byte) {
    vu r;
    memcpy(&r, (const char *)words + byte, sizeof r);
    return r;
}

static inline ALWAYS vu set_where_less_avx2(vu word, vf x, float limit, uint32_t bit) { return word | ((vu)(x < limit) & bit); }

static inline ALWAYS void philox_words_avx2(const Quad *q, uint32_t chain, const Draw *draw, vu *words) {
    const vu m0 = (vu){0} + 0xD2511F53, m1 = (vu){0} + 0xCD9E8D57;
    vu found[2][4];
#pragma GCC unroll 2
    for (int odd = 0; odd < 2; odd++) { /* 64-bit lanes, whose upper halves only the products fill on purpose */
#define TIMES(x, m) (vu)_mm256_mul_epu32((__m256i)(x), (__m256i)(m))
#define UPPER(x) (vu)_mm256_shuffle_epi32((__m256i)(x), 0xF5)
        const vu lane = (vu){0, 0, 2, 0, 4, 0, 6, 0} + (chain + (uint32_t)odd);
        vu p0 = TIMES(lane ^ q->c0, m0), p1 = TIMES(UPPER(p0) ^ q->c2, m1), c0 = UPPER(p1) ^ q->next_c0, c2 = p0 ^ q->next_c2, c1 = p1, c3;
        p0 = TIMES(c0, m0), p1 = TIMES(c2, m1);
        c0 = UPPER(p1) ^ c1 ^ draw->key[3][0], c2 = UPPER(p0) ^ q->last_c2, c1 = p1, c3 = p0;
#pragma GCC unroll 6
        for (int round = 4; round < 10; round++) {
            p0 = TIMES(c0, m0), p1 = TIMES(c2, m1);
            c0 = UPPER(p1) ^ c1 ^ draw->key[round][0], c2 = UPPER(p0) ^ c3 ^ draw->key[round][1], c1 = p1, c3 = p0;
        }
        found[odd][0] = c0, found[odd][1] = c1, found[odd][2] = c2, found[odd][3] = c3;
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        words[i] = (vu)_mm256_blend_epi32((__m256i)found[0][i], _mm256_slli_epi64((__m256i)found[1][i], 32), 0xAA);
#undef TIMES
#undef UPPER
}

static uint32_t pack_word_avx2(const float *x, int count, int *binary) {
    uint32_t word = 0;
    for (int i = 0; i < count; i += 8) {
        float some[8] = {0};
        memcpy(some, x + i, sizeof(float) * (count - i < 8 ? count - i : 8));
        const __m256 states = _mm256_loadu_ps(some);
        const int on = _mm256_movemask_ps(_mm256_cmp_ps(states, _mm256_setzero_ps(), _CMP_NEQ_UQ));
        *binary &= on == _mm256_movemask_ps(_mm256_cmp_ps(states, _mm256_set1_ps(1), _CMP_EQ_OQ));
        word |= (uint32_t)on << i;
    }
    return word;
}

static inline ALWAYS void unpack_word_avx2(uint32_t word, int count, float *x) {
    for (int i = 0; i < count; i++) x[i] = (float)(word >> i & 1);
}

static void store_transposed_avx2(const float *sums, int64_t width, int64_t rows, int64_t count, float *out, int64_t stride) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < count; j++) out[i * stride + j] = sums[j * width + i];
}

static inline ALWAYS vf multiply_add_avx2(vf x, vf y, vf z) { return x * y + z; }

static inline ALWAYS float sum_of_avx2(vf x) {
    const __m128 half = _mm_add_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
    const __m128 quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)));
}

#include "kernels.inc.h"
END_TARGET
