"""Writes the weights of a small convolutional network that PyTorch made, and its outputs.

    python tests/python/torch_weights.py IMAGES.npy WEIGHTS.safetensors

IMAGES are bytes, [batch, 8, 8]. Prints the logits of each as a line of JSON. Needs numpy and torch.
"""

import json
import struct
import sys

import numpy as np
import torch
from torch import nn


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.fc1 = nn.Linear(96, 16)
        self.out = nn.Linear(16, 10)

    def forward(self, images):
        x = self.bn1(self.conv1(images)).relu()
        x = self.conv2(x).relu().flatten(1)
        return self.out(self.fc1(x).tanh())


def save(tensors, path):
    """A safetensors file, written without the package of that name."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        bytes = tensor.numpy().tobytes()
        dtype = {torch.float32: "F32", torch.int64: "I64"}[tensor.dtype]
        offsets = [len(data), len(data) + len(bytes)]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        data += bytes
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def main(images, weights):
    torch.manual_seed(1)
    network = Network()
    # Some statistics for the batch normalisation.
    pixels = torch.from_numpy(np.load(images)).float().reshape(-1, 1, 8, 8) / 255
    with torch.no_grad():
        network.train()(pixels)
        for output in network.eval()(pixels):
            print(json.dumps(output.tolist()))
    save(network.state_dict(), weights)


if __name__ == "__main__":
    main(*sys.argv[1:])
