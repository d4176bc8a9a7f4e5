/* The kernels of a Bernoulli RBM, written once for every instruction set.
 *
 * native.c includes this file once per instruction set, which has defined: LANES (a power of two), vf and vu (LANES floats,
 * LANES 32-bit words), TILE_BLOCKS and TILE_OUTPUTS (blocks x outputs of the register tile), Table, table_of, look_up,
 * philox_words, and NAME(x), which gives the functions names of their own.
 *
 * Layout: lanes are chains. States are bit-packed, 32 units a word: bit (k & 31) of words[(k >> 5) * stride + chain].
 *
 * Products: states are binary, so the sum over four units is one of 16 numbers. They are tabulated (once for four units,
 * one output and all chains) and each chain looks its own up by four bits of its state: one permutation and one addition
 * do 64 multiply-adds on 16 lanes, in exact float32 (the method of the four Russians: Arlazarov, Dinic, Kronrod and
 * Faradzhev 1970). The order of summation is the same on every instruction set and for every number of chains.
 */

static inline ALWAYS vf NAME(splat)(float x) { return (vf){0} + x; }

static inline ALWAYS vf NAME(load)(const float *x) {
    vf r;
    memcpy(&r, x, sizeof r);
    return r;
}

static inline ALWAYS vu NAME(load_words)(const uint32_t *x) {
    vu r;
    memcpy(&r, x, sizeof r);
    return r;
}

/* Add four units' share of `outputs` x `blocks` sums: column[j] points at the four weights, `step` apart, of which `count` exist. */
static inline ALWAYS void NAME(add_four)(const int outputs, const int blocks, const int count, const float **column,
                                         int64_t step, const vu *bits, vf *sum) {
#pragma GCC unroll 8
    for (int j = 0; j < outputs; j++) {
        const float *w = column[j];
        const Table t = NAME(table_of)(w[0], count > 1 ? w[step] : 0, count > 2 ? w[2 * step] : 0, count > 3 ? w[3 * step] : 0);
        column[j] += 4 * step;
#pragma GCC unroll 8
        for (int b = 0; b < blocks; b++) sum[j * blocks + b] += NAME(look_up)(t, bits[b]);
    }
}

/* out[j * TILE_LANES + lane] = bias[j] + sum_k bit_k(lane) weight[k * step + j * column_step], for `outputs` columns of which the first `exist`. */
static inline ALWAYS void NAME(tile)(const int outputs, const int blocks, const uint32_t *words, int64_t stride, int64_t units,
                                     const float *weight, int64_t step, int64_t column_step, const float *bias, int64_t exist,
                                     float *out) {
    vf sum[16];
    vu bits[4];
    const float *column[4];
#pragma GCC unroll 4
    for (int j = 0; j < outputs; j++) {
        const int own = j < exist ? j : 0;
        column[j] = weight + own * column_step;
#pragma GCC unroll 8
        for (int b = 0; b < blocks; b++) sum[j * blocks + b] = bias ? NAME(splat)(bias[own]) : (vf){0};
    }
    for (int64_t k = 0; k < units; k += 32) {
        const int here = units - k < 32 ? (int)(units - k) : 32;
#pragma GCC unroll 8
        for (int b = 0; b < blocks; b++) bits[b] = NAME(load_words)(words + k / 32 * stride + b * LANES);
        for (int i = 0; i < here / 4; i++) {
            NAME(add_four)(outputs, blocks, 4, column, step, bits, sum);
#pragma GCC unroll 8
            for (int b = 0; b < blocks; b++) bits[b] >>= 4;
        }
        if (here % 4) NAME(add_four)(outputs, blocks, here % 4, column, step, bits, sum);
    }
#pragma GCC unroll 4
    for (int j = 0; j < outputs; j++) {
#pragma GCC unroll 8
        for (int b = 0; b < blocks; b++) memcpy(out + j * TILE_LANES + b * LANES, &sum[j * blocks + b], sizeof(vf));
    }
}

/* Four outputs, of which `exist`, for the first `blocks` blocks of lanes. */
static void NAME(four_outputs)(int blocks, const uint32_t *words, int64_t stride, int64_t units, const float *weight, int64_t step,
                               int64_t column_step, const float *bias, int64_t exist, float *out) {
    int b = 0;
    for (; b + TILE_BLOCKS <= blocks; b += TILE_BLOCKS) {
        for (int j = 0; j < exist; j += TILE_OUTPUTS)
            NAME(tile)(TILE_OUTPUTS, TILE_BLOCKS, words + b * LANES, stride, units, weight + j * column_step, step, column_step,
                       bias ? bias + j : 0, exist - j, out + j * TILE_LANES + b * LANES);
    }
    for (; TILE_BLOCKS > 2 && b + 2 <= blocks; b += 2)
        NAME(tile)(4, 2, words + b * LANES, stride, units, weight, step, column_step, bias, exist, out + b * LANES);
    for (; b < blocks; b++)
        NAME(tile)(4, 1, words + b * LANES, stride, units, weight, step, column_step, bias, exist, out + b * LANES);
}

