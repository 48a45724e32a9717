"""Trains small convolutional networks by PyTorch in f64: what tests/library/network_trajectories.rs expects.

    pip install torch
    python tests/python/network_trajectories.py > tests/python/network_trajectories.json

Prints a JSON object for each network: its layers as `--layers` has them, the tensors that it starts from, the losses of 20
steps, and the tensors after them, by their names in `torch.nn.Sequential`.
"""

import json

import torch
from torch import nn

BATCH, HEIGHT, WIDTH, CHANNELS, CLASSES = 8, 7, 8, 2, 3
STEPS = 20

NETWORKS = {
    "convolutions": {
        "layers": "conv:4x3,relu,pool:2,conv:5x3s2p0,tanh,flatten,linear:6,gelu,linear:3",
        "modules": lambda: [
            nn.Conv2d(CHANNELS, 4, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 5, 3, stride=2, padding=0),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(5, 6),
            nn.GELU(approximate="tanh"),
            nn.Linear(6, CLASSES),
        ],
        "optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
    },
    "overlapping pools": {
        "layers": "conv:3x4s1p2,pool:3s2,sigmoid,conv:4x2p1,relu,flatten,linear:3",
        "modules": lambda: [
            nn.Conv2d(CHANNELS, 3, 4, padding=2),
            nn.MaxPool2d(3, stride=2),
            nn.Sigmoid(),
            nn.Conv2d(3, 4, 2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(80, CLASSES),
        ],
        "optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01),
    },
    "batch normalisation": {
        "layers": "conv:4x3,batchnorm,relu,pool:2,flatten,linear:6,batchnorm,tanh,linear:3",
        "modules": lambda: [
            nn.Conv2d(CHANNELS, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(48, 6),
            nn.BatchNorm1d(6),
            nn.Tanh(),
            nn.Linear(6, CLASSES),
        ],
        "optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    },
    "batch normalisation by adamw": {
        "layers": "conv:3x3,relu,batchnorm,flatten,linear:3",
        "modules": lambda: [
            nn.Conv2d(CHANNELS, 3, 3, padding=1),
            nn.ReLU(),
            nn.BatchNorm2d(3),
            nn.Flatten(),
            nn.Linear(168, CLASSES),
        ],
        "optimizer": lambda parameters: torch.optim.AdamW(parameters, lr=0.01),
    },
}


def mix(word):
    """The `mix` of softstep's `random`, of 32 bits."""
    word ^= word >> 16
    word = word * 0x7FEB352D & 0xFFFFFFFF
    word ^= word >> 15
    word = word * 0x846CA68B & 0xFFFFFFFF
    return word ^ word >> 16


def start(model):
    """Gives every parameter values that f32 has exactly."""
    for index, (name, parameter) in enumerate(model.named_parameters()):
        count = parameter.numel()
        values = torch.tensor([mix(at + 1000 * index) % 64 / 64 - 0.5 for at in range(count)], dtype=torch.float64)
        # Scales of a batch normalisation are about 1.
        is_scale = parameter.dim() == 1 and name.endswith("weight")
        parameter.data = (values + is_scale).reshape(parameter.shape)


def tensors(model):
    state = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    return {name: {"shape": list(value.shape), "values": value.flatten().tolist()} for name, value in state.items()}


def train(network):
    count = BATCH * HEIGHT * WIDTH * CHANNELS
    inputs = torch.tensor([mix(at) % 256 for at in range(count)], dtype=torch.float64) / 255
    # Channels last, as softstep's examples are.
    inputs = inputs.reshape(BATCH, HEIGHT, WIDTH, CHANNELS).permute(0, 3, 1, 2)
    labels = torch.tensor([at * 5 % CLASSES for at in range(BATCH)])
    model = nn.Sequential(*network["modules"]()).double()
    start(model)
    before = tensors(model)
    optimizer = network["optimizer"](model.parameters())
    losses = []
    for _ in range(STEPS):
        loss = nn.functional.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return {"layers": network["layers"], "before": before, "losses": losses, "after": tensors(model)}


if __name__ == "__main__":
    lines = [f"{json.dumps(name)}: {json.dumps(train(network))}" for name, network in NETWORKS.items()]
    print("{\n" + ",\n".join(lines) + "\n}")
