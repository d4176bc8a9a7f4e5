/* Half steps of a Bernoulli RBM, which its ops are made of, written once for every instruction set.
 *
 * kernels.inc.h includes this file once per instruction set, which has defined: LANES (a power of two), vf and vu (LANES floats,
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

#ifndef NAME /* once */
#define TILE_LANES 1024 /* chains that are worked on together: they share tables, and their states stay in the second cache */
#ifndef KEPT_BYTES
#define KEPT_BYTES (1 << 22) /* tables up to this size are kept from sweep to sweep: a share of the third cache */
#endif

enum { PLAIN = 0, HIDDEN_ANNEALED = 1, VISIBLE_ANNEALED = 2, REMEMBERED = 3 }; /* kinds of half step */
enum { MADE = 0, KEPT = 1, READ = 2 }; /* what a tile does about its tables */

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

typedef struct { /* states of some chains, 32 units a word: bit (k & 31) of words[(k >> 5) * stride + chain] */
    uint32_t *words;
    int64_t stride;
} States;

typedef struct { /* columns of a matrix, of which `exist`: weight[k * step + j * column_step]; a bias or none */
    const float *weight;
    int64_t step, column_step;
    const float *bias;
    int64_t exist;
} Columns;

typedef struct { /* a workspace: 16 columns of the weights, tables, up to 16 fields of `width` lanes each */
    float *copy, *tables, *field;
    int64_t width, next; /* next: from the tables of four outputs to those of the next four; 0 where these replace them */
    int ready;           /* the tables of all outputs are there */
} Room;

typedef struct { /* share sigmoid(field) of each hidden unit and lane, to be remembered */
    float *weighted;
    int64_t stride;
    float share;
} Memory;

static Side upwards(const Rbm *r) { return (Side){r->weight, r->row_step, r->column_step, r->hbias, r->visible, r->hidden}; }

static Side downwards(const Rbm *r) { return (Side){r->weight, r->column_step, r->row_step, r->vbias, r->hidden, r->visible}; }

/* Lanes from one word of 32 units to the next. Loads that start within a word read beyond the last lane, and a power of two would hit
 * one set of the cache only: hence 16 more. */
static int64_t stride_of(int64_t lanes) { return round_up(lanes, 32) + 16; }

/* Space of a room for sums over `units` terms on `lanes` lanes. */
static int64_t room_floats(int64_t units, int64_t lanes) { return 32 * round_up(units, 8) + 16 * round_up(lanes, 16); }

static Room room_in(float *memory, int64_t units, int64_t lanes) {
    float *tables = memory + 16 * round_up(units, 8);
    return (Room){memory, tables, tables + 16 * round_up(units, 8), round_up(lanes, 16), 0, 0};
}

/* Tables of all outputs of both half steps are worth their memory where several sweeps read them from a cache. */
static int64_t kept_floats(const Rbm *r, int64_t chains, int64_t sweeps) {
    const int64_t both = 4 * (round_up(r->visible, 8) * round_up(r->hidden, 4) + round_up(r->hidden, 8) * round_up(r->visible, 4));
    return sweeps > 1 && chains > 8 && 4 * both <= KEPT_BYTES ? both : 0;
}

static void keep_tables(const Rbm *r, float *memory, Room *rooms) {
    rooms[0].next = 16 * round_up(r->visible, 8), rooms[1].next = 16 * round_up(r->hidden, 8);
    rooms[0].tables = memory, rooms[1].tables = memory + round_up(r->hidden, 4) / 4 * rooms[0].next;
}

static States from_lane(States s, int64_t lane) { return (States){s.words + lane, s.stride}; }

/* No states in the lanes from `lane` to `end`. */
static void clear(States s, int64_t units, int64_t lane, int64_t end) {
    for (int64_t w = 0; w < words_of(units) && lane < end; w++) memset(s.words + w * s.stride + lane, 0, sizeof(uint32_t) * (end - lane));
}

#else /* for every instruction set */
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
#endif
