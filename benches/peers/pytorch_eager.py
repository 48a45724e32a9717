"""The training step as people write it in PyTorch: nn.Linear, cross_entropy, backward, SGD."""

import torch
import torch.nn.functional as functional
from torch import nn

import work


def make_step(sizes, batch_size, inputs, labels):
    layers = []
    for index, (width, outputs) in enumerate(zip(sizes, sizes[1:])):
        if index > 0:
            layers.append(nn.ReLU())
        layers.append(nn.Linear(width, outputs))
    model = nn.Sequential(*layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=work.LEARNING_RATE)

    def step(indices):
        loss = functional.cross_entropy(model(inputs[indices]), labels[indices])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


if __name__ == "__main__":
    work.pytorch_main(make_step)
