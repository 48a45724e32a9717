"""Draws the ten digits in tests/digits: other sizes, pens, places, papers and light in each.

    python tests/python/draw_digits.py tests/digits

Strokes are points of a hand, in a box of 1 by 1 from its upper left corner, joined by curves. Needs Pillow and NumPy.
"""

import math
import random
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

STROKES = {
    0: [[(0.55, 0.02), (0.25, 0.12), (0.12, 0.5), (0.25, 0.88), (0.55, 0.97), (0.8, 0.8), (0.88, 0.45), (0.75, 0.12), (0.5, 0.03)]],
    1: [[(0.4, 0.22), (0.55, 0.05), (0.53, 0.5), (0.5, 0.97)]],
    2: [[(0.15, 0.25), (0.3, 0.07), (0.6, 0.04), (0.78, 0.2), (0.7, 0.45), (0.4, 0.72), (0.14, 0.93)], [(0.14, 0.93), (0.5, 0.9), (0.88, 0.94)]],
    3: [[(0.2, 0.12), (0.5, 0.03), (0.76, 0.16), (0.68, 0.37), (0.42, 0.46)], [(0.42, 0.46), (0.72, 0.54), (0.8, 0.76), (0.55, 0.95), (0.18, 0.9)]],
    4: [[(0.35, 0.05), (0.25, 0.3), (0.13, 0.58)], [(0.13, 0.58), (0.5, 0.57), (0.88, 0.55)], [(0.68, 0.2), (0.66, 0.6), (0.62, 0.98)]],
    5: [[(0.8, 0.06), (0.5, 0.07), (0.27, 0.08)], [(0.27, 0.08), (0.24, 0.25), (0.22, 0.43)], [(0.22, 0.43), (0.52, 0.38), (0.78, 0.55), (0.74, 0.83), (0.45, 0.97), (0.14, 0.88)]],
    6: [[(0.68, 0.04), (0.38, 0.25), (0.2, 0.6), (0.27, 0.88), (0.52, 0.96), (0.74, 0.82), (0.7, 0.6), (0.48, 0.52), (0.26, 0.66)]],
    7: [[(0.14, 0.1), (0.5, 0.08), (0.84, 0.07)], [(0.84, 0.07), (0.6, 0.45), (0.4, 0.97)]],
    8: [[(0.72, 0.16), (0.48, 0.04), (0.27, 0.18), (0.42, 0.4), (0.66, 0.58), (0.72, 0.82), (0.48, 0.96), (0.25, 0.8), (0.36, 0.56), (0.62, 0.38), (0.72, 0.16)]],
    9: [[(0.72, 0.2), (0.48, 0.05), (0.25, 0.2), (0.3, 0.43), (0.54, 0.47), (0.73, 0.22)], [(0.73, 0.22), (0.7, 0.6), (0.6, 0.97)]],
}

# digit: file, canvas, box (left, top, width, height), pen, paper, ink, turn in degrees, and how a camera saw it.
DRAWINGS = {
    0: dict(file="0.png", canvas=(120, 160), box=(30, 30, 60, 95), pen=9, paper=255, ink=0, turn=0),
    1: dict(file="1.jpg", canvas=(400, 300), box=(230, 40, 110, 150), pen=7, paper=205, ink=60, turn=8, light=(50, 25), noise=6),
    2: dict(file="2.png", canvas=(64, 64), box=(8, 10, 44, 46), pen=5, paper=0, ink=255, turn=0),
    3: dict(file="3.png", canvas=(900, 700), box=(80, 320, 200, 300), pen=9, paper=250, ink=(20, 40, 160), turn=-5),
    4: dict(file="4.jpg", canvas=(640, 480), box=(250, 120, 190, 230), pen=22, paper=190, ink=70, turn=3, light=(-70, 40), noise=8, blur=2),
    5: dict(file="5.png", canvas=(40, 50), box=(8, 8, 22, 32), pen=3, paper=30, ink=200, turn=0),
    6: dict(file="6.png", canvas=(300, 300), box=(10, 10, 120, 180), pen=26, paper=(255, 250, 220), ink=(160, 20, 20), turn=0),
    7: dict(file="7.png", canvas=(220, 120), box=(120, 20, 60, 80), pen=4, paper=None, ink=(0, 0, 0), turn=-4),
    8: dict(file="8.jpg", canvas=(500, 500), box=(150, 90, 200, 300), pen=18, paper=45, ink=225, turn=6, light=(25, -30), noise=7, blur=1),
    9: dict(file="9.png", canvas=(28, 28), box=(7, 3, 15, 21), pen=2, paper=255, ink=90, turn=0),
}
SCALE = 4  # drawn larger and shrunk, for soft edges


def curve(points, steps=24):
    """Catmull-Rom through the points."""
    padded = [points[0], *points, points[-1]]
    for p0, p1, p2, p3 in zip(padded, padded[1:], padded[2:], padded[3:]):
        for step in range(steps + 1):
            t = step / steps
            yield tuple(
                0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
                for a, b, c, d in zip(p0, p1, p2, p3)
            )


def draw(digit, file, canvas, box, pen, paper, ink, turn, light=(0, 0), noise=0, blur=0):
    rng = random.Random(digit)
    left, top, width, height = box
    mask = Image.new("L", tuple(SCALE * side for side in canvas))
    pencil = ImageDraw.Draw(mask)
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    for stroke in STROKES[digit]:
        shaky = [(x + rng.uniform(-0.02, 0.02), y + rng.uniform(-0.02, 0.02)) for x, y in stroke]
        for x, y in curve(shaky):
            x, y = (x - 0.5) * width, (y - 0.5) * height
            x, y = left + width / 2 + cos * x - sin * y, top + height / 2 + sin * x + cos * y
            radius = pen / 2 * rng.uniform(0.93, 1.07)
            pencil.ellipse([SCALE * (x - radius), SCALE * (y - radius), SCALE * (x + radius), SCALE * (y + radius)], fill=255)
    mask = mask.resize(canvas, Image.BOX)
    if paper is None:  # ink on a transparent ground
        image = Image.new("RGBA", canvas, (0, 0, 0, 0))
        image.paste(Image.new("RGBA", canvas, (*ink, 255)), mask=mask)
        image.putalpha(mask)
        return image
    color = lambda value: value if isinstance(value, tuple) else (value,) * 3
    image = Image.composite(Image.new("RGB", canvas, color(ink)), Image.new("RGB", canvas, color(paper)), mask)
    if blur:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    if noise or any(light):
        pixels = np.asarray(image, dtype=float)
        x, y = np.meshgrid(np.linspace(-0.5, 0.5, canvas[0]), np.linspace(-0.5, 0.5, canvas[1]))
        pixels += (light[0] * x + light[1] * y)[..., None]
        pixels += np.random.default_rng(digit).normal(0, noise, pixels.shape)
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return image


def main(folder):
    folder.mkdir(exist_ok=True)
    for digit, drawing in DRAWINGS.items():
        image = draw(digit, **drawing)
        options = dict(quality=80) if drawing["file"].endswith(".jpg") else dict(optimize=True)
        image.save(folder / drawing["file"], **options)


main(Path(sys.argv[1]))
