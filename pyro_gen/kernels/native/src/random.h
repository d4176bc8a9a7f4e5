/* Philox4x32-10 (Salmon et al. 2011): what a half step shares of it; the instruction sets have the rest (philox_words). */

enum { HIDDEN = 0, VISIBLE = 1 }; /* streams, as in pyro_gen/kernels/random.py */

typedef struct { /* Philox: the keys of its rounds and the words of the counter that a half step shares */
    uint32_t key[10][2], step, stream, chain;
} Draw;

typedef struct { /* what Philox's first rounds make of the words that all chains share */
    uint32_t c0, c2, next_c0, next_c2, last_c2;
} Quad;

static uint32_t high(uint32_t x, uint32_t y) { return (uint32_t)((uint64_t)x * y >> 32); }

static Draw draws(uint64_t seed, uint64_t step, uint32_t stream, uint64_t chain) {
    Draw d = {.step = (uint32_t)step, .stream = stream | (uint32_t)(step >> 32) << 8, .chain = (uint32_t)chain};
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9, k1 += 0xBB67AE85) d.key[round][0] = k0, d.key[round][1] = k1;
    return d;
}

/* Philox with the counter (quad, chain, step, stream): only the second word differs between chains, and it reaches the others one by
 * one. What the first three rounds do without it is done here, once for all chains; four of their six products are. */
static Quad quad_of(const Draw *d, uint32_t quad) {
    const uint32_t m0 = 0xD2511F53, m1 = 0xCD9E8D57;
    const uint32_t second = high(quad, m0) ^ d->stream ^ d->key[0][1], third = high(second, m1) ^ d->step * m1 ^ d->key[1][0];
    return (Quad){high(d->step, m1) ^ d->key[0][0], quad * m0 ^ d->key[1][1], second * m1 ^ d->key[2][0],
                  high(third, m0) ^ d->key[2][1], third * m0 ^ d->key[3][1]};
}
