"""PyTorch, as it comes and compiled."""

import torch
from torch import nn
from torch.nn import functional

from contest.rivals.base import LEARNING_RATE, Rival

_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "logistic": nn.Sigmoid}
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


def make_net(cell):
    """Return a cell's net, with PyTorch's own initial values."""
    layers = []
    for n_inputs, n_outputs in cell.shapes:
        layer = nn.Linear(n_inputs, n_outputs, dtype=getattr(torch, cell.dtype))
        layers += [layer, _ACTIVATIONS[cell.activation]()]
    return nn.Sequential(*layers[:-1])


class Eager(Rival):
    """Each operation is a call. The data are tensors that are indexed, without a DataLoader."""

    def __init__(self, n_threads):
        super().__init__(n_threads)
        torch.set_num_threads(n_threads)

    def reset(self, seed):
        torch.manual_seed(seed)
        self._net = make_net(self.cell)
        self._data = torch.from_numpy(self.X), torch.from_numpy(self.y)
        self._loss = functional.cross_entropy if self.classifies else functional.mse_loss
        self._make_step()

    def _make_step(self):
        net, loss, (X, y) = self._net, self._loss, self._data
        optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE, fused=True)

        def step(indices):
            optimizer.zero_grad(set_to_none=True)
            loss(net(X[indices]), y[indices]).backward()
            optimizer.step()

        self._step = step

    def run_epochs(self, count):
        for _ in range(count):
            for indices in torch.randperm(len(self.X)).split(self.cell.batch):
                self._step(indices)

    def predict(self, X):
        with torch.inference_mode():
            out = self._net(torch.from_numpy(X)).numpy()
        return out.argmax(axis=1) if self.classifies else out

    def prepare_inference(self, cell, weights):
        net = make_net(cell)
        layers = [layer for layer in net if isinstance(layer, nn.Linear)]
        with torch.no_grad():
            for layer, (w, b) in zip(layers, weights, strict=True):
                layer.weight.copy_(torch.from_numpy(w.T))
                layer.bias.copy_(torch.from_numpy(b))

        def predict(x):
            with torch.inference_mode():
                return net(torch.from_numpy(x)).numpy()

        return predict


class Compiled(Eager):
    """The whole step is one compiled graph: gather, forward, backward and Adam.

    `torch.optim.Adam` would be a second graph and `backward` an interruption between them, which
    is slower; so the gradient is that of `torch.func` and Adam is written out.
    """

    def _make_step(self):
        torch._dynamo.reset()  # what was compiled for another net must not be looked through
        net, loss, (X, y) = self._net, self._loss, self._data
        params = {name: p.detach().clone() for name, p in net.named_parameters()}
        first, second = ({name: torch.zeros_like(p) for name, p in params.items()} for _ in "12")
        count = torch.zeros((), dtype=X.dtype)

        def batch_loss(params, x, y):
            return loss(torch.func.functional_call(net, params, (x,)), y)

        def step(indices):
            grads = torch.func.grad(batch_loss)(params, X[indices], y[indices])
            count.add_(1)
            rate = LEARNING_RATE * torch.sqrt(1 - _BETA_2**count) / (1 - _BETA_1**count)
            for name, param in params.items():
                m, v, grad = first[name], second[name], grads[name]
                m.lerp_(grad, 1 - _BETA_1)
                v.mul_(_BETA_2).addcmul_(grad, grad, value=1 - _BETA_2)
                param.sub_(rate * m / (v.sqrt() + _EPSILON))

        self._step = torch.compile(step, fullgraph=True, dynamic=False)
