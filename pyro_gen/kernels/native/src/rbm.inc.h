/* The kernels of a Bernoulli RBM, written once for every instruction set.
 *
 * native.c includes this file once per instruction set, which has defined: LANES (a power of two), vf and vu (LANES floats,
 * LANES 32-bit words), TILE_BLOCKS and TILE_OUTPUTS (blocks x outputs of the register tile), Table, table_of, look_up,
 * plus, byte, philox_words, and NAME(x), which gives the functions names of their own.
 *
 * Layout: lanes are chains; LANES of them are a block. States are bit-packed (see States).
 *
 * Products: states are binary, so the sum over four units is one of 16 numbers. They are tabulated (once for four units,
 * one output and all chains) and each chain looks its own up by four bits of its state: one permutation and one addition
 * do 64 multiply-adds on 16 lanes, in exact float32 (the method of the four Russians: Arlazarov, Dinic, Kronrod and
 * Faradzhev 1970). The order of summation is the same on every instruction set and for every number of chains.
 *
 * Making a table costs as much as four look-ups. For four outputs the first tile of blocks makes them between its own look-ups
 * and leaves them in memory (units x 64 bytes: the second cache); all further tiles read them. So TILE_LANES chains go through
 * a half step side by side. Small models keep all their tables from sweep to sweep.
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

/* Tables for units that may not exist: their weights are zero. */
static inline ALWAYS Table NAME(table_for)(const float *w, int64_t step, int64_t count) {
    return NAME(table_of)(count > 0 ? w[0] : 0, count > 1 ? w[step] : 0, count > 2 ? w[2 * step] : 0, count > 3 ? w[3 * step] : 0);
}

/* Add eight units' share of `outputs` x `blocks` sums, with tables MADE from `column` for the `count` units that exist, also KEPT in
 * `tables`, or READ from there. */
static inline ALWAYS void NAME(add_eight)(const int how, const int outputs, const int blocks, const int64_t count,
                                          const float **column, int64_t step, const uint32_t *words, int byte, Table *tables, vf *sum) {
    vu bits[4];
#pragma GCC unroll 4
    for (int b = 0; b < blocks; b++) bits[b] = NAME(byte)(words + b * LANES, byte);
#pragma GCC unroll 2
    for (int four = 0; four < 2; four++) {
#pragma GCC unroll 4
        for (int j = 0; j < outputs; j++) {
            const Table t = how == READ ? tables[4 * four + j] : NAME(table_for)(column[j], step, count - 4 * four);
            if (how == KEPT) tables[4 * four + j] = t;
            column[j] += 4 * step;
#pragma GCC unroll 4
            for (int b = 0; b < blocks; b++) {
                const vf found = NAME(look_up)(t, bits[b]);
                sum[j * blocks + b] = how == READ ? NAME(plus)(sum[j * blocks + b], found, j * blocks + b) : sum[j * blocks + b] + found;
            }
        }
#pragma GCC unroll 4
        for (int b = 0; b < blocks; b++) bits[b] >>= 4;
    }
}

/* out[j * width + lane] = bias[j] + sum_k bit_k(lane) weight[k * step + j * column_step], for `outputs` columns from `first` on. */
static inline ALWAYS void NAME(tile)(const int how, const int outputs, const int blocks, States from, int64_t units, const Columns *c,
                                     int64_t first, Table *tables, float *out, int64_t width) {
    vf sum[16];
    const float *column[4];
#pragma GCC unroll 4
    for (int j = 0; j < outputs; j++) {
        const int64_t own = first + j < c->exist ? first + j : 0;
        column[j] = c->weight + own * c->column_step;
#pragma GCC unroll 4
        for (int b = 0; b < blocks; b++) sum[j * blocks + b] = c->bias ? NAME(splat)(c->bias[own]) : (vf){0};
    }
    tables += first, out += first * width;
    const int64_t eights = how == READ ? (units + 7) / 8 : units / 8;
    int64_t k = 0;
    for (; k < eights; k++)
        NAME(add_eight)(how, outputs, blocks, 8, column, c->step, from.words + (k >> 2) * from.stride, (int)(k & 3), tables + 8 * k, sum);
    if (how != READ && units % 8)
        NAME(add_eight)(how, outputs, blocks, units % 8, column, c->step, from.words + (k >> 2) * from.stride, (int)(k & 3), tables + 8 * k, sum);
#pragma GCC unroll 4
    for (int j = 0; j < outputs; j++) {
#pragma GCC unroll 4
        for (int b = 0; b < blocks; b++) memcpy(out + j * width + b * LANES, &sum[j * blocks + b], sizeof(vf));
    }
}

