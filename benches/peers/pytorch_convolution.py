"""A convolutional network as people write it in PyTorch: nn.Conv2d, cross_entropy, backward, SGD."""

import torch
import torch.nn.functional as functional
from torch import nn

import work

SIDE = 28


def make_layers(text):
    """The layers of a text as `conv:16x5,relu,pool:2,linear:128,relu`, and a last linear layer to the classes."""
    channels, side, layers = 1, SIDE, []
    for layer in [*text.split(","), f"linear:{work.CLASSES}"]:
        name, _, value = layer.partition(":")
        if name == "conv":
            outputs, kernel = map(int, value.split("x"))
            layers.append(nn.Conv2d(channels, outputs, kernel, padding=(kernel - 1) // 2))
            channels = outputs
        elif name == "pool":
            layers.append(nn.MaxPool2d(int(value)))
            side //= int(value)
        elif name == "relu":
            layers.append(nn.ReLU())
        elif name == "linear":
            if side > 0:
                layers.append(nn.Flatten())
                channels, side = channels * side * side, 0
            layers.append(nn.Linear(channels, int(value)))
            channels = int(value)
        else:
            raise ValueError(f"no layer of this peer: {layer}")
    return layers


def make_step(layers, batch_size, inputs, labels):
    model = nn.Sequential(*make_layers(layers))
    optimizer = torch.optim.SGD(model.parameters(), lr=work.LEARNING_RATE)

    def step(indices):
        images = inputs[indices].view(-1, 1, SIDE, SIDE)
        loss = functional.cross_entropy(model(images), labels[indices])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


if __name__ == "__main__":
    work.pytorch_main(make_step, work.CONVOLUTIONAL)