/* exp(x): 2^n p(f) with a minimax polynomial of relative error 1e-7; infinite from x = 88.4 on, at least 2^-126. No fused operation,
 * so that every instruction set rounds alike. */
static inline ALWAYS vf NAME(exponential)(vf x) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    vf y = x * 1.44269504088896341f;
    y = NAME(larger)(NAME(splat)(-126.0f), NAME(smaller)(NAME(splat)(128.0f), y)); /* in this order NaN stays NaN */
    const vf shifted = y + magic;
    const vf f = y - (shifted - magic);
    vf p = NAME(splat)(1.535336188319500e-4f);
    p = p * f + 1.339887440266574e-3f;
    p = p * f + 9.618437357674640e-3f;
    p = p * f + 5.550332471162809e-2f;
    p = p * f + 2.402264791363012e-1f;
    p = p * f + 6.931472028550421e-1f;
    p = p * f + 1.0f;
    const vu scale = ((vu)shifted - 0x4B400000u + 127u) << 23;
    return p * (vf)scale;
}

/* softplus(y) - softplus(x) without cancellation: a difference of maxima and one logarithm, 2 artanh s with |s| <= 1/3. */
static inline ALWAYS vf NAME(softplus_difference)(vf y, vf x) {
    const vf zero = {0};
    const vf ey = NAME(exponential)(NAME(smaller)(y, -y)), ex = NAME(exponential)(NAME(smaller)(x, -x));
    const vf s = (ey - ex) / (2.0f + ey + ex), s2 = s * s;
    vf p = NAME(splat)(1.0f / 15);
    p = p * s2 + 1.0f / 13;
    p = p * s2 + 1.0f / 11;
    p = p * s2 + 1.0f / 9;
    p = p * s2 + 1.0f / 7;
    p = p * s2 + 1.0f / 5;
    p = p * s2 + 1.0f / 3;
    p = p * s2 + 1.0f;
    return NAME(larger)(zero, y) - NAME(larger)(zero, x) + 2.0f * s * p;
}

/* All lanes' bit `k` of `word` where u < sigmoid(z), that is u + u exp(-z) < 1. */
static inline ALWAYS vu NAME(draw)(vu word, vu random, vf z, int k) {
    const vf u = __builtin_convertvector((vi)(random >> 8), vf) * 0x1p-24f;
    const vu on = (vu)(u + u * NAME(exponential)(-z) < 1.0f);
    return word | (on & (1u << k));
}

/* Copy 16 columns of the weights to consecutive rows: a stride of 4096 bytes would hit one set of the cache only. */
static void NAME(panel)(const float *weight, int64_t units, int64_t step, int64_t columns, float *copy) {
    if (columns == 16) {
        for (int64_t k = 0; k < units; k++) memcpy(copy + 16 * k, weight + k * step, sizeof(float) * 16); /* a constant size: inline */
    } else {
        for (int64_t k = 0; k < units; k++) memcpy(copy + 16 * k, weight + k * step, sizeof(float) * columns);
    }
}

/* field[l * TILE_LANES + lane] = bias + states @ weight for the four outputs from `j` on; returns how many of them exist. For few
 * chains tables do not pay: 16 outputs are made at once, where j is a multiple of 16, with the same products and sums. */
static inline ALWAYS int NAME(fields)(const Side *side, int chains, const uint32_t *states, int64_t j, float *copy, float *field) {
    const int exist = side->outputs - j < 4 ? (int)(side->outputs - j) : 4, blocks = (chains + LANES - 1) / LANES;
#ifdef FEW
    if (chains <= FEW && (side->step == 1 || side->column_step == 1)) {
        if (j % 16 == 0) NAME(few_outputs)(side, chains, states, j, field);
        return exist;
    }
#endif
    const float *weight = side->weight + j * side->column_step;
    int64_t step = side->step, column_step = side->column_step;
    if (step != 1) {
        const int64_t columns = side->outputs - j < 16 ? side->outputs - j : 16;
        if (j % 16 == 0) NAME(panel)(weight, side->units, step, columns, copy);
        weight = copy + j % 16, step = 16, column_step = 1;
    }
    NAME(four_outputs)(blocks, states, TILE_LANES, side->units, weight, step, column_step, side->bias + j, exist, field);
    return exist;
}

