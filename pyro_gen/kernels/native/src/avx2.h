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

static inline ALWAYS void philox_words_avx2(uint32_t quad, uint32_t chain, Draw draw, vu *words) {
    const __m256i m0 = _mm256_set1_epi64x(0xD2511F53), m1 = _mm256_set1_epi64x(0xCD9E8D57);
    __m256i found[2][4];
#pragma GCC unroll 2
    for (int odd = 0; odd < 2; odd++) {
        __m256i c0 = _mm256_set1_epi64x(quad), c2 = _mm256_set1_epi64x(draw.step), c3 = _mm256_set1_epi64x(draw.stream);
        __m256i c1 = _mm256_add_epi64(_mm256_set1_epi64x((int64_t)chain + odd), _mm256_set_epi64x(6, 4, 2, 0));
        uint32_t k0 = draw.key[0], k1 = draw.key[1];
#pragma GCC unroll 10
        for (int round = 0; round < 10; round++, k0 += 0x9E3779B9, k1 += 0xBB67AE85) {
            const __m256i p0 = _mm256_mul_epu32(c0, m0), p1 = _mm256_mul_epu32(c2, m1);
            c0 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p1, 32), c1), _mm256_set1_epi64x(k0));
            c2 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p0, 32), c3), _mm256_set1_epi64x(k1));
            c1 = p1, c3 = p0;
        }
        found[odd][0] = c0, found[odd][1] = c1, found[odd][2] = c2, found[odd][3] = c3;
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) words[i] = (vu)_mm256_blend_epi32(found[0][i], _mm256_slli_epi64(found[1][i], 32), 0xAA);
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

static void store_transposed_avx2(const float *sums, int64_t rows, int64_t count, float *out, int64_t stride) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < count; j++) out[i * stride + j] = sums[j * TILE_LANES + i];
}

#include "rbm.inc.h"
END_TARGET
#undef LANES
#undef TILE_BLOCKS
#undef TILE_OUTPUTS
#undef NAME
#undef vf
#undef vu
#undef vi
#undef Table
