"""Measures a softstep model with numpy, independently of softstep.

    pip install numpy safetensors
    python tests/python/check_model.py runs/<run>/model.safetensors               # bundled digits, test part
    python tests/python/check_model.py runs/<run>/model.safetensors IDX_FOLDER    # t10k files of a folder

Prints one JSON object; `softstep eval --json` must report the same accuracy on the same data.
"""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
from safetensors import safe_open

DIGITS = Path(__file__).parents[2] / "src" / "data" / "digits"


ACTIVATIONS = {
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "gelu": lambda z: 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))),
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
    return images.reshape(len(images), -1), labels.astype(int)


def read_model(path):
    """[(weight [outputs, inputs], bias [outputs]), …] and what the file says about itself."""
    with safe_open(path, framework="numpy") as file:
        names = sorted({int(name.split(".")[0]) for name in file.keys()})
        layers = [(file.get_tensor(f"{name}.weight"), file.get_tensor(f"{name}.bias")) for name in names]
        return layers, json.loads(file.metadata()["softstep"])


def main(model, folder=None):
    layers, metadata = read_model(model)
    images, labels = read_test_part(folder and Path(folder))
    values = images / 255.0
    for index, (weight, bias) in enumerate(layers):
        values = values @ weight.T.astype(np.float64) + bias
        if index + 1 < len(layers):
            values = ACTIVATIONS[metadata["activation"]](values)
    top = values.max(axis=1)
    log_sum = top + np.log(np.exp(values - top[:, None]).sum(axis=1))
    loss = (log_sum - values[np.arange(len(labels)), labels]).mean()
    correct = int((values.argmax(axis=1) == labels).sum())
    result = {"sizes": metadata["sizes"], "examples": len(labels), "correct": correct}
    print(json.dumps(result | {"accuracy": correct / len(labels), "loss": float(loss)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