/* log weight += log f_next(v) - log f_beta(v) of the hidden units' four fields; the fields are left at `next`. */
static inline ALWAYS void NAME(weigh)(const Anneal *anneal, int exist, int b, float *field) {
    vf grown = {0};
    for (int l = 0; l < exist; l++) {
        float *x = field + l * TILE_LANES + b * LANES;
        const vf z = NAME(load)(x), hot = z * anneal->next;
        grown += NAME(softplus_difference)(hot, z * anneal->beta);
        memcpy(x, &hot, sizeof hot);
    }
    for (int i = 0; i < LANES; i++) anneal->log_weight[b * LANES + i] += grown[i];
}

/* Visible fields between the base's logits and the model's: base + next (field - base). */
static inline ALWAYS void NAME(mix)(const Anneal *anneal, int exist, int64_t j, int b, float *field) {
    for (int l = 0; l < exist; l++) {
        float *x = field + l * TILE_LANES + b * LANES;
        const vf z = anneal->base[j + l] + anneal->next * (NAME(load)(x) - anneal->base[j + l]);
        memcpy(x, &z, sizeof z);
    }
}

/* One half step of a tile of chains: `to` ~ sigmoid(beta field(from)). `what` is a constant in every call. */
static inline ALWAYS void NAME(half_step)(const int what, const Side *side, const Anneal *anneal, const float *beta, int chains,
                                          const uint32_t *from, uint32_t *to, Draw draw, float *copy) {
    _Alignas(64) float fields[16 * TILE_LANES];
    const int blocks = (chains + LANES - 1) / LANES;
    for (int64_t j = 0; j < side->outputs; j += 4) {
        float *field = fields + j % 16 * TILE_LANES;
        const int exist = NAME(fields)(side, chains, from, j, copy, field);
        uint32_t *words = to + (j >> 5) * TILE_LANES;
        if (j % 32 == 0) memset(words, 0, sizeof(uint32_t) * blocks * LANES);
        for (int b = 0; b < blocks; b++) {
            vu random[4], word = NAME(load_words)(words + b * LANES);
            if (what == HIDDEN_ANNEALED) NAME(weigh)(anneal, exist, b, field);
            if (what == VISIBLE_ANNEALED) NAME(mix)(anneal, exist, j, b, field);
            NAME(philox_words)((uint32_t)(j >> 2), draw.chain + (uint32_t)(b * LANES), draw, random);
            for (int l = 0; l < exist; l++) {
                vf z = NAME(load)(field + l * TILE_LANES + b * LANES);
                if (beta) z *= NAME(load)(beta + b * LANES);
                word = NAME(draw)(word, random[l], z, (int)(j + l) & 31);
            }
            memcpy(words + b * LANES, &word, sizeof word);
        }
    }
}

/* Returns whether all of `x` are zeros and ones. */
static int NAME(pack)(const float *x, int64_t rows, int64_t units, uint32_t *words) {
    int binary = 1;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < units; k += 32)
            words[(k >> 5) * TILE_LANES + r] = NAME(pack_word)(x + r * units + k, units - k < 32 ? (int)(units - k) : 32, &binary);
    return binary;
}

static void NAME(unpack)(const uint32_t *words, int64_t rows, int64_t units, float *x) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < units; k += 32) {
            const uint32_t word = words[(k >> 5) * TILE_LANES + r];
            const int exist = units - k < 32 ? (int)(units - k) : 32;
            for (int i = 0; i < exist; i++) x[r * units + k + i] = (float)(word >> i & 1);
        }
}

