/* AVX-512: 16 lanes, a table of 16 numbers in one register, one permutation a look-up. */
BEGIN_TARGET("avx512f,avx512bw,avx512dq,avx512vl")
#define LANES 16
#define TILE_BLOCKS 4
#define TILE_OUTPUTS 4
#define FEW 8 /* chains up to which lanes are outputs */
#define NAME(x) x##_avx512
#define vf vf16
#define vu vu16
#define vi vi16
#define Table __m512

typedef float vf16 __attribute__((vector_size(64)));
typedef uint32_t vu16 __attribute__((vector_size(64)));
typedef int32_t vi16 __attribute__((vector_size(64)));

/* Number s of the table is the sum of the weights that s's bits choose; multiplying by 0 or 1 is exact. */
static inline ALWAYS __m512 table_of_avx512(float w0, float w1, float w2, float w3) {
    const vf16 bit0 = {0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1}, bit1 = {0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1};
    const vf16 bit2 = {0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1}, bit3 = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
    __m512 t = _mm512_mul_ps((__m512)bit0, _mm512_set1_ps(w0));
    t = _mm512_fmadd_ps((__m512)bit1, _mm512_set1_ps(w1), t);
    t = _mm512_fmadd_ps((__m512)bit2, _mm512_set1_ps(w2), t);
    return _mm512_fmadd_ps((__m512)bit3, _mm512_set1_ps(w3), t);
}

static inline ALWAYS vf smaller_avx512(vf x, vf y) { return (vf)_mm512_min_ps((__m512)x, (__m512)y); }

static inline ALWAYS vf larger_avx512(vf x, vf y) { return (vf)_mm512_max_ps((__m512)x, (__m512)y); }

static inline ALWAYS vf look_up_avx512(__m512 table, vu index) { return (vf)_mm512_permutexvar_ps((__m512i)index, table); }

/* Sum of two, by the multiplier's pipe for every fourth `turn`: where tables are read, it has nothing else to do. */
static inline ALWAYS vf plus_avx512(vf x, vf y, const int turn) {
    return turn % 4 == 3 ? (vf)_mm512_fmadd_ps((__m512)y, _mm512_set1_ps(1), (__m512)x) : x + y;
}

/* The words' bits from 8 `byte` on are the lowest of the lanes; the upper ones are others'. */
static inline ALWAYS vu byte_avx512(const uint32_t *words, int byte) {
    vu r;
    memcpy(&r, (const char *)words + byte, sizeof r);
    return r;
}

static inline ALWAYS vu set_where_less_avx512(vu word, vf x, float limit, uint32_t bit) {
    const __mmask16 less = _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(limit), _CMP_LT_OQ);
    return (vu)_mm512_mask_or_epi32((__m512i)word, less, (__m512i)word, _mm512_set1_epi32((int)bit));
}

/* Four words for each of 16 chains; even and odd chains apart in 64-bit lanes, whose upper halves only the products fill on purpose. */
static inline ALWAYS void philox_words_avx512(const Quad *q, uint32_t chain, const Draw *draw, vu *words) {
#define UPPER(x) _mm512_shuffle_epi32(x, 0xF5)
#define TOGETHER(even, odd) (vu)_mm512_mask_shuffle_epi32(even, 0xAAAA, odd, 0xA0)
#define XOR(x, y, z) _mm512_ternarylogic_epi32(x, y, _mm512_set1_epi32((int)(z)), 0x96)
    const __m512i m0 = _mm512_set1_epi32((int)0xD2511F53), m1 = _mm512_set1_epi32((int)0xCD9E8D57);
    __m512i c0[2], c1[2], c2[2], c3[2], p0[2], p1[2];
#define BOTH _Pragma("GCC unroll 2") for (int odd = 0; odd < 2; odd++)
    const __m512i lane = _mm512_add_epi32(_mm512_set1_epi32((int)chain), _mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0));
    BOTH c0[odd] = _mm512_xor_si512(_mm512_add_epi32(lane, _mm512_set1_epi32(odd)), _mm512_set1_epi32((int)q->c0));
    BOTH p0[odd] = _mm512_mul_epu32(c0[odd], m0);
    BOTH p1[odd] = _mm512_mul_epu32(_mm512_xor_si512(UPPER(p0[odd]), _mm512_set1_epi32((int)q->c2)), m1);
    BOTH c0[odd] = _mm512_xor_si512(UPPER(p1[odd]), _mm512_set1_epi32((int)q->next_c0));
    BOTH c2[odd] = _mm512_xor_si512(p0[odd], _mm512_set1_epi32((int)q->next_c2)), c1[odd] = p1[odd];
    BOTH p0[odd] = _mm512_mul_epu32(c0[odd], m0), p1[odd] = _mm512_mul_epu32(c2[odd], m1);
    BOTH c0[odd] = XOR(UPPER(p1[odd]), c1[odd], draw->key[3][0]);
    BOTH c2[odd] = _mm512_xor_si512(UPPER(p0[odd]), _mm512_set1_epi32((int)q->last_c2));