/* Four outputs for `blocks` blocks of lanes: as many wide tiles as there are, then narrow ones. The first makes the tables, where they are
 * not `ready`, and keeps them where another tile or, with `keep`, another call reads them. */
static void NAME(four_outputs)(int blocks, States from, int64_t units, const Columns *c, int ready, int keep, float *memory, float *out,
                               int64_t width) {
    Table *tables = (Table *)memory;
    int b = 0, how = ready ? READ : keep || blocks > TILE_BLOCKS ? KEPT : MADE;
#define TILE_HOW(how, outputs, blocks, j) NAME(tile)(how, outputs, blocks, from_lane(from, b * LANES), units, c, j, tables, out + b * LANES, width)
#define TILE(outputs, blocks, j) (how == READ ? TILE_HOW(READ, outputs, blocks, j) : how == KEPT ? TILE_HOW(KEPT, outputs, blocks, j) : TILE_HOW(MADE, outputs, blocks, j))
    for (; b + TILE_BLOCKS <= blocks; b += TILE_BLOCKS, how = READ)
        for (int64_t j = 0; j < c->exist; j += TILE_OUTPUTS) TILE(TILE_OUTPUTS, TILE_BLOCKS, j);
    if (how == MADE && blocks > 2) how = KEPT;
    for (; b + 2 <= blocks; b += 2, how = READ) TILE(4, 2, 0);
    if (b < blocks) TILE(4, 1, 0);
#undef TILE
#undef TILE_HOW
}

/* 2^y for `n` <= 4 vectors, with a minimax polynomial of relative error 1e-7; infinite from y = 127.5 on, at least 2^-126. No fused
 * operation, so that every instruction set rounds alike; and step by step for all vectors, since one alone is a chain of waits. */
static inline ALWAYS void NAME(powers_of_two)(const int n, vf *y) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    const float c[7] = {1.535336188319500e-4f, 1.339887440266574e-3f, 9.618437357674640e-3f, 5.550332471162809e-2f,
                        2.402264791363012e-1f, 6.931472028550421e-1f, 1.0f};
    vf shifted[4], p[4];
#define EACH _Pragma("GCC unroll 4") for (int l = 0; l < n; l++)
    EACH y[l] = NAME(larger)(NAME(splat)(-126.0f), NAME(smaller)(NAME(splat)(128.0f), y[l])); /* in this order NaN stays NaN */
    EACH shifted[l] = y[l] + magic;
    EACH y[l] -= shifted[l] - magic;
    EACH p[l] = c[0] * y[l] + c[1];
#pragma GCC unroll 5
    for (int i = 2; i < 7; i++) EACH p[l] = p[l] * y[l] + c[i];
    EACH y[l] = p[l] * (vf)(((vu)shifted[l] - (0x4B400000u - 127u)) << 23);
}