static int NAME(rbm_gibbs)(const Rbm *rbm, const float *start, float *v, float *h, int64_t chains, const float *beta,
                           int64_t sweeps, uint64_t seed, uint64_t step, uint64_t chain_offset) {
    const Side up = upwards(rbm), down = downwards(rbm);
    uint32_t *memory = workspace(tile_bytes(rbm));
    if (!memory) return NO_MEMORY;
    int binary = 1;
    uint32_t *visible = memory, *hidden = visible + words_of(up.units) * TILE_LANES;
    float *copy = (float *)(hidden + words_of(down.units) * TILE_LANES);
    for (int64_t c = 0; c < chains; c += TILE_LANES) {
        const int64_t here = chains - c < TILE_LANES ? chains - c : TILE_LANES;
        _Alignas(64) float tempers[TILE_LANES];
        for (int64_t i = 0; beta && i < TILE_LANES; i++) tempers[i] = i < here ? beta[c + i] : 1;
        const float *own = beta ? tempers : 0;
        memset(visible, 0, sizeof(uint32_t) * words_of(up.units) * TILE_LANES);
        binary &= NAME(pack)(start + c * up.units, here, up.units, visible);
        for (int64_t t = 0; t < sweeps; t++) {
            NAME(half_step)(PLAIN, &up, 0, own, (int)here, visible, hidden, draws(seed, step + t, HIDDEN, chain_offset + c), copy);
            NAME(half_step)(PLAIN, &down, 0, own, (int)here, hidden, visible, draws(seed, step + t, VISIBLE, chain_offset + c), copy);
        }
        NAME(unpack)(visible, here, up.units, v + c * up.units);
        NAME(unpack)(hidden, here, down.units, h + c * down.units);
    }
    free(memory);
    return binary ? 0 : NOT_BINARY;
}

/* (a - base) . v of each chain of a tile, in double. */
static void NAME(base_difference)(const Rbm *rbm, const float *base, const uint32_t *visible, double *sum) {
    memset(sum, 0, sizeof(double) * TILE_LANES);
    for (int64_t k = 0; k < rbm->visible; k++) {
        const double difference = (double)(rbm->vbias[k] - base[k]);
        const uint32_t *words = visible + (k >> 5) * TILE_LANES;
        for (int i = 0; i < TILE_LANES; i++) sum[i] += (words[i] >> (k & 31) & 1) ? difference : 0.0;
    }
}

static int NAME(rbm_ais)(const Rbm *rbm, const float *start, const float *base, const double *betas, int64_t count, float *v,
                         double *log_weight, int64_t chains, uint64_t seed, uint64_t chain_offset) {
    const Side up = upwards(rbm), down = downwards(rbm);
    uint32_t *memory = workspace(tile_bytes(rbm));
    if (!memory) return NO_MEMORY;
    int binary = 1;
    uint32_t *visible = memory, *hidden = visible + words_of(up.units) * TILE_LANES;
    float *copy = (float *)(hidden + words_of(down.units) * TILE_LANES);
    for (int64_t c = 0; c < chains; c += TILE_LANES) {
        const int64_t here = chains - c < TILE_LANES ? chains - c : TILE_LANES;
        double weights[TILE_LANES] = {0}, difference[TILE_LANES];
        memset(visible, 0, sizeof(uint32_t) * words_of(up.units) * TILE_LANES);
        binary &= NAME(pack)(start + c * up.units, here, up.units, visible);
        for (int64_t t = 0; t + 1 < count; t++) {
            const Anneal anneal = {base, (float)betas[t], (float)betas[t + 1], weights};
            NAME(base_difference)(rbm, base, visible, difference);
            for (int i = 0; i < TILE_LANES; i++) weights[i] += (betas[t + 1] - betas[t]) * difference[i];
            NAME(half_step)(HIDDEN_ANNEALED, &up, &anneal, 0, (int)here, visible, hidden, draws(seed, t, HIDDEN, chain_offset + c), copy);
            NAME(half_step)(VISIBLE_ANNEALED, &down, &anneal, 0, (int)here, hidden, visible, draws(seed, t, VISIBLE, chain_offset + c), copy);
        }
        NAME(unpack)(visible, here, up.units, v + c * up.units);
        memcpy(log_weight + c, weights, sizeof(double) * here);
    }
    free(memory);
    return binary ? 0 : NOT_BINARY;
}

/* g[l][lane] = share sigmoid(field) of up to 16 hidden units for one tile of rows; bias_gradient[l] += their sum. */
static void NAME(weighted_hidden)(const Side *up, int64_t from, int64_t count, int lanes, const uint32_t *words, const float *share,
                                  float *copy, float *g, int64_t slots, double *bias_gradient) {
    _Alignas(64) float fields[16 * TILE_LANES];
    const int blocks = (lanes + LANES - 1) / LANES;
    for (int64_t j = 0; j < count; j += 4) {
        float *field = fields + j * TILE_LANES;
        const int exist = NAME(fields)(up, lanes, words, from + j, copy, field);
        for (int l = 0; l < exist; l++) {
            vf sum = {0};
            for (int b = 0; b < blocks; b++) {
                const vf z = NAME(load)(field + l * TILE_LANES + b * LANES);
                const vf weighted = NAME(load)(share + b * LANES) / (1.0f + NAME(exponential)(-z));
                memcpy(g + (j + l) * slots + b * LANES, &weighted, sizeof weighted);
                sum += weighted;
            }
            for (int i = 0; i < LANES; i++) bias_gradient[j + l] += sum[i];
        }
    }
}

