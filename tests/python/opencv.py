"""Runs an ONNX file without labels in OpenCV, and prints the outputs for each example as a line of JSON.

    pip install numpy opencv-python-headless
    python tests/python/opencv.py model.onnx INPUTS.npy

OpenCV reads the shape of a batch from the array that it is given.
"""

import json
import sys

import cv2
import numpy as np


def main(path, inputs):
    network = cv2.dnn.readNetFromONNX(path)
    array = np.load(inputs)
    if array.dtype == np.uint8 and array.ndim == 3:
        array = array[..., None]
    elif array.dtype == np.float32:
        array = array.reshape(len(array), -1)
    network.setInput(array)
    for row in network.forward():
        print(json.dumps([float(value) for value in np.ravel(row)]))


if __name__ == "__main__":
    main(*sys.argv[1:])
