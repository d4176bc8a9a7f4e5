/* Annealed importance sampling. */

#ifndef NAME /* once */
EXPORT int pyro_gen_rbm_ais(int set, const float *weight, int64_t row_step, int64_t column_step, const float *vbias, const float *hbias,
                            int64_t visible, int64_t hidden, const float *start, const float *base, const double *betas, int64_t count,
                            float *v, double *log_weight, int64_t chains, uint64_t seed, uint64_t chain_offset) {
    const Rbm rbm = {weight, row_step, column_step, vbias, hbias, visible, hidden};
    const Kernels *kernels = kernels_of(set);
    return kernels ? kernels->ais(&rbm, start, base, betas, count, v, log_weight, chains, seed, chain_offset) : UNKNOWN_SET;
}

#else /* for every instruction set */
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
#endif
