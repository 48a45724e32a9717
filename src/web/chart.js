// Charts as SVG: lines, dots and squares between two axes, and points that can be dragged.

import { coalesced, escaped, make } from './dom.js';
import { fixed } from './text.js';

const MARGIN = { left: 44, right: 12, top: 10, bottom: 36 };
const REACH = 24;

/** Round numbers from `low` to `high`, about `count` of them; only whole ones if that is asked. */
export function ticks(low, high, count, whole = false) {
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(digit => digit * power).find(step => step >= rough) ?? rough;
  if (whole && step < 1) return ticks(low, high, high - low);
  const first = Math.ceil(low / step - 1e-9);
  const all = [];
  for (let at = first; at * step <= high + step * 1e-9; at += 1) all.push(at * step);
  return { all, decimals: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

/** The least round number that is not below this one, so that an axis seldom changes. */
export function roundedUp(number) {
  const power = 10 ** Math.floor(Math.log10(number));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map(digit => digit * power).find(round => round >= number * (1 - 1e-9));
}

/** A line that grows without end: as many columns as can be seen, each with its lowest, highest and a mean of the last values. */
export class Track {
  #recent = [];
  #sum = 0;

  constructor(most = 400, window = 25) {
    Object.assign(this, { most, window, size: 1, columns: [], highest: -Infinity, first: NaN, last: NaN, count: 0 });
  }

  add(x, y) {
    if (!this.count) this.first = y;
    this.last = y;
    this.count += 1;
    if (!Number.isFinite(y)) return;
    this.highest = Math.max(this.highest, y);
    this.#recent.push(y);
    this.#sum += y;
    if (this.#recent.length > this.window) this.#sum -= this.#recent.shift();
    const mean = this.#sum / this.#recent.length;
    const column = this.columns[this.columns.length - 1];
    if (column && column.count < this.size) {
      Object.assign(column, { x, mean, low: Math.min(column.low, y), high: Math.max(column.high, y), count: column.count + 1 });
    } else {
      this.columns.push({ x, mean, low: y, high: y, count: 1 });
    }
    if (this.columns.length > this.most) this.#halve();
  }

  #halve() {
    this.size *= 2;
    const pairs = [];
    for (let at = 0; at < this.columns.length; at += 2) {
      const [a, b] = [this.columns[at], this.columns[at + 1]];
      pairs.push(b ? { x: b.x, mean: b.mean, low: Math.min(a.low, b.low), high: Math.max(a.high, b.high), count: a.count + b.count } : a);
    }
    this.columns = pairs;
  }

  /** Every value, or the lowest and highest of each column. */
  get spread() {
    return this.columns.flatMap(({ x, low, high }) => low === high ? [[x, low]] : [[x, low], [x, high]]);
  }

  get means() {
    return this.columns.map(({ x, mean }) => [x, mean]);
  }
}

/** A number at an axis: 12k for 12,000. */
function short(value, decimals) {
  const size = Math.abs(value);
  if (size >= 1e9) return value.toExponential(0).replace('e+', 'e');
  const [unit, sign] = size >= 1e6 ? [1e6, 'M'] : size >= 1e4 ? [1e3, 'k'] : [1, ''];
  return `${sign ? String(Number((value / unit).toPrecision(3))).replace('-', '−') : fixed(value, decimals)}${sign}`;
}

/** Shows names of series, each with its colour: `[name, colour, isDot]`. */
export function showLegend(list, entries) {
  list.replaceChildren(...entries.map(([name, colour, isDot]) =>
    make('li', {}, make('i', { style: `--c: var(--s${colour})`, class: isDot ? 'dot' : null }), name)));
}

export class Chart {
  /**
   * `options`: `x` and `y` are `[low, high]`, `xLabel` and `summary` functions that give texts; `percent` is for shares up
   * the axis, `whole` for counts along it.
   */
  constructor(host, options) {
    Object.assign(this, { host, series: [], xLabel: () => '', summary: () => '', percent: false }, options);
    this.svg = make('svg', { focusable: 'false' });
    this.back = make('g', { 'aria-hidden': 'true' });
    this.front = make('g');
    this.svg.append(this.back, this.front);
    host.append(this.svg);
    this.paint = coalesced(() => this.paintNow());
    new ResizeObserver(this.paint).observe(host);
  }

  placeX(value) {
    return MARGIN.left + ((value - this.x[0]) / (this.x[1] - this.x[0])) * (this.width - MARGIN.left - MARGIN.right);
  }

  placeY(value) {
    const place = this.height - MARGIN.bottom
      - ((value - this.y[0]) / (this.y[1] - this.y[0])) * (this.height - MARGIN.top - MARGIN.bottom);
    // A line that is far outside still has coordinates that every browser can draw.
    return Math.max(-5000, Math.min(5000, place));
  }

  valueAt(event) {
    const box = this.svg.getBoundingClientRect();
    const across = (event.clientX - box.left - MARGIN.left) / (this.width - MARGIN.left - MARGIN.right);
    const up = (this.height - MARGIN.bottom - (event.clientY - box.top)) / (this.height - MARGIN.top - MARGIN.bottom);
    return [this.x[0] + across * (this.x[1] - this.x[0]), this.y[0] + up * (this.y[1] - this.y[0])];
  }

  paintNow() {
    const { clientWidth, clientHeight } = this.host;
    if (!clientWidth) return;
    [this.width, this.height] = [clientWidth, clientHeight];
    this.svg.setAttribute('viewBox', `0 0 ${clientWidth} ${clientHeight}`);
    this.svg.setAttribute('role', this.handles ? 'group' : 'img');
    this.svg.setAttribute('aria-label', this.summary());
    this.back.innerHTML = this.axes() + this.series.map((series, at) => this.drawn(series, at)).join('');
    if (this.handles) this.paintHandles();
  }

  axes() {
    const [bottom, right] = [this.height - MARGIN.bottom, this.width - MARGIN.right];
    const across = ticks(...this.x, Math.max(2, Math.min(8, this.width / 70)), this.whole);
    const up = ticks(...this.y, Math.max(2, this.height / 60));
    const clip = `<clipPath id="${this.clip()}"><rect x="${MARGIN.left}" y="${MARGIN.top - 6}" width="${right - MARGIN.left}" height="${bottom - MARGIN.top + 12}"/></clipPath>`;
    const text = (value, decimals) => this.percent ? `${fixed(100 * value, Math.max(0, decimals - 2))} %` : short(value, decimals);
    const rows = up.all.map(value => {
      const y = this.placeY(value).toFixed(1);
      return `<line class="grid" x1="${MARGIN.left}" x2="${right}" y1="${y}" y2="${y}"/><text x="${MARGIN.left - 6}" y="${y}" dy="4" text-anchor="end">${text(value, up.decimals)}</text>`;
    });
    const columns = across.all.map(value => {
      const label = short(value, across.decimals);
      const x = Math.min(this.placeX(value), this.width - 4 * label.length); // no label is cut off
      return `<text x="${x.toFixed(1)}" y="${bottom + 15}" text-anchor="middle">${label}</text>`;
    });
    return `${clip}${rows.join('')}${columns.join('')}<text x="${right}" y="${this.height - 4}" text-anchor="end">${escaped(this.xLabel())}</text>`;
  }

  clip() {
    this.name ??= `clip-${Chart.count += 1}`;
    return this.name;
  }

  drawn({ kind = 'line', points, colour = 0, style = '' }) {
    const paint = `var(--s${colour})`;
    const places = points.filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y)).map(([x, y, ...more]) => [this.placeX(x), this.placeY(y), ...more]);
    const within = `clip-path="url(#${this.clip()})"`;
    if (kind === 'line') {
      const path = places.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join('L');
      return path ? `<path class="line ${style}" ${within} stroke="${paint}" d="M${path}"/>` : '';
    }
    if (kind === 'dots') {
      const path = places.map(([x, y, radius = 3]) => `M${(x - radius).toFixed(1)} ${y.toFixed(1)}a${radius} ${radius} 0 1 0 ${2 * radius} 0a${radius} ${radius} 0 1 0 ${-2 * radius} 0`);
      return `<path class="${style}" fill="${paint}" fill-opacity=".6" d="${path.join('')}"/>`;
    }
    // Squares: points with a second height; the side is their distance.
    const squares = places.map(([x, y, other]) => {
      const end = this.placeY(other);
      const side = Math.abs(end - y);
      // The square leans to the side with more room.
      const left = x + side > this.width - MARGIN.right ? x - side : x;
      return `<rect class="square" fill="${paint}" stroke="${paint}" x="${left.toFixed(1)}" y="${Math.min(y, end).toFixed(1)}" width="${side.toFixed(1)}" height="${side.toFixed(1)}"/>`;
    });
    return `<g ${within}>${squares.join('')}</g>`;
  }

  /**
   * Lets points be dragged and moved by keys. `handles`: `points()` gives `[x, y, colour]`, `move(index, x, y)` moves
   * one, `nudge(index, right, up)` moves it by steps of a key, `name(index)` and `value(index)` are words for it;
   * `add(x, y)` and `remove(index)` are optional.
   */
  grab(handles) {
    Object.assign(this, { handles, current: 0 });
    this.host.classList.add('live');
    const nearest = event => {
      const box = this.svg.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      let best = [REACH, -1];
      handles.points().forEach(([px, py], index) => {
        const distance = Math.hypot(this.placeX(px) - x, this.placeY(py) - y);
        if (distance < best[0]) best = [distance, index];
      });
      return best[1];
    };
    let dragged = -1;
    this.svg.addEventListener('pointerdown', event => {
      if (event.button) return;
      dragged = nearest(event);
      if (dragged < 0) return;
      this.svg.setPointerCapture(event.pointerId);
      this.current = dragged;
      this.focusHandle();
      event.preventDefault();
    });
    this.svg.addEventListener('pointermove', event => {
      if (dragged >= 0) handles.move(dragged, ...this.valueAt(event));
    });
    const drop = () => { dragged = -1; };
    this.svg.addEventListener('pointerup', drop);
    this.svg.addEventListener('pointercancel', drop);
    this.svg.addEventListener('dblclick', event => {
      if (handles.add && nearest(event) < 0) handles.add(...this.valueAt(event));
    });
    this.svg.addEventListener('keydown', event => {
      const count = handles.points().length;
      const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      const turn = { PageDown: 1, PageUp: -1 }[event.key];
      if (move) handles.nudge(this.current, ...move.map(steps => steps * (event.shiftKey ? 10 : 1)));
      else if (turn) this.current = (this.current + turn + count) % count;
      else if (event.key === 'Home') this.current = 0;
      else if (event.key === 'End') this.current = count - 1;
      else if ((event.key === 'Delete' || event.key === 'Backspace') && handles.remove) {
        handles.remove(this.current);
        this.current = Math.max(0, Math.min(this.current, handles.points().length - 1));
      } else return;
      event.preventDefault();
      this.paintNow();
      this.focusHandle();
    });
    this.front.addEventListener('focusin', event => { this.current = Number(event.target.dataset.index); });
  }

  focusHandle() {
    this.front.children[this.current]?.focus({ preventScroll: true });
  }

  paintHandles() {
    const points = this.handles.points();
    while (this.front.children.length > points.length) this.front.lastChild.remove();
    points.forEach(([x, y, colour], index) => {
      const handle = this.front.children[index] ?? this.front.appendChild(
        make('circle', { class: 'handle', r: 7, role: 'slider', 'data-index': index, 'aria-valuemin': this.x[0], 'aria-valuemax': this.x[1] }));
      const attributes = {
        cx: this.placeX(x).toFixed(1), cy: this.placeY(y).toFixed(1), fill: `var(--s${colour})`,
        tabindex: index === this.current ? 0 : -1, 'aria-label': this.handles.name(index),
        'aria-valuenow': Number(x.toFixed(2)), 'aria-valuetext': this.handles.value(index),
      };
      for (const [name, value] of Object.entries(attributes)) handle.setAttribute(name, value);
    });
  }
}
Chart.count = 0;
