"""The average of the weights over a training, which scores better than those of its last step."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The exponential moving average of a model's weights: a part of the state of a training."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Begin with the weights of now; `decay` is how much of the average a step keeps, once it has seen many."""
        self.model, self.decay = model, decay
        self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Take in the weights behind the step `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, tensor in self.model.state_dict().items():
            if tensor.is_floating_point():
                self.weights[name].lerp_(tensor, 1 - decay)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Let the model have the averaged weights for a while."""
        trained = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        self.settle()
        yield
        self.model.load_state_dict(trained)

    def settle(self) -> None:
        """Let the model have the averaged weights."""
        self.model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Tensor]:
        """What `load_state_dict` reads."""
        return self.weights

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Go on with an average that was kept; ValueError for that of another model."""
        found = {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
        if {name: tensor.shape for name, tensor in found.items()} != {n: t.shape for n, t in self.weights.items()}:
            raise ValueError("its averaged weights are of another model")
        for name, tensor in self.weights.items():
            tensor.copy_(found[name])
