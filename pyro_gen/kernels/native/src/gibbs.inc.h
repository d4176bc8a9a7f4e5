/* Sweeps of block Gibbs sampling. */

#ifndef NAME /* once */
EXPORT int pyro_gen_rbm_gibbs(int set, const float *weight, int64_t row_step, int64_t column_step, const float *vbias, const float *hbias,
                              int64_t visible, int64_t hidden, const float *start, float *v, float *h, int64_t chains, const float *beta,
                              int64_t sweeps, uint64_t seed, uint64_t step, uint64_t chain_offset) {
    const Rbm rbm = {weight, row_step, column_step, vbias, hbias, visible, hidden};
    const Kernels *kernels = kernels_of(set);
    return kernels ? kernels->gibbs(&rbm, start, v, h, chains, beta, sweeps, seed, step, chain_offset) : UNKNOWN_SET;
}

#else /* for every instruction set */
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
#endif
