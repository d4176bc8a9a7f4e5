"""Dimensionality reduction five ways: PCA, probabilistic PCA, an autoencoder, a
denoising one, and a VAE.

All five turn an image of binarized MNIST into a few numbers and back, and all
but PCA are trained or fitted as Pyro models. What differs is what they are good
for: PCA and autoencoders rebuild and give features, but have no distribution of
their codes, so nothing says which codes to decode. PPCA and the VAE are models
of images: they draw new ones and tell how probable an image is. Pictures:
draws, walks between two images, maps of two latent numbers, and sweeps of their
number with the reconstruction error, the held-out log likelihood and the
accuracy of a classifier on the latent means. PPCA's is a density of zeros and
ones, which has no bound where pixels hardly vary: it goes on rising, may not be
compared with the VAE's probability, and says little of the number of latent
variables; on real-valued data it does, and so does BIC.

    # half an hour on one core; validation images
    python examples/ppca.py
    # a few minutes
    python examples/ppca.py --rows 10000 --latents 2 20
    # only --latent numbers, evaluated on the test images
    python examples/ppca.py --split test
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import pyro
import torch
from matplotlib.figure import Figure
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from pyro_gen import datasets, plotting
from pyro_gen.models import PCA, PPCA, VAE, Autoencoder, DenoisingAutoencoder
from pyro_gen.training import fit

Model = PCA | PPCA | Autoencoder | VAE
Network = Autoencoder | VAE
NETWORKS: dict[str, Callable[[Tensor, int, int], Network]] = {
    "AE": lambda x, latent, hidden: Autoencoder.from_data(x, latent, hidden=(hidden,)),
    "DAE": lambda x, latent, hidden: DenoisingAutoencoder.from_data(x, latent, hidden=(hidden,)),
    "VAE": lambda x, latent, hidden: VAE.from_data(x, latent, hidden=(hidden,)),
}
NAMES = ("PCA", "PPCA", *NETWORKS)


@dataclass(frozen=True)
class Data:
    """Images and labels to learn from and to judge on."""

    x: Tensor
    y: Tensor
    rows: Tensor
    labels: Tensor
    shape: tuple[int, ...]


class Distance(NamedTuple):
    """Mean pixels from a draw to the nearest held-out image, and from such an image to
    the nearest draw.
    """

    draws: str
    to_an_image: float
    of_an_image: float


class Result(NamedTuple):
    """What one model does with so many latent numbers."""

    model: str
    latent: int
    squared_error: float
    accuracy: float
    log_likelihood: float
    standard_error: float
    bic: float


def default_data() -> str:
    """Binarized MNIST where it is there with its labels, which the public files lack."""
    name = datasets.available("binarized_mnist", instead="alphadigits")
    if name != "alphadigits" and datasets.load(name).train_labels is None:
        return "alphadigits"
    return name


def read(args: argparse.Namespace) -> Data:
    """Binarized MNIST as it is always split, or other images of known classes."""
    data = datasets.load_images(args.data)
    rows = getattr(data, args.split)
    labels = getattr(data, f"{args.split}_labels")
    x = data.train[: args.rows]
    y = data.train_labels[: args.rows]
    return Data(x, y, rows[: args.evaluated], labels[: args.evaluated], data.shape)


# ---- learning


def learn(name: str, data: Data, latent: int, args: argparse.Namespace) -> Model:
    """PCA and PPCA at once, the networks by SVI.

    Goes on where a checkpoint of the same settings stopped.
    """
    if name == "PCA":
        return PCA.from_data(data.x, latent)
    if name == "PPCA":
        ppca = PPCA(data.x.shape[1], latent, len(data.x))
        ppca.fit(data.x)
        return ppca
    pyro.clear_param_store()
    pyro.set_rng_seed(args.seed)
    network = NETWORKS[name](data.x, latent, args.hidden)
    settings = {"optimizer": torch.optim.Adam, "optim_args": {"lr": args.rate}}
    schedule = {"start_factor": 1.0, "end_factor": 0.0, "total_iters": args.epochs}
    optimizer = pyro.optim.LinearLR(settings | schedule)
    elbo = TraceMeanField_ELBO() if isinstance(network, VAE) else Trace_ELBO()
    svi = SVI(network.model, network.guide, optimizer, elbo)

    def step(x: Tensor) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=not args.smoke):
            return svi.step(x) / len(data.x)  # nats an image

    fit(
        step,
        datasets.minibatches(data.x, args.batch_size),
        args.epochs,
        state={"network": network},
        scheduler=optimizer,
        checkpoint=args.out / f"{name}-{latent}.pt",
        checkpoint_every=args.epochs,
        settings={
            "data": args.data,
            "rows": len(data.x),
            "hidden": args.hidden,
            "rate": args.rate,
            "seed": args.seed,
        },
        progress=False,
    )
    return network.eval()


@torch.no_grad()
def means(model: Model, z: Tensor) -> Tensor:
    """Images that latent numbers stand for, as the mean of their distribution."""
    distribution = model.decode(z)
    if isinstance(distribution, Tensor):
        return distribution
    return distribution.mean


# ---- judging


def accuracy(train: Tensor, y: Tensor, rows: Tensor, labels: Tensor) -> float:
    """Share of right labels by logistic regression on standardised features."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    classifier.fit(train.numpy(), y.numpy())
    return float(classifier.score(rows.numpy(), labels.numpy()))


