"""Writes the weights of a small network that Keras made, under its own names and others, and its outputs.

    KERAS_BACKEND=torch python tests/python/keras_weights.py IMAGES.npy WEIGHTS.safetensors OTHERS.safetensors

IMAGES are bytes, [batch, 8, 8]. Prints the probabilities of each as a line of JSON. Needs numpy, keras and torch.
"""

import json
import struct
import sys

import keras
import numpy as np
from keras import layers


def save(tensors, path):
    """A safetensors file, written without the package of that name."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        bytes = tensor.astype("<f4").tobytes()
        offsets = [len(data), len(data) + len(bytes)]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": offsets}
        data += bytes
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def main(images, weights, others):
    keras.utils.set_random_seed(1)
    network = keras.Sequential([
        keras.Input((8, 8, 1)),
        layers.Conv2D(4, 3, padding="same"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Conv2D(6, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(16, activation="tanh"),
        layers.Dense(16, activation="tanh"),
        layers.Dense(10, activation="softmax"),
    ])
    pixels = np.load(images).reshape(-1, 8, 8, 1).astype("float32") / 255
    # Some statistics for the batch normalisation.
    for weight in network.layers[1].weights:
        weight.assign(1.0 + 0.1 * np.arange(4))
    for output in np.asarray(network.predict(pixels, verbose=0)):
        print(json.dumps(output.tolist()))
    tensors = {weight.path: np.asarray(weight.value.detach().cpu()) for weight in network.weights}
    save(tensors, weights)
    # Names that tell no order, of layers some of which have one shape.
    groups = sorted({path.rsplit("/", 1)[0] for path in tensors})
    letters = dict(zip(groups, ["gamma", "alpha", "delta", "beta", "zeta", "eta"]))
    rename = lambda path: letters[path.rsplit("/", 1)[0]] + "/" + path.rsplit("/", 1)[1]
    save({rename(path): tensor for path, tensor in tensors.items()}, others)
    layer = {"conv2d": 0, "batch_normalization": 1, "conv2d_1": 3, "dense": 7, "dense_1": 9, "dense_2": 11}
    print(json.dumps(",".join(f"{letters[group]}={layer[group.rsplit('/', 1)[-1]]}" for group in groups)), file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