static inline ALWAYS vf NAME(exponential)(vf x) {
    vf y = x * 1.44269504088896341f;
    NAME(powers_of_two)(1, &y);
    return y;
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

/* Four random words to the bits bit[0..3] of `word`: on where u < sigmoid(z), that is u + u exp(-z) < 1, with u a 24-bit integer
 * over 2^24. Leaves exp(-z) in `e`. */
static inline ALWAYS vu NAME(draw)(vu word, const vu *random, const float *field, int64_t width, const float *beta, const uint32_t *bit, vf *e) {
    const int n = 4;
    vf u[4];
    EACH e[l] = NAME(load)(field + l * width);
    if (beta) EACH e[l] *= NAME(load)(beta);
    EACH e[l] *= -1.44269504088896341f;
    EACH u[l] = __builtin_convertvector((vi)(random[l] >> 8), vf);
    NAME(powers_of_two)(4, e);
    EACH u[l] = u[l] + u[l] * e[l];
    EACH word = NAME(set_where_less)(word, u[l], 0x1p24f, bit[l]);
    return word;
}
#undef EACH

/* Copy 16 columns of the weights to consecutive rows: a stride of 4096 bytes would hit one set of the cache only. */
static void NAME(panel)(const float *weight, int64_t units, int64_t step, int64_t columns, float *copy) {
    if (columns == 16) {
        for (int64_t k = 0; k < units; k++) memcpy(copy + 16 * k, weight + k * step, sizeof(float) * 16); /* a constant size: inline */
    } else {
        for (int64_t k = 0; k < units; k++) memcpy(copy + 16 * k, weight + k * step, sizeof(float) * columns);
    }
}

/* field[l * width + lane] = bias + states @ weight for the four outputs from `j` on, of which `exist`; returns where the fields are. For
 * few chains tables do not pay: 16 outputs are made at once, where j is a multiple of 16, with the same products and sums. */
static inline ALWAYS float *NAME(fields)(const Side *side, int chains, States from, int64_t j, int exist, const Room *room) {
    const int blocks = (chains + LANES - 1) / LANES;
#ifdef FEW
    if (chains <= FEW && (side->step == 1 || side->column_step == 1)) {
        if (j % 16 == 0) NAME(few_outputs)(side, chains, from, j, room->field, room->width);
        return room->field + j % 16 * room->width;
    }
#endif
    Columns c = {side->weight + j * side->column_step, side->step, side->column_step, side->bias + j, exist};
    if (side->step != 1 && !room->ready) {
        if (j % 16 == 0) NAME(panel)(c.weight, side->units, side->step, at_most(side->outputs - j, 16), room->copy);
        c.weight = room->copy + j % 16, c.step = 16, c.column_step = 1;
    }
    NAME(four_outputs)(blocks, from, side->units, &c, room->ready, room->next > 0, room->tables + j / 4 * room->next, room->field, room->width);
    return room->field;
}

/* log weight += log f_next(v) - log f_beta(v) of the hidden units' four fields; the fields are left at `next`. */
static inline ALWAYS void NAME(weigh)(const Anneal *anneal, int exist, int b, float *field, int64_t width) {
    vf grown = {0};
    for (int l = 0; l < exist; l++) {
        float *x = field + l * width + b * LANES;
        const vf z = NAME(load)(x), hot = z * anneal->next;
        grown += NAME(softplus_difference)(hot, z * anneal->beta);
        memcpy(x, &hot, sizeof hot);
    }
    for (int i = 0; i < LANES; i++) anneal->log_weight[b * LANES + i] += grown[i];
}

/* Visible fields between the base's logits and the model's: base + next (field - base). */
static inline ALWAYS void NAME(mix)(const Anneal *anneal, int exist, int64_t j, int b, float *field, int64_t width) {
    for (int l = 0; l < exist; l++) {
        float *x = field + l * width + b * LANES;
        const vf z = anneal->base[j + l] + anneal->next * (NAME(load)(x) - anneal->base[j + l]);
        memcpy(x, &z, sizeof z);
    }
}

/* Weighted probabilities of units j .. j + exist, from exp(-z), to where they are remembered. */
static inline ALWAYS void NAME(remember)(const Memory *memory, int exist, int64_t j, int b, const vf *e) {
    for (int l = 0; l < exist; l++) {
        const vf weighted = memory->share / (1.0f + e[l]);
        memcpy(memory->weighted + (j + l) * memory->stride + b * LANES, &weighted, sizeof weighted);
    }
}

/* One half step of a tile of chains: `to` ~ sigmoid(beta field(from)). `what` is a constant in every call. */
static inline ALWAYS void NAME(half_step)(const int what, const Side *side, const Anneal *anneal, const Memory *memory, const float *beta,
                                          int chains, States from, States to, const Draw *draw, const Room *room) {
    const int blocks = (chains + LANES - 1) / LANES;
    const int64_t width = room->width;
    for (int64_t j = 0; j < side->outputs; j += 4) {
        const int exist = (int)at_most(side->outputs - j, 4), k = (int)(j & 31);
        const uint32_t bit[4] = {1u << k, exist > 1 ? 2u << k : 0, exist > 2 ? 4u << k : 0, exist > 3 ? 8u << k : 0};
        float *field = NAME(fields)(side, chains, from, j, exist, room);
        const Quad quad = quad_of(draw, (uint32_t)(j >> 2));
        uint32_t *words = to.words + (j >> 5) * to.stride;
        for (int b = 0; b < blocks; b++) {
            vf e[4];
            vu random[4], word = k ? NAME(load_words)(words + b * LANES) : (vu){0};
            if (what == HIDDEN_ANNEALED) NAME(weigh)(anneal, exist, b, field, width);
            if (what == VISIBLE_ANNEALED) NAME(mix)(anneal, exist, j, b, field, width);
            NAME(philox_words)(&quad, draw->chain + (uint32_t)(b * LANES), draw, random);
            word = NAME(draw)(word, random, field + b * LANES, width, beta ? beta + b * LANES : 0, bit, e);
            memcpy(words + b * LANES, &word, sizeof word);
            if (what == REMEMBERED) NAME(remember)(memory, exist, j, b, e);
        }
    }
}

/* Two half steps of chains that start from `visible` and come back to it. */
static void NAME(sweep)(const Rbm *rbm, const float *beta, int chains, States visible, States hidden, uint64_t seed, uint64_t step,
                        uint64_t chain, const Room *rooms) {
    const Side up = upwards(rbm), down = downwards(rbm);
    const Draw first = draws(seed, step, HIDDEN, chain), second = draws(seed, step, VISIBLE, chain);
    NAME(half_step)(PLAIN, &up, 0, 0, beta, chains, visible, hidden, &first, rooms);
    NAME(half_step)(PLAIN, &down, 0, 0, beta, chains, hidden, visible, &second, rooms + 1);
}

/* The same from the data to particles, with the data's weighted hidden probabilities remembered. */
static void NAME(first_sweep)(const Rbm *rbm, const Memory *memory, int chains, States data, States hidden, States particles, uint64_t seed,
                              uint64_t step, uint64_t chain, const Room *rooms) {
    const Side up = upwards(rbm), down = downwards(rbm);
    const Draw first = draws(seed, step, HIDDEN, chain), second = draws(seed, step, VISIBLE, chain);
    NAME(half_step)(REMEMBERED, &up, 0, memory, 0, chains, data, hidden, &first, rooms);
    NAME(half_step)(PLAIN, &down, 0, 0, 0, chains, hidden, particles, &second, rooms + 1);
}

/* Returns whether all of `x` are zeros and ones. */
static int NAME(pack)(const float *x, int64_t rows, int64_t units, States to) {
    int binary = 1;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < units; k += 32)
            to.words[(k >> 5) * to.stride + r] = NAME(pack_word)(x + r * units + k, (int)at_most(units - k, 32), &binary);
    return binary;
}