def judge(name: str, model: Model, data: Data, latent: int, args: argparse.Namespace) -> Result:
    """Reconstruction error, accuracy on the latent means, log likelihood where there is one."""
    few = data.x[: args.labelled]
    y = data.y[: args.labelled]
    share = accuracy(model.latent_means(few), y, model.latent_means(data.rows), data.labels)
    error = (
        (means(model, model.latent_means(data.rows)) - data.rows).square().sum(-1).mean().item()
    )
    value = float("nan")
    spread = float("nan")
    bic = float("nan")
    if isinstance(model, PPCA):
        scores = model.log_likelihood(data.rows).detach()
        value = scores.mean().item()
        spread = scores.std().item() / len(scores) ** 0.5
        bic = model.bic(data.x)
    if isinstance(model, VAE):
        found = model.test_log_likelihood(data.rows[: args.scored], args.draws)
        value = found.value
        spread = found.row_error
    return Result(name, latent, error, share, value, spread, bic)


def generators(models: dict[str, Model], data: Data, count: int) -> dict[str, Tensor]:
    """Draws: from the model's distribution where it has one, else from codes that
    nobody trained it for.
    """
    latent = models["AE"].latent_means(data.x[:1]).shape[1]
    normal = torch.randn(count, latent)
    drawn = {"AE, codes from N(0, I)": means(models["AE"], normal)}
    for name in ("AE", "DAE"):
        codes = models[name].latent_means(data.x)
        distribution = torch.distributions.MultivariateNormal(
            codes.mean(0), codes.T.cov() + 1e-4 * torch.eye(latent)
        )
        drawn[f"{name}, normal fit of codes"] = means(models[name], distribution.sample((count,)))
    drawn["PPCA, prior"] = means(models["PPCA"], normal)
    drawn["VAE, prior"] = means(models["VAE"], normal)
    return drawn


def distances(drawn: dict[str, Tensor], data: Data) -> list[Distance]:
    """How far draws lie from held-out images, and these from draws.

    As many training images for comparison.
    """
    count = len(next(iter(drawn.values())))
    tables = {
        k: torch.cdist((x >= 0.5).float(), data.rows).square()  # of zeros and ones: pixels
        for k, x in (drawn | {"training images": data.x[:count]}).items()
    }
    return [
        Distance(k, t.min(1).values.mean().item(), t.min(0).values.mean().item())
        for k, t in tables.items()
    ]


# ---- pictures


def strips(rows: dict[str, Tensor], shape: tuple[int, ...], path: Path) -> None:
    """A named row of images each, in ink on white."""
    count = max(len(images) for images in rows.values())
    figure = Figure(figsize=(2.4 + 0.55 * count, 0.62 * len(rows)), layout="constrained")
    for axes, (name, images) in zip(
        figure.subplots(len(rows), squeeze=False)[:, 0], rows.items(), strict=True
    ):
        picture = torch.cat(list(images.clamp(0, 1).unflatten(-1, shape)), -1)
        axes.imshow(picture.numpy(), cmap="gray_r", vmin=0, vmax=1)
        axes.set_axis_off()
        axes.text(-0.01, 0.5, name, ha="right", va="center", fontsize=9, transform=axes.transAxes)
    plotting.save(figure, path)


def walks(models: dict[str, Model], data: Data, steps: int) -> dict[str, Tensor]:
    """Straight lines between the codes of two images of unlike classes, decoded.

    The first one is in pixels.
    """
    first = data.rows[0]
    last = data.rows[(data.labels != data.labels[0]).nonzero()[0, 0]]
    share = torch.linspace(0, 1, steps).unsqueeze(-1)
    rows = {"pixels": torch.lerp(first, last, share)}
    for name in ("PPCA", "AE", "DAE", "VAE"):
        codes = models[name].latent_means(torch.stack([first, last]))
        rows[name] = means(models[name], torch.lerp(codes[0], codes[1], share))
    return rows