#pragma GCC unroll 6
    for (int round = 4; round < 10; round++) {
        BOTH c1[odd] = p1[odd], c3[odd] = p0[odd];
        BOTH p0[odd] = _mm512_mul_epu32(c0[odd], m0), p1[odd] = _mm512_mul_epu32(c2[odd], m1);
        if (round == 9) break; /* the last one's upper halves serve both kinds of chains at once */
        BOTH c0[odd] = XOR(UPPER(p1[odd]), c1[odd], draw->key[round][0]);
        BOTH c2[odd] = XOR(UPPER(p0[odd]), c3[odd], draw->key[round][1]);
    }
    const __m512i upper1 = _mm512_mask_shuffle_epi32(p1[1], 0x5555, p1[0], 0xF5), upper0 = _mm512_mask_shuffle_epi32(p0[1], 0x5555, p0[0], 0xF5);
    words[0] = (vu)XOR(upper1, (__m512i)TOGETHER(c1[0], c1[1]), draw->key[9][0]), words[1] = TOGETHER(p1[0], p1[1]);
    words[2] = (vu)XOR(upper0, (__m512i)TOGETHER(c3[0], c3[1]), draw->key[9][1]), words[3] = TOGETHER(p0[0], p0[1]);
#undef BOTH
#undef UPPER
#undef TOGETHER
#undef XOR
}

static uint32_t pack_word_avx512(const float *x, int count, int *binary) {
    const uint32_t exist = count == 32 ? 0xFFFFFFFF : (1u << count) - 1;
    const __m512 low = _mm512_maskz_loadu_ps((__mmask16)exist, x), high = _mm512_maskz_loadu_ps((__mmask16)(exist >> 16), x + 16);
    const __m512 zero = _mm512_setzero_ps(), one = _mm512_set1_ps(1);
    const uint32_t on = (uint32_t)_mm512_cmp_ps_mask(low, zero, _CMP_NEQ_UQ) | (uint32_t)_mm512_cmp_ps_mask(high, zero, _CMP_NEQ_UQ) << 16;
    const uint32_t ones = (uint32_t)_mm512_cmp_ps_mask(low, one, _CMP_EQ_OQ) | (uint32_t)_mm512_cmp_ps_mask(high, one, _CMP_EQ_OQ) << 16;
    *binary &= on == ones;
    return on;
}

static inline ALWAYS void unpack_word_avx512(uint32_t word, int count, float *x) {
    const uint32_t exist = count == 32 ? 0xFFFFFFFF : (1u << count) - 1;
    const __m512 one = _mm512_set1_ps(1);
    _mm512_mask_storeu_ps(x, (__mmask16)exist, _mm512_maskz_mov_ps((__mmask16)word, one));
    if (count > 16) _mm512_mask_storeu_ps(x + 16, (__mmask16)(exist >> 16), _mm512_maskz_mov_ps((__mmask16)(word >> 16), one));
}

/* Transpose 16 x 16 numbers in four stages of exchanges between registers 1, 2, 4 and 8 apart. */
static inline ALWAYS void transpose_avx512(__m512 *r) {
    __m512 t[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]), t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44), r[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xEE);
        r[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44), r[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88), t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xDD);
        t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88), t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xDD);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xDD);
    }
}

