/* All kernels for the instruction set that includes this file, and the end of its names. */
#include "half_step.inc.h"
#include "gibbs.inc.h"
#include "ais.inc.h"
#include "contrastive.inc.h"
#include "nade.inc.h"

static const Kernels NAME(kernels) = {
    NAME(rbm_gibbs), NAME(rbm_ais), NAME(sample), NAME(differentiate), NAME(nade), NAME(nade_backward), NAME(nade_sample),
};

#undef LANES
#undef TILE_BLOCKS
#undef TILE_OUTPUTS
#undef FEW
#undef NAME
#undef vf
#undef vu
#undef vi
#undef Table