def maps(models: dict[str, Model], data: Data, path: Path) -> None:
    """Two latent numbers: where the images lie, and what the plane between them decodes to."""
    names = ("PPCA", "AE", "DAE", "VAE")
    side = 12
    figure = Figure(figsize=(3.2 * len(names), 6.2), layout="constrained")
    for name, axes, below in zip(names, *figure.subplots(2, len(names)), strict=True):
        z = models[name].latent_means(data.rows)[:3000]
        colors = mpl.colormaps["tab10"](data.labels[:3000].numpy() % 10)
        axes.scatter(z[:, 0].numpy(), z[:, 1].numpy(), s=2, color=colors, linewidths=0)
        low = z.quantile(0.005, dim=0)
        high = z.quantile(0.995, dim=0)
        for label in data.labels.unique()[:10].tolist():
            place = z[data.labels[:3000] == label].quantile(0.5, dim=0).tolist()
            axes.text(*place, str(label), weight="bold", ha="center", va="center")
        axes.set(title=name, xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        places = [torch.linspace(float(a), float(b), side) for a, b in zip(low, high, strict=True)]
        grid = torch.cartesian_prod(places[1].flip(0), places[0]).flip(-1)
        tiles = (
            means(models[name], grid)
            .clamp(0, 1)
            .unflatten(-1, data.shape)
            .unflatten(0, (side, side))
        )
        picture = tiles.permute(0, 2, 1, 3).reshape(side * data.shape[0], side * data.shape[1])
        below.imshow(picture.numpy(), cmap="gray_r", vmin=0, vmax=1, aspect="auto")
        below.set_axis_off()
    plotting.save(figure, path)


def curves(
    results: list[Result], names: tuple[str, ...], key: str, label: str, path: Path
) -> None:
    """One figure of merit against the number of latent numbers, a line a model, the
    longest one first.
    """
    lines = {
        name: sorted((r for r in results if r.model == name), key=lambda r: r.latent)
        for name in names
    }
    for own in (
        first := max(lines.values(), key=len),
        *(own for own in lines.values() if own is not first),
    ):
        x = [r.latent for r in own]
        y = [getattr(r, key) for r in own]
        if key == "log_likelihood":
            error = [r.standard_error for r in own]
        else:
            error = None
        color = plotting.COLORS[NAMES.index(own[0].model)]
        if own is first:
            figure = plotting.sweep(x, y, error, xlabel="latent numbers", ylabel=label, log=True)
            axes = figure.axes[0]
            axes.lines[0].set(color=color, label=own[0].model)
        else:
            axes.errorbar(
                x, y, error, color=color, marker="o", markersize=5, capsize=3, label=own[0].model
            )
    axes.legend(frameon=False)
    plotting.save(figure, path)


def draw(
    models: dict[int, dict[str, Model]],
    results: list[Result],
    data: Data,
    args: argparse.Namespace,
) -> None:
    """All pictures."""
    chosen = models[args.latent]
    images = generators(chosen, data, 12) | {
        "images": data.rows[:: max(1, len(data.rows) // 12)][:12]
    }
    strips(images, data.shape, args.out / "draws.png")
    strips(walks(chosen, data, 12), data.shape, args.out / "walks.png")
    if 2 in models:
        maps(models[2], data, args.out / "latent_map.png")
    error = "squared error of an image"
    curves(
        results,
        ("PCA", "AE", "DAE", "VAE"),
        "squared_error",
        error,
        args.out / "reconstruction_error.png",
    )
    curves(
        results, NAMES, "accuracy", "accuracy of logistic regression", args.out / "accuracy.png"
    )
    curves(
        results,
        ("VAE",),
        "log_likelihood",
        "log probability of an image [nats]",
        args.out / "vae.png",
    )
    curves(
        results,
        ("PPCA",),
        "log_likelihood",
        "log density of an image [nats]",
        args.out / "ppca.png",
    )


# ---- the whole


def sweep(
    data: Data, args: argparse.Namespace
) -> tuple[dict[int, dict[str, Model]], list[Result]]:
    """Learn and judge all models with each number of latent numbers.

    PPCA alone with the larger ones.
    """
    models: dict[int, dict[str, Model]] = {}
    results = []
    for latent in args.latents + args.more:
        for name in NAMES if latent in args.latents else ("PPCA",):
            model = learn(name, data, latent, args)
            models.setdefault(latent, {})[name] = model
            results.append(judge(name, model, data, latent, args))
            print(shown(results[-1]), flush=True)
    return models, results


def shown(r: Result) -> str:
    """A line of the table."""
    kind = "log density" if r.model == "PPCA" else "log probability"
    if r.log_likelihood != r.log_likelihood:
        likelihood = ""
    else:
        likelihood = f", {kind} {r.log_likelihood:.2f}"
    spread = "" if not likelihood else f" +/- {r.standard_error:.2f} nats"
    return (
        f"{r.model:5}{r.latent:4} latent: squared error {r.squared_error:6.2f}, accuracy "
        f"{r.accuracy:.4f}"
        f"{likelihood}{spread}"
    )


def report(results: list[Result], found: list[Distance], data: Data) -> None:
    """What the sweep says of the number of latent numbers, and how far draws lie from images."""
    pixels = accuracy(data.x[:5000], data.y[:5000], data.rows, data.labels)
    print(f"accuracy of the same classifier on all pixels of 5000 images: {pixels:.4f}")
    own = [r for r in results if r.model == "PPCA"]
    by_score = max(own, key=lambda r: r.log_likelihood)
    by_bic = min(own, key=lambda r: r.bic)
    print(
        f"PPCA: held-out log density is highest with {by_score.latent} latent numbers, BIC with "
        f"{by_bic.latent}"
    )
    print(f"{'mean distance in pixels':28}{'to an image':>14}{'of an image':>14}")
    for row in found:
        print(f"{row.draws:28}{row.to_an_image:14.1f}{row.of_an_image:14.1f}")


def write(rows: Sequence[NamedTuple], path: Path) -> None:
    """A table as CSV."""
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([rows[0]._fields, *rows])


def main(args: argparse.Namespace) -> None:
    """Learn, judge, draw."""
    pyro.set_rng_seed(args.seed)
    pyro.enable_validation(False)  # the rows are checked once
    args.out.mkdir(parents=True, exist_ok=True)
    data = read(args)
    models, results = sweep(data, args)
    pyro.set_rng_seed(args.seed)
    found = distances(generators(models[args.latent], data, min(1000, len(data.rows))), data)
    write(results, args.out / f"ppca_{args.split}.csv")
    write(found, args.out / f"draws_{args.split}.csv")
    report(results, found, data)
    if args.split == "valid":
        draw(models, results, data, args)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        help="binarized_mnist (default), alphadigits, other labelled images, or an .npz file",
    )
    parser.add_argument(
        "--latents",
        type=int,
        nargs="+",
        default=[2, 5, 10, 20, 50],
        help="numbers of latent numbers",
    )
    parser.add_argument(
        "--more", type=int, nargs="*", default=[100, 200, 400, 600], help="of PPCA alone"
    )
    parser.add_argument("--latent", type=int, default=20, help="the one of the pictures")
    parser.add_argument(
        "--hidden", type=int, default=256, help="units of the one hidden layer on each side"
    )
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=200)
    parser.add_argument("--rate", type=float, default=0.002, help="of Adam; falls to 0 linearly")
    parser.add_argument("--rows", type=int, default=50_000, help="training images")
    parser.add_argument(
        "--labelled", type=int, default=10_000, help="training images of the classifier"
    )
    parser.add_argument("--evaluated", type=int, default=10_000, help="held-out images")
    parser.add_argument(
        "--scored", type=int, default=500, help="of these, for the log likelihood of the VAE"
    )
    parser.add_argument("--draws", type=int, default=500, help="a held-out image, for the same")
    parser.add_argument(
        "--split", choices=("valid", "test"), default="valid", help="held-out images"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=Path("out"), help="folder of everything written"
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="a few seconds on shipped letters, to see that it runs",
    )
    args = parser.parse_args(arguments)
    if args.smoke:  # what the command line gives stands
        parser.set_defaults(
            data="alphadigits",
            latents=[2, 3],
            more=[5],
            latent=3,
            epochs=2,
            hidden=16,
            draws=10,
            rows=100,
            labelled=100,
            evaluated=100,
        )
        args = parser.parse_args(arguments)
    args.data = args.data or default_data()
    if args.split == "test":
        args.latents = [args.latent]
        args.more = []
    if args.latent not in args.latents:
        parser.error(f"--latent must be among --latents, got {args.latent} and {args.latents}")
    return args


if __name__ == "__main__":
    main(parse())
