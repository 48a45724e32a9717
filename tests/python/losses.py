"""What PyTorch makes of the losses, for tests/library/losses.rs: python tests/python/losses.py prints the expected numbers."""

import torch
from torch.nn import functional as F

torch.set_default_dtype(torch.float64)
LOGITS = [[1.5, -0.25, 0.75], [-2.0, 3.0, 0.5], [0.0, 0.125, -4.0], [10.0, -10.0, 2.0]]
LABELS = torch.tensor([0, 2, 1, 1])
WEIGHTS = torch.tensor([0.5, 2.0, 1.25])
BINARY = [1.5, -0.25, -30.0, 4.0]
VALUES = [[1.0, 0.0, -1.0], [2.5, 3.5, 0.0], [0.25, 0.5, 1.0], [-1.0, 2.0, -3.0]]


def show(name, values, loss):
    loss.backward()
    print(name, repr(loss.item()), values.grad.flatten().tolist())


def logits(values=LOGITS):
    return torch.tensor(values, requires_grad=True)


for name, weight, smoothing in [("smoothed", None, 0.2), ("weighted", WEIGHTS, 0.0), ("both", WEIGHTS, 0.1)]:
    z = logits()
    show(name, z, F.cross_entropy(z, LABELS, weight=weight, label_smoothing=smoothing))
z = logits(BINARY)
show("bce", z, F.binary_cross_entropy_with_logits(z, torch.tensor([1.0, 0.0, 1.0, 1.0])))
z = logits()
show("mse", z, F.mse_loss(z, torch.tensor(VALUES)))
z = logits()
show("mse of classes", z, F.mse_loss(z, F.one_hot(LABELS, 3).double()))
