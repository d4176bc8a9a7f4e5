"""The posterior of an RBM's weights, by NUTS and by SVI, in ArviZ.

A small RBM with normal priors learns from a hundred pictures of bars and
stripes. NUTS draws from the posterior with the exact log Z; AutoNormal
approximates it; a single point (MAP) is fitted with persistent chains, as large
RBMs would be. Which of them predicts best? Hidden units can be exchanged, so
the diagnostics are read off a function of the weights that does not change by
it: the log likelihood of the rows. Draws go to a NetCDF file, the comparison to
the screen.

    python examples/rbm_weight_posterior.py --rows 100
"""

from __future__ import annotations

import argparse
from pathlib import Path

import arviz as az
import pyro
import torch
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from torch import Tensor

from pyro_gen import datasets, plotting
from pyro_gen.arviz import from_chains, to_netcdf
from pyro_gen.infer import PersistentChains
from pyro_gen.models import BayesianRBM
from pyro_gen.training import fit

Draws = dict[str, Tensor]


def by_nuts(rbm: BayesianRBM, x: Tensor, args: argparse.Namespace) -> Draws:
    """Draws of several chains one after the other, each of shape (chain, draw, ...)."""
    chains = []
    for _ in range(args.chains):
        mcmc = MCMC(
            NUTS(rbm.model, max_tree_depth=8), args.draws, args.warmup, disable_progbar=True
        )
        mcmc.run(x)
        chains.append(mcmc.get_samples())
    return {name: torch.stack([chain[name] for chain in chains]) for name in chains[0]}


def by_svi(rbm: BayesianRBM, x: Tensor, args: argparse.Namespace) -> Draws:
    """Draws from the guide after training, (draw, ...)."""
    pyro.clear_param_store()
    settings = {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.03}}
    optimizer = pyro.optim.LinearLR(
        settings | {"start_factor": 1.0, "end_factor": 0.01, "total_iters": args.epochs}
    )
    svi = SVI(rbm.model, rbm.guide, optimizer, Trace_ELBO())
    fit(svi.step, [x] * 20, args.epochs, scheduler=optimizer, progress=not args.smoke)
    return rbm.draws(1 if rbm.guide_name == "map" else args.draws * args.chains, x)


def main(args: argparse.Namespace) -> None:
    """Three posteriors, compared and kept."""
    pyro.set_rng_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    patterns = datasets.bars_and_stripes(args.size, args.size)
    x = patterns[torch.randint(len(patterns), (args.rows,))]
    sizes = patterns.shape[1], args.hidden, len(x), args.scale, args.scale
    nuts = by_nuts(BayesianRBM(*sizes), x, args)
    phase = PersistentChains(num_chains=500, num_steps=5)
    posteriors: dict[str, Draws] = {
        "NUTS": {name: draws.flatten(0, 1) for name, draws in nuts.items()},
        "AutoNormal": by_svi(BayesianRBM(*sizes), x, args),
        "MAP, persistent chains": by_svi(
            BayesianRBM(*sizes, negative_phase=phase, guide="map"), x, args
        ),
    }
    rbm = BayesianRBM(*sizes)
    best = -torch.tensor(float(len(patterns))).log()
    print(
        f"mean log predictive of all {len(patterns)} patterns, seen or not (at most {best:.3f} "
        "nats):"
    )
    for name, draws in posteriors.items():
        print(f"  {name:24}{rbm.log_predictive(patterns, draws).mean():8.3f} nats")
    with torch.no_grad():
        likelihood = rbm.at(posteriors["NUTS"]).log_prob(x.unsqueeze(1)).mean(0)
    draws = nuts | {"log_likelihood": likelihood.view(args.chains, args.draws)}
    dims = {"weight": ["pixel", "unit"], "vbias": ["pixel"], "hbias": ["unit"]}
    data = from_chains(draws, dims=dims)
    to_netcdf(data, args.out / "posterior.nc")
    size, rhat = (
        f(data, var_names=["log_likelihood"])["log_likelihood"].item() for f in (az.ess, az.rhat)
    )
    print(
        f"NUTS, log likelihood of the rows: ESS {size:.0f} of {likelihood.numel()} draws, R-hat "
        f"{rhat:.3f}"
    )
    shown = posteriors["NUTS"]["weight"][:: max(1, args.draws * args.chains // 12)][:12]
    shape = (args.size, args.size)
    plotting.save(
        plotting.filters(shown.transpose(0, 1).flatten(1), shape, title="units of 12 draws"),
        args.out / "weights.png",
    )


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=3, help="rows and columns of a pattern")
    parser.add_argument("--hidden", type=int, default=4)
    parser.add_argument(
        "--rows", type=int, default=100, help="training rows, drawn with replacement"
    )
    parser.add_argument(
        "--scale", type=float, default=2.0, help="standard deviation of the normal priors"
    )
    parser.add_argument("--draws", type=int, default=200, help="of each chain")
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=100, help="times 20 steps of SVI")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=Path("out"), help="folder of everything written"
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    args = parser.parse_args()
    if args.smoke:  # what the command line gives stands
        parser.set_defaults(size=2, hidden=1, draws=8, warmup=8, chains=2, epochs=2)
        args = parser.parse_args()
    return args


if __name__ == "__main__":
    main(parse())
