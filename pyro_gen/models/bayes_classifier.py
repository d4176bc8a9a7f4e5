"""Classification by Bayes' rule from a density of the features given the class."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn
from torch.nn.functional import one_hot

from pyro_gen._arguments import whole_number
from pyro_gen._module import Module
from pyro_gen._plates import check_rows, rows_plate
from pyro_gen._registration import register
from pyro_gen._rows import RowsLike, as_tensor
from pyro_gen.distributions import Completion
from pyro_gen.distributions.arguments import check_classes
from pyro_gen.distributions.autoregressive.order_agnostic import OrderAgnostic


class BayesClassifier(Module):
    r"""Prior of a class and density of the features given it; classification by Bayes' rule.

    .. math:: p(y, x) = \pi_y\, p(x | y), \qquad p(y | x) = \frac{\pi_y\, p(x | y)}{\sum_{y'}
        \pi_{y'}\, p(x | y')}

    Learned by maximum likelihood of p(y, x), ``SVI(classifier.model,
    classifier.guide, ...)`` with ``Trace_ELBO``; rows whose class is unknown
    (``y=None``) are summed over their classes by ``TraceEnum_ELBO``. Calling
    the classifier is p(y | x), exact, a categorical distribution, so that
    ``pyro.sample("y", classifier(x), obs=y)`` trains the same weights
    discriminatively. The sites are ``y`` and ``x`` in the plate ``rows``.

    Args:
        density: a module that takes the class as one-hot context (...,
            classes), such as ``nn.NADE(features, hidden_features,
            context=classes)``.
        classes: number of classes.
        size: rows of the whole data set, which scales minibatches.

    Raises:
        ValueError: there are fewer than two classes or no rows, or the context
            of ``density`` has another width.

    References:
        Ng and Jordan (2002), On discriminative vs. generative classifiers,
        NeurIPS.

    Example:
        >>> from pyro.infer import SVI, Trace_ELBO
        >>> from pyro_gen import nn
        >>> classifier = BayesClassifier(nn.NADE(4, 8, context=2), classes=2, size=100)
        >>> svi = SVI(classifier.model, classifier.guide, pyro.optim.Adam({"lr": 0.01}),
        ...     Trace_ELBO())
        >>> _ = svi.step(torch.eye(4), torch.tensor([0, 0, 1, 1]))
        >>> classifier(torch.eye(4)).probs.shape
        torch.Size([4, 2])
    """

    def __init__(self, density: nn.Module, classes: int, size: int) -> None:
        super().__init__()
        classes = whole_number("classes", classes, 2)
        width = getattr(density, "context", classes)
        if width != classes:
            raise ValueError(
                f"`density` must take a context of {classes} numbers, one for each class, got "
                f"{width}"
            )
        self.density = density
        self.classes = classes
        self.size = whole_number("size", size)
        example = next(density.parameters(), torch.empty(0))
        self.class_logits = nn.Parameter(
            torch.zeros(classes, dtype=example.dtype, device=example.device)
        )

    def model(self, x: RowsLike | None = None, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The generative program: a class, then features.

        Args:
            x: rows to observe, (rows,) + event shape; None draws ``size`` rows.
            y: their classes, (rows,), of int64; None where they are unknown.

        Returns:
            Classes and features.

        Raises:
            ValueError: ``y`` are no whole numbers from 0 to ``classes`` - 1.
        """
        register("classifier", self)
        rows: Tensor | None = as_tensor(x)
        y = as_tensor(y, "y")
        if y is not None:
            check_classes("y", y, self.classes)
        with rows_plate(self.size, rows):
            y = pyro.sample(
                "y",
                dist.Categorical(logits=self.class_logits),
                obs=y,
                infer={"enumerate": "parallel"},
            )
            return y, pyro.sample("x", self.density(self.encode(y)), obs=rows)

    def guide(self, x: RowsLike | None = None, y: Tensor | None = None) -> None:
        """Empty guide: classes are observed, or summed over.

        Args:
            x: rows, of which only the number is used.
            y: their classes.

        Raises:
            ValueError: there are more rows than ``size``.
        """
        check_rows(self.size, 0 if x is None else len(x))

    def encode(self, y: Tensor) -> Tensor:
        """Encoding of classes as the density's context.

        Args:
            y: classes, (...).

        Returns:
            One-hot rows, (..., classes).
        """
        return one_hot(y.long(), self.classes).to(self.class_logits.dtype)

    def log_joint(
        self, x: RowsLike, mask: Tensor | None = None, completion: Completion | None = None
    ) -> Tensor:
        """Log p(y, x) of every class, in nats.

        Args:
            x: features, (...) + event shape; values of missing features are
                ignored, NaN included.
            mask: True where a feature is observed, same shape; None for all.
                The others are summed over.
            completion: how they are summed over, see
                :meth:`pyro_gen.distributions.Autoregressive.given`.

        Returns:
            Shape (..., classes).

        Raises:
            ValueError: ``x`` lies outside the support, or the density is an
                order-agnostic network in training mode, whose estimates must
                not be compared.
        """
        density: TorchDistribution = self.density(torch.eye(self.classes).to(self.class_logits))
        if isinstance(density, OrderAgnostic):
            raise ValueError(
                "the density gives only estimates in training mode: use eval() to classify"
            )
        rows: Tensor = as_tensor(x)
        mask = as_tensor(mask, "mask")
        place = -1 - len(density.event_shape)
        if mask is None:
            log_prob = density.log_prob(rows.unsqueeze(place))
        else:
            log_prob = density.log_evidence(
                rows.unsqueeze(place), mask.unsqueeze(place), completion
            )
        return log_prob + self.class_logits.log_softmax(-1)

    def forward(
        self, x: RowsLike, mask: Tensor | None = None, completion: Completion | None = None
    ) -> dist.Categorical:
        """The class given the features, p(y | x).

        Args:
            x: features, (...) + event shape; values of missing features are
                ignored, NaN included.
            mask: True where a feature is observed, same shape; None for all.
            completion: how the missing features are summed over; None for an
                exact way.

        Returns:
            Categorical distribution of batch shape (...).

        Raises:
            ValueError: as :meth:`log_joint`.
        """
        return dist.Categorical(logits=self.log_joint(x, mask, completion))


__all__ = ["BayesClassifier"]
