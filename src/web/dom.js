// Small helpers for elements, events and time.

export const find = (selector, root = document) => root.querySelector(selector);

const SVG = new Set(['svg', 'g', 'path', 'circle', 'rect', 'text', 'line']);

/** An element with attributes, and with children that are elements or plain text. */
export function make(name, attributes = {}, ...children) {
  const element = SVG.has(name) ? document.createElementNS('http://www.w3.org/2000/svg', name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(key, '');
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter(child => child != null));
  return element;
}

export const escaped = text => String(text).replace(/[&<>"]/g, sign => `&#${sign.charCodeAt(0)};`);

export const isStill = matchMedia('(prefers-reduced-motion: reduce)');

export const nextFrame = () => new Promise(done => {
  // A hidden tab has no frames, but training goes on there.
  if (document.hidden) setTimeout(done, 50);
  else requestAnimationFrame(done);
});

export const pause = milliseconds => new Promise(done => setTimeout(done, milliseconds));

/** A function that runs the given one at most once at a time; a call meanwhile makes it run once more at the end. */
export function latest(work) {
  let running = false;
  let again = false;
  return async () => {
    if (running) {
      again = true;
      return;
    }
    running = true;
    try {
      do {
        again = false;
        await work();
      } while (again);
    } finally {
      running = false;
    }
  };
}

/** A function that runs jobs one after the other, in the order of its calls; a job that would wait right behind itself runs once. */
export function queue() {
  let last = Promise.resolve();
  let newest = null;
  return job => {
    if (job === newest) return last;
    newest = job;
    const turn = last.then(() => {
      if (job === newest) newest = null;
      return job();
    });
    last = turn.catch(() => {});
    return turn;
  };
}

/** A function that calls the given one in the next frame, once for many calls. */
export function coalesced(work) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    nextFrame().then(() => {
      waiting = false;
      work();
    });
  };
}

/** A function that calls the given one at most every so many milliseconds, and always after the last call. */
export function throttled(work, milliseconds) {
  let timer = 0;
  let last = -Infinity;
  return () => {
    if (timer) return;
    timer = setTimeout(() => {
      timer = 0;
      last = performance.now();
      work();
    }, Math.max(0, last + milliseconds - performance.now()));
  };
}

/** Uniform random numbers in 0..1 from a seed (mulberry32). */
export function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let bits = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Normal random number of mean 0 and deviation 1 (Box and Muller 1958). */
export const normal = uniform => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());

/** `count` equally spaced numbers from `low` to `high`. */
export const range = (low, high, count) => Array.from({ length: count }, (_, at) => low + ((high - low) * at) / (count - 1));

const NEGATIVE = [0x2b, 0x83, 0xd6];
const POSITIVE = [0xe6, 0x6a, 0x0c];

/** Draws grey values in 0..1, `[rows, columns]` or `[rows, columns, 3]`: ink is dark on light paper, as a pen writes. */
export function drawPicture(canvas, values, rows, columns, ink = true) {
  const colours = values.length / (rows * columns);
  drawPixels(canvas, rows, columns, (pixel, set) => {
    const at = pixel * colours;
    if (colours >= 3) return set(255 * values[at], 255 * values[at + 1], 255 * values[at + 2], 255);
    const grey = 255 * (ink ? 1 - values[at] : values[at]);
    return set(grey, grey, grey, 255);
  });
}

/** Draws numbers on a diverging scale of colours: the further from 0, the more opaque, fully at `largest`. */
export function drawWeights(canvas, values, rows, columns, largest) {
  drawPixels(canvas, rows, columns, (pixel, set) => {
    const value = values[pixel];
    const [red, green, blue] = value < 0 ? NEGATIVE : POSITIVE;
    set(red, green, blue, largest > 0 ? Math.min(255, (255 * Math.abs(value)) / largest) : 0);
  });
}

function drawPixels(canvas, rows, columns, colour) {
  if (canvas.width !== columns || canvas.height !== rows) Object.assign(canvas, { width: columns, height: rows });
  const pixels = new ImageData(columns, rows);
  let at = 0;
  const set = (red, green, blue, opacity) => {
    pixels.data[at] = red;
    pixels.data[at + 1] = green;
    pixels.data[at + 2] = blue;
    pixels.data[at + 3] = opacity;
    at += 4;
  };
  for (let pixel = 0; pixel < rows * columns; pixel += 1) colour(pixel, set);
  canvas.getContext('2d').putImageData(pixels, 0, 0);
}