/* Four columns of states^T g for the lanes from `bits` on; long sums are made in parts, so that rounding does not add up. */
static void NAME(outer_four)(int blocks, const uint32_t *bits, int64_t padded, int64_t used, int64_t slots, const float *g, int64_t exist,
                             float *sums) {
    _Alignas(64) float part[4 * TILE_LANES];
    NAME(four_outputs)(blocks, bits, padded, used < PART ? used : PART, g, 1, slots, 0, exist, sums);
    for (int64_t first = PART; first < used; first += PART) {
        const int64_t units = used - first < PART ? used - first : PART;
        NAME(four_outputs)(blocks, bits + first / 32 * padded, padded, units, g + first, 1, slots, 0, exist, part);
        for (int i = 0; i < exist * TILE_LANES; i++) sums[i] += part[i];
    }
}

/* gradient[:, columns] = states^T g by the same product, now with visible units as lanes and rows as units. */
static void NAME(outer)(const uint32_t *columns_of_bits, int64_t padded, int64_t used, int64_t slots, const float *g, int64_t exist,
                        int64_t visible, float *gradient, int64_t hidden) {
    _Alignas(64) float sums[16 * TILE_LANES];
    for (int64_t i = 0; i < visible; i += TILE_LANES) {
        const int64_t here = visible - i < TILE_LANES ? visible - i : TILE_LANES;
        const int blocks = (int)((here + LANES - 1) / LANES);
        for (int64_t j = 0; j < exist; j += 4)
            NAME(outer_four)(blocks, columns_of_bits + i, padded, used, slots, g + j * slots, exist - j < 4 ? exist - j : 4,
                             sums + j * TILE_LANES);
        NAME(store_transposed)(sums, here, exist, gradient + i * hidden, hidden);
    }
}

static int NAME(rbm_statistics)(const Rbm *rbm, const float *batch, int64_t rows, const float *particles, int64_t chains, int64_t from,
                                int64_t to, float *weight_gradient, float *vbias_gradient, float *hbias_gradient) {
    const Side up = upwards(rbm);
    const int64_t first = round_up(rows, 32), slots = round_up(first + chains, TILE_LANES), padded = round_up(up.units, TILE_LANES);
    const int64_t words = words_of(up.units), used = first + chains;
    uint32_t *memory = workspace(4 * (words * slots + slots / 32 * padded + slots + 16 * slots + 16 * up.units));
    if (!memory) return NO_MEMORY;
    uint32_t *by_row = memory, *by_unit = by_row + words * slots;
    float *share = (float *)(by_unit + slots / 32 * padded), *g = share + slots, *copy = g + 16 * slots;
    memset(memory, 0, 4 * (words * slots + slots / 32 * padded + slots));
    int binary = pack_slots(batch, rows, up.units, 0, by_row, words, by_unit, padded, NAME(pack_word));
    binary &= pack_slots(particles, chains, up.units, first, by_row, words, by_unit, padded, NAME(pack_word));
    for (int64_t r = 0; r < rows; r++) share[r] = -1.0f / (float)rows;
    for (int64_t r = 0; r < chains; r++) share[first + r] = 1.0f / (float)chains;
    for (int64_t j = from; j < to; j += 16) {
        const int64_t exist = to - j < 16 ? to - j : 16;
        double bias_gradient[16] = {0};
        for (int64_t tile = 0; tile < slots; tile += TILE_LANES) {
            const int lanes = (int)(used - tile < TILE_LANES ? used - tile : TILE_LANES);
            NAME(weighted_hidden)(&up, j, exist, lanes, by_row + tile * words, share + tile, copy, g + tile, slots, bias_gradient);
        }
        for (int64_t l = 0; l < exist; l++) hbias_gradient[j + l] = (float)bias_gradient[l];
        NAME(outer)(by_unit, padded, used, slots, g, exist, up.units, weight_gradient + j, rbm->hidden);
    }
    if (from == 0) moments(by_unit, padded, up.units, first / 32, slots / 32, rows, chains, vbias_gradient);
    free(memory);
    return binary ? 0 : NOT_BINARY;
}

static const Kernels NAME(kernels) = {NAME(rbm_gibbs), NAME(rbm_ais), NAME(rbm_statistics)};