static void NAME(unpack)(States from, int64_t rows, int64_t units, float *x) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < units; k += 32)
            NAME(unpack_word)(from.words[(k >> 5) * from.stride + r], (int)at_most(units - k, 32), x + r * units + k);
}

static int NAME(rbm_gibbs)(const Rbm *rbm, const float *start, float *v, float *h, int64_t chains, const float *beta,
                           int64_t sweeps, uint64_t seed, uint64_t step, uint64_t chain_offset) {
    const int64_t lanes = at_most(chains, TILE_LANES), stride = stride_of(lanes), units = at_least(rbm->visible, rbm->hidden);
    const int64_t visible_words = words_of(rbm->visible) * stride, hidden_words = words_of(rbm->hidden) * stride;
    const int64_t tables = kept_floats(rbm, chains, sweeps), space = visible_words + hidden_words + room_floats(units, lanes);
    uint32_t *memory = workspace(space + tables);
    if (!memory) return NO_MEMORY;
    int binary = 1;
    const States visible = {memory, stride}, hidden = {memory + visible_words, stride};
    Room rooms[2];
    rooms[0] = rooms[1] = room_in((float *)memory + visible_words + hidden_words, units, lanes);
    if (tables) keep_tables(rbm, (float *)memory + space, rooms);
    for (int64_t c = 0; c < chains; c += TILE_LANES) {
        const int64_t here = at_most(chains - c, TILE_LANES);
        _Alignas(64) float tempers[TILE_LANES];
        for (int64_t i = 0; beta && i < rooms->width; i++) tempers[i] = i < here ? beta[c + i] : 1;
        clear(visible, rbm->visible, here, stride);
        binary &= NAME(pack)(start + c * rbm->visible, here, rbm->visible, visible);
        for (int64_t t = 0; t < sweeps; t++) {
            NAME(sweep)(rbm, beta ? tempers : 0, (int)here, visible, hidden, seed, step + t, chain_offset + c, rooms);
            rooms[0].ready = rooms[1].ready = tables > 0;
        }
        NAME(unpack)(visible, here, rbm->visible, v + c * rbm->visible);
        NAME(unpack)(hidden, here, rbm->hidden, h + c * rbm->hidden);
    }
    free(memory);
    return binary ? 0 : NOT_BINARY;
}

