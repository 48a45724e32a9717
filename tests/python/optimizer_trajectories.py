"""Trains a small network by PyTorch in f64, with every optimizer: what tests/library/trajectories.rs expects.

    pip install torch
    python tests/python/optimizer_trajectories.py > tests/python/optimizer_trajectories.json

Prints a JSON object for each optimizer: the losses of 20 steps, and the parameters after them, layer by layer, as
`[inputs + 1, outputs]` with the bias as last row; and where gradients are clipped, the norm that they had in each step.
"""

import json

import torch

SIZES = [6, 5, 3]
BATCH = 8
STEPS = 20



class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, "Symbolic discovery of optimization algorithms", which PyTorch does not have: its algorithm 2."""

    def __init__(self, parameters, lr, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(parameters, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                mean = self.state[parameter].setdefault("mean", torch.zeros_like(parameter))
                direction = (beta1 * mean + (1 - beta1) * parameter.grad).sign()
                parameter -= group["lr"] * (direction + group["weight_decay"] * parameter)
                mean.mul_(beta2).add_(parameter.grad, alpha=1 - beta2)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.3),
    "sgd momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "sgd momentum decay": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "sgd nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "lion": lambda p: Lion(p, lr=0.01),
    "lion decay": lambda p: Lion(p, lr=0.005, betas=(0.8, 0.95), weight_decay=0.1),
    "adamw decay": lambda p: torch.optim.AdamW(p, lr=0.02, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
}

# The same with gradients clipped to a norm that some steps are above and some below.
CLIPPED = {
    "sgd momentum clipped": ("sgd momentum", 0.25),
    "sgd nesterov clipped": ("sgd nesterov", 0.25),
    "adamw clipped": ("adamw decay", 0.25),
}


def layer(index, inputs, outputs):
    """`[inputs + 1, outputs]`, exact in f32."""
    count = (inputs + 1) * outputs
    values = [((at * 37 + index * 11) % 64 - 32) / 64 for at in range(count)]
    return torch.tensor(values, dtype=torch.float64).reshape(inputs + 1, outputs)


def train(make_optimizer, max_norm=None):
    inputs = torch.tensor([(at * 73) % 256 for at in range(BATCH * SIZES[0])], dtype=torch.float64) / 255
    inputs = inputs.reshape(BATCH, SIZES[0])
    labels = torch.tensor([at * 5 % SIZES[-1] for at in range(BATCH)])
    pairs = enumerate(zip(SIZES, SIZES[1:]))
    layers = [layer(index, *sizes).requires_grad_() for index, sizes in pairs]
    optimizer = make_optimizer(layers)
    losses, norms = [], []
    for _ in range(STEPS):
        hidden = torch.tanh(inputs @ layers[0][:-1] + layers[0][-1])
        logits = hidden @ layers[1][:-1] + layers[1][-1]
        loss = torch.nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        if max_norm is not None:
            norms.append(torch.nn.utils.clip_grad_norm_(layers, max_norm).item())
        optimizer.step()
        losses.append(loss.item())
    trajectory = {"losses": losses, "layers": [layer.flatten().tolist() for layer in layers]}
    return trajectory if max_norm is None else {**trajectory, "norms": norms}


if __name__ == "__main__":
    trajectories = {name: train(make) for name, make in OPTIMIZERS.items()}
    for name, (optimizer, max_norm) in CLIPPED.items():
        trajectories[name] = train(OPTIMIZERS[optimizer], max_norm)
    print(json.dumps(trajectories, indent=1))
