"""A character model: a distribution of lines of text of any length, by a recurrent
network with clipped gradients.

The text is Python's own help (``pydoc_data.topics``), which is there without a
network, a line a string. The network ends each line by itself, so its
probabilities sum to one over all lines, those too long to be listed (the tail)
included. Beside it stand two distributions that count: of single characters,
and of pairs.

    python examples/character_model.py --cell lstm
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from pydoc_data.topics import topics

import pyro
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor

from pyro_gen import nn, plotting
from pyro_gen.training import fit


def read(args: argparse.Namespace) -> tuple[str, list[str]]:
    """The alphabet, and the distinct lines of the text in an order of no meaning."""
    if args.data == "topics":
        texts = list(topics.values())
    else:
        texts = [Path(args.data).read_text(encoding="utf-8")]
    lines = {line.strip() for text in texts for line in text.splitlines()}
    kept = sorted(line for line in lines if line and line.isascii() and line.isprintable())
    shuffled = torch.randperm(len(kept), generator=torch.Generator().manual_seed(0)).tolist()
    return "".join(sorted(set("".join(kept)))), [kept[i] for i in shuffled[: args.lines]]


def scored_by_counts(train: Tensor, test: Tensor, end: int) -> dict[str, float]:
    """Mean log likelihood a line, in nats, of counts in the training lines: of
    characters, and of pairs of them.
    """

    def pairs(x: Tensor) -> tuple[Tensor, Tensor]:
        before = torch.cat([torch.full_like(x[:, :1], end), x[:, :-1]], 1)
        inside = (before != end) | (torch.arange(x.shape[1]) == 0)  # up to the first end
        return before[inside], x[inside]

    before, after = pairs(train)
    counts = (
        torch.bincount(before * (end + 1) + after, minlength=(end + 1) ** 2)
        .view(end + 1, end + 1)
        .double()
    )
    single = (counts.sum(0) + 1).log() - (counts.sum() + end + 1).log()
    # five observations of the distribution of single characters stand behind each row
    smoothed = counts + 5 * single.exp()
    double = smoothed.log() - smoothed.sum(1, keepdim=True).log()
    before, after = pairs(test)
    return {
        "single characters": single[after].sum().item() / len(test),
        "pairs": double[before, after].sum().item() / len(test),
    }


def train(
    model: nn.SequenceAR, x: Tensor, valid: Tensor, args: argparse.Namespace
) -> list[dict[str, float]]:
    """Maximum likelihood with Pyro's loss.

    Gradients are clipped to a length, and how often that is needed counted.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=args.rate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)
    norms: list[float] = []

    def program(batch: Tensor) -> None:
        pyro.module("model", model)
        with pyro.plate("lines", len(batch)):
            pyro.sample("line", model(), obs=batch)

    def step(batch: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = Trace_ELBO().differentiable_loss(program, lambda batch: None, batch) / len(
            batch
        )
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip).item())
        optimizer.step()
        return loss

    def evaluate() -> dict[str, float]:
        clipped = sum(norm > args.clip for norm in norms) / len(norms)
        largest = max(norms)
        norms.clear()
        return {
            "valid": score(model, valid).mean().item(),
            "clipped": clipped,
            "largest gradient": largest,
        }

    def batches(epoch: int) -> list[Tensor]:
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(args.seed + epoch))
        return [x[rows] for rows in order.split(args.batch)]

    return fit(
        step,
        batches,
        args.epochs,
        state={"model": model, "optimizer": optimizer},
        evaluate=evaluate,
        monitor="valid",
        scheduler=scheduler,
        metrics=args.out / "character_model.csv",
        progress=not args.smoke,
    )


@torch.no_grad()
def score(model: nn.SequenceAR, x: Tensor) -> Tensor:
    """Log likelihood of each line, in nats."""
    return torch.cat([model().log_prob(rows) for rows in x.split(500)])


def main(args: argparse.Namespace) -> None:
    """Train, score the test lines beside the distributions that count, and write some lines."""
    args.out.mkdir(parents=True, exist_ok=True)
    pyro.set_rng_seed(args.seed)
    alphabet, lines = read(args)
    model = nn.SequenceAR(args.length, len(alphabet), args.hidden, args.layers, cell=args.cell)
    x = model.padded([[alphabet.index(c) for c in line] for line in lines])
    test, valid, rest = x.split([len(x) // 10, len(x) // 10, len(x) - 2 * (len(x) // 10)])
    model.start_at(rest)
    print(f"{len(lines)} lines, {len(alphabet)} characters, {model.num_parameters} parameters")
    history = train(model, rest, valid, args)
    plotting.save(
        plotting.learning_curve(history, ["valid"], ylabel="log likelihood [nats a line]"),
        args.out / "character_model.png",
    )
    print(
        f"gradients clipped: {history[0]['clipped']:.0%} in the first epoch, "
        f"{history[-1]['clipped']:.0%} in the last"
    )
    scores = score(model, test)
    error = scores.std() / math.sqrt(len(scores))
    # with the end
    symbols = ((test != model.end).sum(1) + 1).clamp(max=args.length).double().mean().item()
    rows = scored_by_counts(rest, test, model.end) | {
        f"{args.cell.upper()} {args.hidden}": scores.mean().item()
    }
    print(f"{'test lines':20}{'nats a line':>12}{'bits a character':>18}")
    for name, nats in rows.items():
        print(f"{name:20}{nats:>12.2f}{-nats / symbols / math.log(2):>18.3f}")
    print(f"standard error of the last line: {error:.2f} nats, N={len(test)}")
    written = [
        "".join(alphabet[i] for i in row if i != model.end)
        for row in model().sample((10,)).tolist()
    ]
    (args.out / "character_model.txt").write_text("\n".join(written) + "\n", encoding="utf-8")
    print(*written[:5], sep="\n")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", default="topics", help="topics, Python's own help, or a text file (UTF-8)"
    )
    parser.add_argument("--lines", type=int, default=None, help="how many; all by default")
    parser.add_argument(
        "--length", type=int, default=80, help="places of a row; longer lines are the tail"
    )
    parser.add_argument("--cell", choices=["gru", "lstm"], default="gru")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--clip", type=float, default=10.0, help="longest gradient")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out"),
        help="folder of picture, metrics and written lines",
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    args = parser.parse_args()
    if args.smoke:  # what the command line gives stands
        parser.set_defaults(lines=200, length=30, hidden=8, epochs=2)
        args = parser.parse_args()
    return args


if __name__ == "__main__":
    main(parse())