/* weights += (next - beta) (a - base) . v of each chain, in double. */
static void NAME(weigh_base)(const Rbm *rbm, const float *base, double step, States visible, int64_t chains, double *weights) {
    double sum[TILE_LANES] = {0};
    for (int64_t k = 0; k < rbm->visible; k++) {
        const double difference = (double)(rbm->vbias[k] - base[k]);
        const uint32_t *words = visible.words + (k >> 5) * visible.stride;
        for (int i = 0; i < chains; i++) sum[i] += (words[i] >> (k & 31) & 1) ? difference : 0.0;
    }
    for (int i = 0; i < chains; i++) weights[i] += step * sum[i];
}

static int NAME(rbm_ais)(const Rbm *rbm, const float *start, const float *base, const double *betas, int64_t count, float *v,
                         double *log_weight, int64_t chains, uint64_t seed, uint64_t chain_offset) {
    const Side up = upwards(rbm), down = downwards(rbm);
    const int64_t lanes = at_most(chains, TILE_LANES), stride = stride_of(lanes), units = at_least(rbm->visible, rbm->hidden);
    const int64_t visible_words = words_of(rbm->visible) * stride, hidden_words = words_of(rbm->hidden) * stride;
    const int64_t tables = kept_floats(rbm, chains, count - 1), space = visible_words + hidden_words + room_floats(units, lanes);
    uint32_t *memory = workspace(space + tables);
    if (!memory) return NO_MEMORY;
    int binary = 1;
    const States visible = {memory, stride}, hidden = {memory + visible_words, stride};
    Room rooms[2];
    rooms[0] = rooms[1] = room_in((float *)memory + visible_words + hidden_words, units, lanes);
    if (tables) keep_tables(rbm, (float *)memory + space, rooms);
    for (int64_t c = 0; c < chains; c += TILE_LANES) {
        const int64_t here = at_most(chains - c, TILE_LANES);
        double weights[TILE_LANES] = {0};
        clear(visible, rbm->visible, here, stride);
        binary &= NAME(pack)(start + c * rbm->visible, here, rbm->visible, visible);
        for (int64_t t = 0; t + 1 < count; t++) {
            const Anneal anneal = {base, (float)betas[t], (float)betas[t + 1], weights};
            const Draw first = draws(seed, t, HIDDEN, chain_offset + c), second = draws(seed, t, VISIBLE, chain_offset + c);
            NAME(weigh_base)(rbm, base, betas[t + 1] - betas[t], visible, here, weights);
            NAME(half_step)(HIDDEN_ANNEALED, &up, &anneal, 0, 0, (int)here, visible, hidden, &first, rooms);
            NAME(half_step)(VISIBLE_ANNEALED, &down, &anneal, 0, 0, (int)here, hidden, visible, &second, rooms + 1);
            rooms[0].ready = rooms[1].ready = tables > 0;
        }
        NAME(unpack)(visible, here, rbm->visible, v + c * rbm->visible);
        memcpy(log_weight + c, weights, sizeof(double) * here);
    }
    free(memory);
    return binary ? 0 : NOT_BINARY;
}

