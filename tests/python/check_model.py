"""Measures a softstep model with numpy, independently of softstep; where torch is installed, by torch.nn.Sequential too.

    pip install numpy safetensors
    python tests/python/check_model.py runs/<run>/model.safetensors               # bundled digits, test part
    python tests/python/check_model.py runs/<run>/model.safetensors IDX_FOLDER    # t10k files of a folder
    python tests/python/check_model.py runs/<run>/model.safetensors IMAGES.npy    # what it predicts for arrays of bytes

Prints one JSON object. `softstep eval --json` must report the same accuracy and loss on the same data, and
`softstep predict --json` the same probabilities. `torch` is the largest difference of PyTorch's outputs from numpy's, or
null where torch is not installed.
"""

import gzip
import json
import re
import sys
from pathlib import Path

import numpy as np
from safetensors import safe_open

DIGITS = Path(__file__).parents[2] / "src" / "data" / "digits"
EPSILON = 1e-5

ACTIVATIONS = {
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "gelu": lambda z: 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
}


def read_idx(path):
    """An IDX file of bytes, gzipped or not, as an array."""
    if not path.exists():
        path = path.with_name(path.name + ".gz")
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    assert data[:3] == b"\0\0\x08", f"{path}: not an IDX file of bytes"
    shape = np.frombuffer(data, ">u4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def read_test_part(folder):
    if folder is None:
        images, labels = read_idx(DIGITS / "images-idx3-ubyte"), read_idx(DIGITS / "labels-idx1-ubyte")
        test = np.arange(len(labels)) % 5 == 4
        images, labels = images[test], labels[test]
    else:
        images, labels = (read_idx(folder / f"t10k-{name}-ubyte") for name in ("images-idx3", "labels-idx1"))
    return images, labels.astype(int)


def read_model(path):
    """Its tensors, and what the file says about itself."""
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["softstep"])


def parse(layer):
    """Name and numbers of a layer: `conv:16x5s2p0` is ("conv", 16, 5, 2, 0)."""
    name, _, value = layer.partition(":")
    if name == "conv":
        channels, size, stride, padding = re.fullmatch(r"(\d+)x(\d+)(?:s(\d+))?(?:p(\d+))?", value).groups()
        size = int(size)
        return name, int(channels), size, int(stride or 1), (size - 1) // 2 if padding is None else int(padding)
    if name == "pool":
        size, stride = re.fullmatch(r"(\d+)(?:s(\d+))?", value).groups()
        return name, int(size), int(stride or size)
    return name, float(value) if value else None


def windows(images, size, stride):
    """Every window of `[batch, channels, height, width]`: `[batch, channels, rows, columns, size, size]`."""
    slid = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(2, 3))
    return slid[:, :, ::stride, ::stride]


def forward(architecture, tensors, values):
    """The outputs by numpy in f64, from images `[batch, channels, height, width]` or features `[batch, features]`."""
    for index, layer in enumerate(architecture["layers"]):
        name, *numbers = parse(layer)
        of_layer = {key: tensors.get(f"{index}.{key}") for key in ("weight", "bias", "running_mean", "running_var")}
        weight, bias, mean, variance = (None if t is None else t.astype(np.float64) for t in of_layer.values())
        if name == "linear":
            values = values @ weight.T + bias
        elif name == "conv":
            _, size, stride, padding = numbers
            padded = np.pad(values, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
            values = np.einsum("bcyxij,ocij->boyx", windows(padded, size, stride), weight, optimize=True)
            values += bias[:, None, None]
        elif name == "pool":
            values = windows(values, *numbers).max(axis=(4, 5))
        elif name == "batchnorm":
            shape = (1, -1) + (1,) * (values.ndim - 2)
            scale = weight / np.sqrt(variance + EPSILON)
            values = (values - mean.reshape(shape)) * scale.reshape(shape) + bias.reshape(shape)
        elif name == "flatten":
            values = values.reshape(len(values), -1)
        elif name != "dropout":
            values = ACTIVATIONS[name](values)
    return values


def torch_forward(architecture, tensors, values):
    """The same by `torch.nn.Sequential`, which loads the tensors by their names; None where torch is not installed."""
    try:
        import torch
        from torch import nn
    except ImportError:
        return None
    modules = []
    shape = values.shape[1:]
    for layer in architecture["layers"]:
        name, *numbers = parse(layer)
        if name == "linear":
            module = nn.Linear(shape[0], int(numbers[0]))
        elif name == "conv":
            channels, size, stride, padding = numbers
            module = nn.Conv2d(shape[0], channels, size, stride=stride, padding=padding)
        elif name == "pool":
            module = nn.MaxPool2d(numbers[0], stride=numbers[1])
        elif name == "batchnorm":
            module = (nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d)(shape[0])
        elif name == "dropout":
            module = nn.Dropout(numbers[0])
        else:
            module = {
                "flatten": nn.Flatten,
                "relu": nn.ReLU,
                "sigmoid": nn.Sigmoid,
                "tanh": nn.Tanh,
                "gelu": lambda: nn.GELU(approximate="tanh"),
                "leaky_relu": nn.LeakyReLU,
            }[name]()
        modules.append(module)
        with torch.no_grad():
            shape = module.eval()(torch.zeros(1, *shape)).shape[1:]
    model = nn.Sequential(*modules)
    state = {name: torch.from_numpy(value) for name, value in tensors.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    # PyTorch also counts batches, which evaluation does not need.
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing), (missing, unexpected)
    with torch.no_grad():
        return model.double().eval()(torch.from_numpy(values)).numpy()


def main(model, data=None):
    tensors, metadata = read_model(model)
    architecture = metadata["architecture"]
    if data is not None and data.endswith(".npy"):
        images, labels = np.load(data), None
    else:
        images, labels = read_test_part(data and Path(data))
    values = images.reshape(len(images), *architecture["input"]) / 255.0
    if values.ndim == 4:
        # Channels come last in softstep's examples, first in PyTorch's.
        values = values.transpose(0, 3, 1, 2)
    outputs = forward(architecture, tensors, values)
    by_torch = torch_forward(architecture, tensors, values)
    torch = None if by_torch is None else float(np.abs(by_torch - outputs).max())
    result = {"architecture": architecture, "examples": len(images), "torch": torch}
    top = outputs.max(axis=1, keepdims=True)
    log_sum = top + np.log(np.exp(outputs - top).sum(axis=1, keepdims=True))
    if labels is None:
        result["probabilities"] = np.exp(outputs - log_sum).tolist()
    else:
        correct = int((outputs.argmax(axis=1) == labels).sum())
        loss = (log_sum[:, 0] - outputs[np.arange(len(labels)), labels]).mean()
        result |= {"correct": correct, "accuracy": correct / len(labels), "loss": float(loss)}
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