/* out[i * stride + j] = sums[j * width + i] for j < count <= 16. */
static void store_transposed_avx512(const float *sums, int64_t width, int64_t rows, int64_t count, float *out, int64_t stride) {
    const __mmask16 exist = (__mmask16)((1u << count) - 1);
    for (int64_t i = 0; i < rows; i += 16) {
        __m512 block[16];
#pragma GCC unroll 16
        for (int j = 0; j < 16; j++) block[j] = _mm512_load_ps(sums + j * width + i);
        transpose_avx512(block);
        const int64_t here = rows - i < 16 ? rows - i : 16;
#pragma GCC unroll 16
        for (int j = 0; j < 16; j++)
            if (j < here) _mm512_mask_storeu_ps(out + (i + j) * stride, exist, block[j]);
    }
}

/* 16 x 16 weights from unit `k` and output `j` on, a register a unit; zeros where there are none. */
static inline ALWAYS void block_avx512(const Side *side, int64_t k, int64_t j, __m512 *w) {
    const int64_t units = side->units - k, outputs = side->outputs - j;
    const __mmask16 unit = units < 16 ? (__mmask16)((1u << units) - 1) : 0xFFFF;
    const __mmask16 output = outputs < 16 ? (__mmask16)((1u << outputs) - 1) : 0xFFFF;
    const float *weight = side->weight + k * side->step + j * side->column_step;
    if (side->column_step == 1) {
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) w[i] = i < units ? _mm512_maskz_loadu_ps(output, weight + i * side->step) : _mm512_setzero_ps();
        return;
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) w[i] = i < outputs ? _mm512_maskz_loadu_ps(unit, weight + i * side->column_step) : _mm512_setzero_ps();
    transpose_avx512(w);
}

/* field[l * width + chain] for 16 outputs and up to FEW chains: lanes are outputs here; a group of four units is summed as a table
 * would have it, so that states do not depend on how many chains there are. */
static void few_outputs_avx512(const Side *side, int chains, States from, int64_t j, float *field, int64_t width) {
    const int64_t outputs = side->outputs - j < 16 ? side->outputs - j : 16;
    const __m512 bias = _mm512_maskz_loadu_ps((__mmask16)((1u << outputs) - 1), side->bias + j);
    __m512 sum[FEW], w[16];
    for (int c = 0; c < chains; c++) sum[c] = bias;
    for (int64_t k = 0; k < side->units; k += 16) {
        block_avx512(side, k, j, w);
        for (int c = 0; c < chains; c++) {
            _Alignas(64) float on[16];
            _mm512_store_ps(on, _mm512_maskz_mov_ps((__mmask16)(from.words[(k >> 5) * from.stride + c] >> (k & 31)), _mm512_set1_ps(1)));
#pragma GCC unroll 4
            for (int i = 0; i < 16; i += 4) {
                __m512 t = _mm512_mul_ps(w[i], _mm512_set1_ps(on[i]));
                t = _mm512_fmadd_ps(w[i + 1], _mm512_set1_ps(on[i + 1]), t);
                t = _mm512_fmadd_ps(w[i + 2], _mm512_set1_ps(on[i + 2]), t);
                sum[c] = _mm512_add_ps(sum[c], _mm512_fmadd_ps(w[i + 3], _mm512_set1_ps(on[i + 3]), t));
            }
        }
    }
    for (int c = 0; c < chains; c++) {
        _Alignas(64) float own[16];
        _mm512_store_ps(own, sum[c]);
        for (int l = 0; l < 16; l++) field[l * width + c] = own[l];
    }
}

static inline ALWAYS vf multiply_add_avx512(vf x, vf y, vf z) { return (vf)_mm512_fmadd_ps((__m512)x, (__m512)y, (__m512)z); }

static inline ALWAYS float sum_of_avx512(vf x) { return _mm512_reduce_add_ps((__m512)x); }

#include "kernels.inc.h"
END_TARGET
