"""The training step as people write it in PyTorch: nn.Linear, cross_entropy, backward, SGD."""

import torch
import torch.nn.functional as functional
from torch import nn

import work

torch.set_num_threads(work.THREADS)
torch.manual_seed(0)


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


def to_tensor(array):
    return torch.from_numpy(array).to(torch.get_default_device())


if __name__ == "__main__":
    work.main(make_step, to_tensor, to_tensor, to_tensor, choose_device=torch.set_default_device)