/* Data and particles of a contrast, rows and chains from `from` to `to`: packed by row and by unit. */
static int NAME(sample)(const Rbm *rbm, const Slots *s, const float *batch, const float *start, float *particles, int64_t from, int64_t to,
                        int64_t sweeps, uint64_t seed, uint64_t step, uint64_t chain_offset) {
    const int64_t visible = rbm->visible, lanes = at_most(to - from, TILE_LANES), units = at_least(visible, rbm->hidden);
    const int64_t hidden_words = words_of(rbm->hidden) * stride_of(lanes), end = at_most(to, s->rows);
    uint32_t *memory = workspace(hidden_words + room_floats(units, lanes));
    if (!memory) return NO_MEMORY;
    const States hidden = {memory, stride_of(lanes)};
    const Room room = room_in((float *)memory + hidden_words, units, lanes), rooms[2] = {room, room};
    int binary = 1;
    if (from < end) {
        binary &= NAME(pack)(batch + from * visible, end - from, visible, from_lane(s->by_row, from));
        if (end == s->rows) clear(s->by_row, visible, s->rows, s->first);
        turn(s, visible, from, end);
    }
    for (int64_t c = from; c < at_most(to, s->chains); c += TILE_LANES) {
        const int64_t here = at_most(at_most(to, s->chains) - c, TILE_LANES);
        const States own = from_lane(s->by_row, s->first + c);
        if (!s->weighted) binary &= NAME(pack)(start + c * visible, here, visible, own);
        for (int64_t t = 0; t < sweeps; t++) {
            if (t == 0 && s->weighted) {
                const Memory data = {s->weighted + c, s->first, -1.0f / (float)s->rows};
                NAME(first_sweep)(rbm, &data, (int)here, from_lane(s->by_row, c), hidden, own, seed, step, chain_offset + c, rooms);
            } else {
                NAME(sweep)(rbm, 0, (int)here, own, hidden, seed, step + t, chain_offset + c, rooms);
            }
        }
        NAME(unpack)(own, here, visible, particles + c * visible);
        if (c + here == s->chains) clear(s->by_row, visible, s->used, s->by_row.stride);
        turn(s, visible, s->first + c, s->first + c + here);
    }
    free(memory);
    return binary ? 0 : NOT_BINARY;
}

/* g[l * slots + lane] = share sigmoid(field) of up to 16 hidden units for `lanes` lanes; zero in what is left of the last block. */
static void NAME(weighted_hidden)(const Side *up, int64_t from, int64_t count, int lanes, States states, float share, const Room *room,
                                  float *g, int64_t slots) {
    const int blocks = (lanes + LANES - 1) / LANES;
    for (int64_t j = 0; j < count; j += 4) {
        const int exist = (int)at_most(count - j, 4);
        const float *field = NAME(fields)(up, lanes, states, from + j, exist, room);
        for (int l = 0; l < exist; l++) {
            float *own = g + (j + l) * slots;
            for (int b = 0; b < blocks; b++) {
                const vf weighted = share / (1.0f + NAME(exponential)(-NAME(load)(field + l * room->width + b * LANES)));
                memcpy(own + b * LANES, &weighted, sizeof weighted);
            }
            for (int i = lanes; i < blocks * LANES; i++) own[i] = 0;
        }
    }
}

/* Sum of `count` numbers. */
static float NAME(total)(const float *x, int64_t count) {
    double total = 0;
    for (int64_t first = 0; first < count; first += PART) {
        const int64_t end = at_most(count, first + PART);
        vf sum = {0};
        int64_t i = first;
        for (; i + LANES <= end; i += LANES) sum += NAME(load)(x + i);
        for (int l = 0; l < LANES; l++) total += sum[l];
        for (; i < end; i++) total += x[i];
    }
    return (float)total;
}

