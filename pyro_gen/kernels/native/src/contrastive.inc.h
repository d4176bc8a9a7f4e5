/* The contrastive gradient: particles, and the product of states and hidden probabilities. */

#ifndef NAME /* once */
#define PART 2048 /* terms of a sum over rows that are added up in one go */

enum { WHOLE = 0, SAMPLE = 1, DIFFERENTIATE = 2 }; /* phases of a contrast */

struct Slots { /* slots of a contrast: `rows` of data, then, from slot `first` on, `chains` particles up to slot `used` */
    int64_t rows, chains, first, used;
    States by_row;
    uint32_t *by_unit; /* bit (slot & 31) of by_unit[(slot >> 5) * padded + unit] */
    int64_t padded;
    float *weighted; /* the data's, remembered by the particles' first half step where that starts from the data; or none */
};

/* A contrast's slots in `memory`, which has slots_floats; `shared`: the particles start from the data. */
static int64_t slots_floats(int64_t visible, int64_t hidden, int64_t rows, int64_t chains, int shared) {
    const int64_t first = round_up(rows, 32), used = first + chains;
    return words_of(visible) * stride_of(used) + words_of(used) * stride_of(visible) + (shared ? hidden * first : 0);
}

static Slots slots_in(float *memory, const Rbm *r, int64_t rows, int64_t chains, int shared) {
    const int64_t first = round_up(rows, 32), used = first + chains;
    Slots s = {rows, chains, first, used, {(uint32_t *)memory, stride_of(used)}, 0, stride_of(r->visible), 0};
    s.by_unit = s.by_row.words + words_of(r->visible) * s.by_row.stride;
    if (shared) s.weighted = (float *)(s.by_unit + words_of(used) * s.padded);
    return s;
}

/* by_unit of the slots from `slot` (a multiple of 32) to `end`: 32 x 32 bits are transposed in five stages of exchanges. */
static void turn(const Slots *s, int64_t visible, int64_t slot, int64_t end) {
    for (; slot < end; slot += 32)
        for (int64_t w = 0; w < words_of(visible); w++) {
            uint32_t x[32], *to = s->by_unit + slot / 32 * s->padded + 32 * w;
            memcpy(x, s->by_row.words + w * s->by_row.stride + slot, sizeof x);
            uint32_t mask = 0x0000FFFF;
            for (int apart = 16; apart; apart >>= 1, mask ^= mask << apart)
                for (int half = 0; half < 32; half += 2 * apart)
                    for (int i = half; i < half + apart; i++) {
                        const uint32_t t = (x[i] >> apart ^ x[i + apart]) & mask;
                        x[i] ^= t << apart, x[i + apart] ^= t;
                    }
            memcpy(to, x, sizeof x);
        }
}

/* Mean state of the particles less that of the data: the gradient of the visible biases. */
static void moments(const Slots *s, int64_t visible, float *out) {
    for (int64_t k = 0; k < visible; k++) {
        int64_t data = 0, model = 0;
        for (int64_t w = 0; w < s->first / 32; w++) data += __builtin_popcount(s->by_unit[w * s->padded + k]);
        for (int64_t w = s->first / 32; w < words_of(s->used); w++) model += __builtin_popcount(s->by_unit[w * s->padded + k]);
        out[k] = (float)((double)model / (double)s->chains - (double)data / (double)s->rows);
    }
}

/* Space that a contrast in phases needs, in floats. */
EXPORT int64_t pyro_gen_rbm_contrast_space(int64_t visible, int64_t hidden, int64_t rows, int64_t chains, int shared) {
    return slots_floats(visible, hidden, rows, chains, shared);
}

/* Particles, `sweeps` after `start`, and the gradient of the mean contrast between `batch` and them; in one go, without `space`, or in
 * two phases that share it, of which each may be split among threads: SAMPLE over the rows and chains from `from` to `to` (multiples of
 * 64), then DIFFERENTIATE over the hidden units (multiples of 16; the part with 0 does the visible biases too). Where `start` is the
 * batch itself the first half step's probabilities are the data's, and are not computed again. */
EXPORT int pyro_gen_rbm_contrast(int set, const float *weight, int64_t row_step, int64_t column_step, const float *vbias, const float *hbias,
                                 int64_t visible, int64_t hidden, const float *batch, int64_t rows, const float *start, int64_t chains,
                                 int64_t sweeps, uint64_t seed, uint64_t step, uint64_t chain_offset, float *particles,
                                 float *weight_gradient, float *vbias_gradient, float *hbias_gradient, float *space, int phase, int64_t from,
                                 int64_t to) {
    const Rbm rbm = {weight, row_step, column_step, vbias, hbias, visible, hidden};
    const Kernels *kernels = kernels_of(set);
    if (!kernels) return UNKNOWN_SET;
    const int shared = batch == start && rows == chains && sweeps > 0;
    float *memory = space ? space : workspace(slots_floats(visible, hidden, rows, chains, shared));
    if (!memory) return NO_MEMORY;
    const Slots slots = slots_in(memory, &rbm, rows, chains, shared);
    int status = 0;
    if (phase == WHOLE) from = 0, to = at_least(rows, chains);
    if (phase != DIFFERENTIATE) status = kernels->sample(&rbm, &slots, batch, start, particles, from, to, sweeps, seed, step, chain_offset);
    if (phase == WHOLE) to = hidden;
    if (phase != SAMPLE && !status) status = kernels->differentiate(&rbm, &slots, from, to, weight_gradient, vbias_gradient, hbias_gradient);
    if (!space) free(memory);
    return status;
}

#else /* for every instruction set */
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
#endif