/* Four columns of states^T g for `blocks` blocks of units; long sums are made in parts, so that rounding does not add up. */
static void NAME(outer_four)(int blocks, States bits, int64_t used, Columns c, const Room *room, float *sums) {
    NAME(four_outputs)(blocks, bits, at_most(used, PART), &c, 0, 0, room->tables, sums, room->width);
    for (int64_t first = PART; first < used; first += PART) {
        float *part = room->field + 16 * room->width;
        bits.words += PART / 32 * bits.stride, c.weight += PART;
        NAME(four_outputs)(blocks, bits, at_most(used - first, PART), &c, 0, 0, room->tables, part, room->width);
        for (int i = 0; i < c.exist * room->width; i++) sums[i] += part[i];
    }
}

/* gradient[:, columns] = states^T g by the same product, now with visible units as lanes and slots as units. */
static void NAME(outer)(const Slots *s, const float *g, int64_t slots, int64_t exist, int64_t visible, const Room *room, float *gradient,
                        int64_t hidden) {
    for (int64_t i = 0; i < visible; i += TILE_LANES) {
        const int64_t here = at_most(visible - i, TILE_LANES);
        const int blocks = (int)((here + LANES - 1) / LANES);
        for (int64_t j = 0; j < exist; j += 4) {
            const Columns four = {g + j * slots, 1, slots, 0, at_most(exist - j, 4)};
            NAME(outer_four)(blocks, (States){s->by_unit + i, s->padded}, s->used, four, room, room->field + j * room->width);
        }
        NAME(store_transposed)(room->field, room->width, here, exist, gradient + i * hidden, hidden);
    }
}

/* Gradient of the mean contrast for the hidden units from `from` (a multiple of 16) to `to`, with 0 the visible biases' too. */
static int NAME(differentiate)(const Rbm *rbm, const Slots *s, int64_t from, int64_t to, float *weight_gradient, float *vbias_gradient,
                               float *hbias_gradient) {
    const Side up = upwards(rbm);
    const int64_t slots = round_up(s->used, 16), units = at_least(up.units, at_most(slots, PART));
    const int64_t lanes = at_most(at_least(up.units, at_least(s->first, s->chains)), TILE_LANES), width = round_up(lanes, 16);
    float *memory = workspace(16 * slots + room_floats(units, lanes) + 4 * width);
    if (!memory) return NO_MEMORY;
    float *g = memory;
    const Room room = room_in(memory + 16 * slots, units, lanes);
    memset(g, 0, sizeof(float) * 16 * slots);
    for (int64_t j = from; j < to; j += 16) {
        const int64_t exist = at_most(to - j, 16);
        for (int64_t l = 0; s->weighted && l < exist; l++) memcpy(g + l * slots, s->weighted + (j + l) * s->first, sizeof(float) * s->rows);
        for (int64_t r = 0; !s->weighted && r < s->rows; r += TILE_LANES)
            NAME(weighted_hidden)(&up, j, exist, (int)at_most(s->rows - r, TILE_LANES), from_lane(s->by_row, r), -1.0f / (float)s->rows, &room, g + r, slots);
        for (int64_t c = 0; c < s->chains; c += TILE_LANES)
            NAME(weighted_hidden)(&up, j, exist, (int)at_most(s->chains - c, TILE_LANES), from_lane(s->by_row, s->first + c), 1.0f / (float)s->chains, &room, g + s->first + c, slots);
        for (int64_t l = 0; l < exist; l++)
            hbias_gradient[j + l] = NAME(total)(g + l * slots, s->rows) + NAME(total)(g + l * slots + s->first, s->chains);
        NAME(outer)(s, g, slots, exist, up.units, &room, weight_gradient + j, rbm->hidden);
    }
    if (from == 0) moments(s, up.units, vbias_gradient);
    free(memory);
    return 0;
}
