// The lesson's figures. Each asks softstep for its numbers, and draws what comes back.

import { Chart, roundedUp, showLegend } from './chart.js';
import { drawPicture, find, isStill, latest, make, nextFrame, normal, pause, queue, random, range } from './dom.js';
import { Engine, formulas, rows } from './engine.js';
import { digits, equals, factor, fixed, inEveryLanguage, asPrinted, logarithm, percent, say, small, thousands } from './text.js';

/** The law of the house prices, in thousands: `BASE + PER_AREA · area`, plus noise. */
const [BASE, PER_AREA, PRICE_NOISE] = [60, 2.5, 20];
/** The law of the tumours: P(malignant | size) = sigmoid((size − BOUNDARY) / WIDTH), sizes in cm. */
const [BOUNDARY, WIDTH] = [3, 0.3];

const SGD = { optimizer: 'sgd', momentum: 0, nesterov: false, weight_decay: 0 };

/** Controls of a figure: `do` are buttons and `set` inputs, by their names. */
function controls(figure, buttons) {
  for (const [name, action] of Object.entries(buttons)) find(`[data-do=${name}]`, figure).addEventListener('click', action);
  return {
    button: name => find(`[data-do=${name}]`, figure),
    input: name => find(`[data-set=${name}]`, figure),
  };
}

/** Connects a slider with the number beside it. */
function slider(input, words, change) {
  const show = () => {
    const text = words(Number(input.value));
    find('output', input.parentElement).textContent = text;
    input.setAttribute('aria-valuetext', text);
  };
  input.addEventListener('input', () => {
    show();
    change();
  });
  return show;
}

/** Shows an error in the place of a figure's result, in one sentence. */
const failed = (place, error) => { place.textContent = error.message; };

/** A switch that runs `tick` until it gives false or is switched off; `tick` is given a function that says whether it still is on. */
class Loop {
  constructor(button, tick, fail, words = () => [say('Train', '训练'), say('Pause', '暂停')]) {
    Object.assign(this, { button, tick, fail, words, turn: null });
    button.addEventListener('click', () => this.turn ? this.stop() : this.start());
    inEveryLanguage(() => this.show());
  }

  show() {
    this.button.textContent = this.words()[Number(this.turn !== null)];
    this.button.setAttribute('aria-pressed', this.turn !== null);
  }

  async start() {
    // A start soon after a stop must not take up the ticks of the start before it.
    const turn = this.turn = {};
    const isOn = () => this.turn === turn;
    this.show();
    try {
      while (isOn() && await this.tick(isOn) !== false) await nextFrame();
    } catch (error) {
      this.fail(error);
    }
    if (isOn()) this.stop();
  }

  stop() {
    this.turn = null;
    this.show();
  }
}

/** A small model that learns points, in a Worker of its own. */
class Fit {
  constructor(targets, settings) {
    Object.assign(this, { targets, settings, steps: 0, done: false });
  }

  /** Starts to learn these points anew; `scale` is `[mean, deviation]` of the inputs. */
  async start(inputs, targets, scale, epochs = 2000) {
    this.worker ??= new Engine();
    this.scale = scale;
    await this.worker.call('Data.from_values', this.scaled(inputs), 1, Float32Array.from(targets), this.targets);
    const settings = { hidden: [], batch_size: inputs.length, epochs, seed: 4, schedule: 'constant', ...this.settings };
    await this.worker.call('Run.create', settings, 'cpu');
    Object.assign(this, { steps: 0, done: false, loss: NaN });
  }

  scaled(inputs) {
    return Float32Array.from(inputs, value => (value - this.scale[0]) / this.scale[1]);
  }

  async step(count) {
    const { losses, step, done } = await this.worker.call('run.step', count);
    this.steps = step;
    this.loss = losses[losses.length - 1] ?? this.loss;
    this.done = done;
  }

  /** The output for each input: a value, or the probability of the second class. */
  async outputs(inputs) {
    const answer = await this.worker.call('run.outputs', this.scaled(inputs));
    return rows(answer, inputs.length).map(row => row[row.length - 1]);
  }
}

/** The number of steps for the next picture: few at first, where most happens. */
const pace = steps => isStill.matches ? 200 : Math.max(1, Math.round(steps / 24));

/** The place where a rising curve first reaches a height; NaN if it never does. */
function crossing(curve, height) {
  const at = curve.findIndex(([, y], index) => index > 0 && curve[index - 1][1] < height && y >= height);
  if (at < 0) return NaN;
  const [[x0, y0], [x1, y1]] = [curve[at - 1], curve[at]];
  return x0 + ((x1 - x0) * (height - y0)) / (y1 - y0);
}

// House prices.

function houses(figure) {
  const found = find('.found', figure);
  const fit = new Fit('values', { loss: 'mse', ...SGD });
  const scale = [100, 35];
  // Prices are learned in hundreds, around 300, so that one learning rate suits weight and bias.
  const [middle, unit] = [300, 100];
  let [points, line, seed] = [[], [], 1];
  const inTurn = queue();
  const chart = new Chart(find('.chart', figure), {
    x: [30, 170], y: [0, 600],
    xLabel: () => say('area in m²', '面积（m²）'),
    summary: () => say('Houses as dots, price by area; a line, and between each house and the line the square of its error', '房屋为散点（价格与面积）；一条直线，以及每所房子与直线之间的误差方块'),
  });

  function sample() {
    const uniform = random(seed);
    points = Array.from({ length: 14 }, () => {
      const area = Math.round(40 + 120 * uniform());
      return [area, Math.round(BASE + PER_AREA * area + 2 * PRICE_NOISE * normal(uniform))];
    });
  }

  async function show() {
    const at = [...chart.x, ...points.map(([area]) => area)];
    const outputs = (await fit.outputs(at)).map(output => middle + unit * output);
    line = chart.x.map((area, index) => [area, outputs[index]]);
    chart.series = [
      { kind: 'squares', colour: 1, points: points.map(([area, price], index) => [area, price, outputs[index + 2]]) },
      { colour: 2, style: 'thin dashed', points: chart.x.map(area => [area, BASE + PER_AREA * area]) },
      { colour: 0, points: line },
    ];
    chart.paint();
    const perArea = (line[1][1] - line[0][1]) / (chart.x[1] - chart.x[0]);
    const base = line[0][1] - perArea * chart.x[0];
    const slope = `${perArea < 0 ? '−' : '+'} <b>${fixed(Math.abs(perArea), 2)}</b>`;
    const loss = fit.loss * unit * unit;
    const steps = thousands(fit.steps);
    found.innerHTML = say(
      `After <b>${steps}</b> steps: price = <b>${fixed(base, 0)}</b> ${slope} · area; the law has ${BASE} and ${fixed(PER_AREA, 2)}.`
        + (Number.isFinite(loss) ? ` Mean squared error of the last step: <b>${digits(loss)}</b>.` : ''),
      `<b>${steps}</b> 步之后：价格 = <b>${fixed(base, 0)}</b> ${slope} · 面积；规律是 ${BASE} 和 ${fixed(PER_AREA, 2)}。`
        + (Number.isFinite(loss) ? `最后一步的均方误差：<b>${digits(loss)}</b>。` : ''),
    );
  }

  const fail = error => failed(found, error);
  const begin = async () => {
    fit.settings.learning_rate = 10 ** Number(set.input('rate').value);
    await fit.start(points.map(([area]) => area), points.map(([, price]) => (price - middle) / unit), scale);
  };
  const restart = () => begin().then(show);
  // Once it has learned, the line follows the houses.
  const relearn = async () => {
    const steps = fit.steps;
    await begin();
    if (steps) await fit.step(steps);
    await show();
  };
  const [reset, follow] = [restart, relearn].map(job => () => inTurn(job).catch(fail));
  const set = controls(figure, {
    step: () => inTurn(() => fit.step(1).then(show)).catch(fail),
    reset: () => { loop.stop(); reset(); },
    other: () => { seed += 1; sample(); chart.paint(); follow(); },
  });
  const loop = new Loop(set.button('train'), () => inTurn(async () => {
    if (fit.steps >= 400) await begin();
    await fit.step(pace(fit.steps));
    await show();
    return fit.steps < 400;
  }), fail);
  const showRate = slider(set.input('rate'), power => digits(10 ** power, 2), () => { loop.stop(); reset(); });
  const clamp = (value, [low, high]) => Math.max(low, Math.min(high, value));
  const move = (index, area, price) => {
    points[index] = [Math.round(clamp(area, chart.x)), Math.round(clamp(price, chart.y))];
    chart.paint();
    follow();
  };
  chart.grab({
    points: () => points.map(([area, price]) => [area, price, 5]),
    move,
    nudge: (index, right, up) => move(index, points[index][0] + right, points[index][1] + 5 * up),
    name: index => say(`house ${index + 1} of ${points.length}`, `第 ${index + 1} 所房子，共 ${points.length} 所`),
    value: index => say(`${points[index][0]} m², price ${points[index][1]}`, `${points[index][0]} m²，价格 ${points[index][1]}`),
  });
  sample();
  reset();
  inEveryLanguage(() => {
    showRate();
    showLegend(find('.legend', figure), [
      [say('houses', '房屋'), 5, true], [say('the line', '直线'), 0], [say('squared errors', '误差的平方'), 1], [say('law', '规律'), 2],
    ]);
    if (line.length) inTurn(show).catch(fail);
    else chart.paint();
  });
}

// Classes.

/** The bundled digits: shape of a picture, and features and labels of both parts. */
async function bundledDigits() {
  const worker = formulas();
  const { shape: [height, width], features } = await worker.call('Data.digits');
  const part = async name => ({
    features: await worker.call('data.features', name), labels: Array.from(await worker.call('data.targets', name)), width: features,
  });
  return { shape: [height, width], train: await part('train'), test: await part('test') };
}

/** The features of one example. */
const exampleOf = ({ features, width }, at) => features.subarray(at * width, (at + 1) * width);

function classes(figure, data) {
  const place = find('.onehots', figure);
  let first = 0;
  const show = latest(async () => {
    const { shape, test } = await data();
    const figures = [];
    const seen = new Set();
    for (let at = first; figures.length < 4; at += 1) {
      const label = test.labels[at % test.labels.length];
      if (seen.has(label)) continue;
      seen.add(label);
      const canvas = make('canvas', { role: 'img', 'aria-label': say(`a handwritten ${label}`, `手写的 ${label}`) });
      drawPicture(canvas, exampleOf(test, at % test.labels.length), ...shape);
      const cells = Array.from({ length: 10 }, (_, index) => index === label ? make('b', {}, '1') : '0');
      figures.push(make('figure', {}, canvas, make('figcaption', {}, `${label} → [`, ...cells.flatMap((cell, index) => index ? [',\u200b', cell] : [cell]), ']')));
    }
    place.replaceChildren(...figures);
  });
  controls(figure, { other: () => { first += 17; show(); } });
  inEveryLanguage(() => show().catch(error => failed(place, error)));
}

// Labels are samples.

function sizes(uniform, count, largest) {
  const all = [];
  while (all.length < count) {
    // Sizes have a long tail.
    const size = Math.round(10 * 2 * Math.exp(normal(uniform))) / 10;
    if (size >= 0.2 && size <= largest) all.push(size);
  }
  return all;
}

/** The law's probability for each of these sizes. */
async function law(all) {
  const answers = await Promise.all(all.map(size => formulas().call('sigmoid_of', (size - BOUNDARY) / WIDTH, 0)));
  return answers.map(({ probability }) => probability);
}

/** The law's curve from 0 to a largest size; computed once for each. */
const curves = new Map();
async function lawCurve(largest) {
  if (!curves.has(largest)) {
    const grid = range(0, largest, 81);
    curves.set(largest, law(grid).then(chances => grid.map((size, at) => [size, chances[at]])));
  }
  return curves.get(largest);
}

function samples(figure) {
  const found = find('.found', figure);
  let seed = 2;
  const chart = new Chart(find('.chart', figure), {
    x: [0, 8], y: [-0.08, 1.08],
    xLabel: () => say('tumour size in cm', '肿瘤大小（cm）'),
    summary: () => say('The law rises from 0 to 1 around 3 cm; labels lie at 0 and 1; the shares of groups follow the law', '规律在 3 cm 附近由 0 升到 1；标签落在 0 和 1 上；分组比例沿着规律走'),
  });
  const show = latest(async () => {
    try {
      const count = Number(set.input('count').value);
      const uniform = random(seed);
      // All sizes are drawn before the first label, so that more tumours keep those that are there.
      const all = sizes(uniform, 2000, 8).slice(0, count);
      const chances = await law(all);
      const chance = random(seed + 1000);
      const points = all.map((size, at) => [size, Number(chance() < chances[at])]).sort((a, b) => a[0] - b[0]);
      const group = Math.max(5, Math.round(count / 15));
      const shares = [];
      for (let start = 0; start + group <= points.length; start += group) {
        const part = points.slice(start, start + group);
        shares.push([0, 1].map(of => part.reduce((sum, point) => sum + point[of], 0) / group));
      }
      const doubtful = points.filter(([size]) => size >= 2.7 && size <= 3.3);
      const malignant = doubtful.filter(([, label]) => label).length;
      chart.series = [
        { kind: 'dots', colour: 5, points: points.map(([size, label], at) => [size, label + 0.05 * ((at * 7 % 11) / 10 - 0.5), 2.5]) },
        { colour: 2, points: await lawCurve(8) },
        { colour: 1, style: 'thin', points: shares },
        { kind: 'dots', colour: 1, points: shares.map(share => [...share, 4]) },
      ];
      showLegend(find('.legend', figure), [
        [say('labels', '标签'), 5, true], [say('the true law', '真实规律'), 2], [say(`malignant share of ${group}`, `每 ${group} 个中恶性的比例`), 1, true],
      ]);
      chart.paint();
      found.innerHTML = say(
        `${count} tumours, ${group} in a group. Of the <b>${doubtful.length}</b> between 2.7 and 3.3 cm, <b>${malignant}</b> are malignant: the size does not decide.`,
        `${count} 个肿瘤，每组 ${group} 个。大小在 2.7 到 3.3 cm 之间的 <b>${doubtful.length}</b> 个中，<b>${malignant}</b> 个是恶性：大小并不能决定结果。`,
      );
    } catch (error) {
      failed(found, error);
    }
  });
  const set = controls(figure, { other: () => { seed += 1; show(); } });
  const showCount = slider(set.input('count'), thousands, show);
  inEveryLanguage(() => { showCount(); show(); });
}

// Softmax.

/** A bar for a share, or, if `isBoth`, for a number in −1..1. */
function bar(isBoth) {
  const [fill, text] = [make('i'), make('b')];
  const element = make('div', { class: isBoth ? 'bar both' : 'bar' }, fill, text);
  element.show = (value, words) => {
    element.style.setProperty('--v', value);
    element.classList.toggle('minus', value < 0);
    text.textContent = words;
  };
  return element;
}

function softmax(figure) {
  const [place, found] = [find('.scores', figure), find('.found', figure)];
  const first = [3, 1, -3];
  let label = 0;
  const lines = first.map((score, index) => {
    const input = make('input', { type: 'range', min: -6, max: 6, step: 0.1, value: score, 'data-score': index });
    const value = make('output', { class: 'value' });
    const radio = make('input', { type: 'radio', name: 'softmax-label', checked: index === 0 });
    const line = { input, value, radio, name: make('span'), p: bar(false), push: bar(true), labelText: make('span') };
    const p = make('div', { class: 'p' }, line.p);
    const push = make('div', { class: 'push' }, line.push);
    place.append(make('div', { class: 'score' }, line.name, input, value, p, make('label', { class: 'check label' }, radio, line.labelText), push));
    Object.assign(line, { pCell: p, pushCell: push });
    input.addEventListener('input', show);
    radio.addEventListener('change', () => { label = index; show(); });
    return line;
  });
  const head = ['name', 'score', 'value', 'p', 'label', 'push'].map(() => make('span'));
  place.prepend(make('div', { class: 'score head', 'aria-hidden': 'true' }, ...head));

  const compute = latest(async () => {
    try {
      const scores = lines.map(line => Number(line.input.value));
      const of = label;
      const isShifted = set.input('shift').checked;
      const sent = isShifted ? scores.map(score => score + 10) : scores;
      const [{ probabilities, loss, gradient }, without] = await Promise.all([
        formulas().call('softmax_of', Float32Array.from(sent), of),
        formulas().call('softmax_of', Float32Array.from(scores), of),
      ]);
      lines.forEach((line, index) => {
        line.value.textContent = fixed(sent[index], 1);
        line.input.setAttribute('aria-valuetext', fixed(sent[index], 1));
        line.p.show(probabilities[index], fixed(probabilities[index], 2));
        line.push.show(gradient[index], fixed(gradient[index], 2));
      });
      const sum = probabilities.reduce((sum, p) => sum + p, 0);
      const list = values => Array.from(values, value => `<b>${fixed(value, 2)}</b>`).join(say(', ', '、'));
      const names = sent.map(score => fixed(score, Number.isInteger(score) ? 0 : 1)).join(say(', ', '、'));
      const moved = Math.max(...probabilities.map((p, index) => Math.abs(p - without.probabilities[index])));
      const shifted = !isShifted ? '' : moved === 0
        ? say(' Only differences of scores count: no probability changed at all.', '起作用的只是分数之间的差：各个概率丝毫未变。')
        : say(` Only differences of scores count: no probability changed by more than ${small(moved)}.`, `起作用的只是分数之间的差：各个概率的变化都不超过 ${small(moved)}。`);
      found.innerHTML = say(
        `Scores of ${names} become ${list(probabilities)}, together ${fixed(sum, 2)}. If class ${of + 1} is right, the loss is <b>${logarithm(probabilities[of], loss, 2)}</b>.${shifted}`,
        `分数 ${names} 变成 ${list(probabilities)}，合计 ${fixed(sum, 2)}。如果类别 ${of + 1} 是对的，损失是 <b>${logarithm(probabilities[of], loss, 2)}</b>。${shifted}`,
      );
    } catch (error) {
      failed(found, error);
    }
  });
  function show() { compute(); }
  const set = controls(figure, {
    reset: () => {
      lines.forEach((line, index) => { line.input.value = first[index]; });
      set.input('shift').checked = false;
      lines[0].radio.checked = true;
      label = 0;
      show();
    },
  });
  set.input('shift').addEventListener('change', show);
  inEveryLanguage(() => {
    const titles = say(['class', 'score z', '', 'probability p', 'label', 'p − one-hot'], ['类别', '分数 z', '', '概率 p', '标签', 'p − one-hot']);
    head.forEach((cell, index) => { cell.textContent = titles[index]; });
    lines.forEach((line, index) => {
      const name = say(`class ${index + 1}`, `类别 ${index + 1} `);
      line.name.textContent = name;
      line.labelText.textContent = say('is the label', '是标签');
      line.input.setAttribute('aria-label', say(`score of ${name}`, `${name}的分数`));
      line.radio.setAttribute('aria-label', say(`${name} is the label`, `${name}是标签`));
      line.pCell.dataset.name = titles[3];
      line.pushCell.dataset.name = titles[5];
    });
    show();
  });
}

// Two outputs or one.

function two(figure) {
  const [pair, found] = [find('.pair', figure), find('.found', figure)];
  const chart = new Chart(find('.chart', figure), {
    x: [-8, 8], y: [0, 1],
    xLabel: () => say('difference of scores, z₁ − z₀', '分数之差 z₁ − z₀'),
    summary: () => say('The dots of softmax over two outputs lie on the curve of the sigmoid', '两个输出的 softmax 的各点都落在 sigmoid 曲线上'),
  });
  const lines = [0, 1].map(colour => {
    const [name, fill] = [make('dt'), bar(false)];
    pair.append(make('div', {}, name, make('dd', {}, fill)));
    return { name, fill, colour };
  });
  const set = controls(figure, {});
  const inputs = ['z0', 'z1', 'difference'].map(name => set.input(name));
  const compute = latest(async () => {
    try {
      const [z0, z1] = inputs.map(input => Number(input.value));
      const grid = range(-8, 8, 65);
      const dots = range(-8, 8, 17);
      const [soft, one, curve, along] = await Promise.all([
        formulas().call('softmax_of', Float32Array.of(z0, z1), 1),
        formulas().call('sigmoid_of', z1 - z0, 1),
        two.curve ??= Promise.all(grid.map(difference => formulas().call('sigmoid_of', difference, 1))),
        two.dots ??= Promise.all(dots.map(difference => formulas().call('softmax_of', Float32Array.of(-difference / 2, difference / 2), 1))),
      ]);
      lines[0].fill.show(soft.probabilities[1], fixed(soft.probabilities[1], 4));
      lines[1].fill.show(one.probability, fixed(one.probability, 4));
      chart.series = [
        { colour: 0, points: grid.map((difference, at) => [difference, curve[at].probability]) },
        { kind: 'dots', colour: 1, points: dots.map((difference, at) => [difference, along[at].probabilities[1], 3.5]) },
        { colour: 5, style: 'thin dashed', points: [[z1 - z0, 0], [z1 - z0, one.probability], [-8, one.probability]] },
        { kind: 'dots', colour: 0, points: [[z1 - z0, one.probability, 7]] },
      ];
      chart.paint();
      const distance = Math.abs(soft.probabilities[1] - one.probability);
      found.innerHTML = say(
        `A difference of <b>${fixed(z1 - z0, 1)}</b> gives <b>${fixed(soft.probabilities[1], 4)}</b> by softmax and <b>${fixed(one.probability, 4)}</b> by the sigmoid; they differ by ${small(distance)}.`,
        `分数相差 <b>${fixed(z1 - z0, 1)}</b> 时，softmax 给出 <b>${fixed(soft.probabilities[1], 4)}</b>，sigmoid 给出 <b>${fixed(one.probability, 4)}</b>；两者相差 ${small(distance)}。`,
      );
    } catch (error) {
      failed(found, error);
    }
  });
  const shows = inputs.map((input, index) => slider(input, value => fixed(value, 1), () => {
    if (index === 2) {
      // Both scores move by the same, in opposite directions, as training moves them.
      const [z0, z1] = inputs.map(input => Number(input.value));
      const by = (Number(input.value) - (z1 - z0)) / 2;
      inputs[0].value = z0 - by;
      inputs[1].value = Number(inputs[0].value) + Number(input.value);
    }
    inputs[2].value = Number(inputs[1].value) - Number(inputs[0].value);
    shows.forEach(show => show());
    compute();
  }));
  inEveryLanguage(() => {
    lines[0].name.textContent = say('softmax, two outputs', 'softmax，两个输出');
    lines[1].name.textContent = say('sigmoid, one output', 'sigmoid，一个输出');
    showLegend(find('.legend', figure), [[say('sigmoid, one output', 'sigmoid，一个输出'), 0], [say('softmax, two outputs', 'softmax，两个输出'), 1, true]]);
    shows.forEach(show => show());
    compute();
  });
}

// Line against sigmoid.

function fits(figure) {
  const found = find('.found', figure);
  const largest = 12;
  const chart = new Chart(find('.chart', figure), {
    x: [0, largest], y: [-0.25, 1.5],
    xLabel: () => say('tumour size in cm', '肿瘤大小（cm）'),
    summary: () => summary,
  });
  const scale = [5, 3];
  const both = [
    new Fit('values', { loss: 'mse', learning_rate: 0.08, ...SGD }),
    new Fit('classes', { loss: 'bce', learning_rate: 1, ...SGD, momentum: 0.9 }),
  ];
  const steps = 600;
  let [points, seed, summary] = [[], 5, ''];
  const inTurn = queue();

  async function sample() {
    const uniform = random(seed);
    const all = sizes(uniform, 36, largest);
    const chances = await law(all);
    points = all.map((size, at) => [size, Number(uniform() < chances[at])]);
  }
  const fail = error => failed(found, error);
  async function begin() {
    const [inputs, labels] = [0, 1].map(of => points.map(point => point[of]));
    await Promise.all(both.map(fit => fit.start(inputs, labels, scale, steps)));
  }
  async function show() {
    const grid = range(0, largest, 61);
    const curves = await Promise.all(both.map(fit => fit.outputs(grid)));
    const truth = await lawCurve(largest);
    const [line, sigmoid] = curves.map(outputs => grid.map((size, at) => [size, outputs[at]]));
    const [atLine, atSigmoid] = [line, sigmoid].map(curve => crossing(curve, 0.5));
    const boundary = (at, colour) => ({ colour, style: 'thin dashed', points: [[at, -0.25], [at, 0.5]] });
    chart.series = [
      { colour: 2, style: 'faint wide', points: truth }, { colour: 2, points: truth },
      { colour: 1, points: line }, { colour: 0, points: sigmoid },
      boundary(atLine, 1), boundary(atSigmoid, 0),
    ];
    chart.paint();
    const place = at => Number.isFinite(at) ? say(`<b>${fixed(at, 2)} cm</b>, ${fixed(Math.abs(at - BOUNDARY), 2)} cm off`, `<b>${fixed(at, 2)} cm</b>，差 ${fixed(Math.abs(at - BOUNDARY), 2)} cm`) : say('nowhere yet', '还没有');
    const high = line[line.length - 1][1];
    found.innerHTML = say(
      `The law's boundary is at ${fixed(BOUNDARY, 2)} cm. After <b>${thousands(both[0].steps)}</b> steps the line's is at ${place(atLine)}, and the sigmoid's at ${place(atSigmoid)}. For ${largest} cm the line says <b>${fixed(high, 2)}</b>.`,
      `规律的分界点在 ${fixed(BOUNDARY, 2)} cm。<b>${thousands(both[0].steps)}</b> 步之后，直线的分界点：${place(atLine)}；sigmoid 的：${place(atSigmoid)}。对 ${largest} cm，直线给出 <b>${fixed(high, 2)}</b>。`,
    );
    summary = found.textContent;
  }
  const step = count => Promise.all(both.map(fit => fit.step(count)));
  const restart = () => begin().then(show);
  const relearn = () => begin().then(() => step(steps)).then(show);
  const [reset, follow] = [restart, relearn].map(job => () => inTurn(job).catch(fail));
  const changed = () => { loop.stop(); chart.paint(); follow(); };
  const set = controls(figure, {
    step: () => inTurn(() => step(1).then(show)).catch(fail),
    reset: () => { loop.stop(); reset(); },
    large: () => { points.push([9, 1], [10, 1], [11, 1], [11.5, 1]); changed(); },
    other: () => { seed += 1; inTurn(sample).catch(fail); changed(); },
  });
  const loop = new Loop(set.button('train'), () => inTurn(async () => {
    if (both[0].done) await begin();
    await step(pace(both[0].steps));
    await show();
    return !both[0].done;
  }), fail);
  const move = (index, size, label) => {
    const before = points[index].join();
    points[index] = [Math.round(10 * Math.max(0.1, Math.min(largest, size))) / 10, Number(label > 0.5)];
    if (before !== points[index].join()) changed();
  };
  chart.grab({
    points: () => points.map(([size, label]) => [size, label, label ? 3 : 5]),
    move,
    nudge: (index, right, up) => move(index, points[index][0] + 0.1 * right, points[index][1] + up),
    add: (size, label) => { points.push([]); move(points.length - 1, size, label); },
    remove: index => { if (points.length > 4) points.splice(index, 1); changed(); },
    name: index => say(`tumour ${index + 1} of ${points.length}`, `第 ${index + 1} 个肿瘤，共 ${points.length} 个`),
    value: index => say(`${fixed(points[index][0], 1)} cm, ${points[index][1] ? 'malignant' : 'benign'}`, `${fixed(points[index][0], 1)} cm，${points[index][1] ? '恶性' : '良性'}`),
  });
  inTurn(sample).catch(fail);
  reset();
  inEveryLanguage(() => {
    showLegend(find('.legend', figure), [
      [say('malignant (1)', '恶性（1）'), 3, true], [say('benign (0)', '良性（0）'), 5, true], [say('line, mean squared error', '直线，均方误差'), 1],
      [say('sigmoid, cross-entropy', 'sigmoid，交叉熵'), 0], [say('the true law', '真实规律'), 2],
    ]);
    if (both[1].worker) inTurn(show).catch(fail);
  });
}

// Three losses.

function losses(figure, data) {
  const [found, says] = [find('.found', figure), find('.says', figure)];
  const epochs = 30;
  // Rates that `softstep explain` finds best for each of the losses, without and with hidden units.
  const rates = { false: [0.015, 0.15, 0.5], true: [0.05, 0.5, 0.15] };
  const chart = new Chart(find('.chart', figure), {
    x: [0, epochs], y: [0, 1], percent: true,
    xLabel: () => say('epoch', '轮数'),
    summary: () => say('One curve for each loss; the class number stays far below the other two', '每种损失一条曲线；类别编号远低于另外两条'),
  });
  let [runs, examples, looked] = [[], null, 3];
  const inTurn = queue();

  async function read() {
    examples ??= await data();
    return examples;
  }

  async function begin() {
    const { train } = await read();
    const hidden = set.input('hidden').checked;
    const kinds = ['number', 'one-hot', 'cross-entropy'];
    runs = await Promise.all(kinds.map(async (kind, index) => {
      const worker = runs[index]?.worker ?? new Engine();
      const targets = kind === 'number' ? 'values' : 'classes';
      await worker.call('Data.from_values', train.features, train.width, Float32Array.from(train.labels), targets);
      await worker.call('Run.create', {
        hidden: hidden ? [32] : [], activation: 'tanh', loss: kind === 'cross-entropy' ? 'cross-entropy' : 'mse', batch_size: 64, epochs,
        learning_rate: rates[hidden][index], seed: 0, ...SGD, momentum: 0.9, schedule: 'cosine',
      }, 'cpu');
      return { kind, worker, curve: [], steps: 0, done: false };
    }));
    await test();
  }

  const perEpoch = () => Math.ceil(examples.train.labels.length / 64);
  /** The class of a row of outputs: the nearest one to a single output, otherwise that of the largest. */
  const classOf = row => row.length === 1 ? Math.max(0, Math.min(9, Math.round(row[0]))) : row.indexOf(Math.max(...row));

  async function test() {
    const { features, labels } = examples.test;
    await Promise.all(runs.map(async run => {
      const answer = await run.worker.call('run.outputs', features);
      run.outputs = rows(answer, labels.length);
      const right = run.outputs.filter((row, at) => classOf(row) === labels[at]).length;
      run.wrong = labels.length - right;
      run.curve.push([run.steps / perEpoch(), right / labels.length]);
    }));
    show();
  }

  function show() {
    chart.series = runs.map((run, index) => ({ colour: [1, 2, 0][index], points: run.curve }));
    chart.paint();
    if (!runs.length || !runs[0].outputs) return;
    const last = runs.map(run => run.curve[run.curve.length - 1][1]);
    const count = examples.test.labels.length;
    const isDone = runs.every(run => run.done);
    found.innerHTML = say(
      `Of ${count} test digits right: <b>${percent(last[0])}</b> as class numbers, <b>${percent(last[1])}</b> as one-hot labels, <b>${percent(last[2])}</b> by cross-entropy.`
        + (isDone ? ` The class number costs ${fixed(100 * (last[2] - last[0]), 1)} percentage points: ${runs[0].wrong} digits wrong in place of ${runs[2].wrong}.` : ''),
      `${count} 个测试数字的正确率：学类别编号 <b>${percent(last[0])}</b>，学 one-hot 标签 <b>${percent(last[1])}</b>，用交叉熵 <b>${percent(last[2])}</b>。`
        + (isDone ? `学类别编号，正确率低了 ${fixed(100 * (last[2] - last[0]), 1)} 个百分点：错了 ${runs[0].wrong} 个，而交叉熵错了 ${runs[2].wrong} 个。` : ''),
    );
    showSays();
  }

  /** What the three models say to one picture. */
  function showSays() {
    const at = looked % examples.test.labels.length;
    const label = examples.test.labels[at];
    says.canvas ??= make('canvas', { role: 'img' });
    says.canvas.setAttribute('aria-label', say(`a handwritten ${label}`, `手写的 ${label}`));
    drawPicture(says.canvas, exampleOf(examples.test, at), ...examples.shape);
    const best = row => Array.from(row, (p, index) => [p, index]).sort((a, b) => b[0] - a[0]).slice(0, 2);
    const [number, oneHot, cross] = runs.map(run => run.outputs[at]);
    const list = row => best(row).map(([p, index]) => `${index}: ${fixed(p, 2)}`).join(say(', ', '，'));
    const texts = [
      [say('as a number', '当作数值'), fixed(number[0], 1)], [say('one-hot, largest two', 'one-hot，最大的两个'), list(oneHot)],
      [say('probabilities, largest two', '概率，最大的两个'), list(cross)],
    ];
    says.replaceChildren(says.canvas, ...texts.flatMap(([name, text]) => [make('h4', {}, name), make('p', {}, text)]));
  }

  const fail = error => failed(found, error);
  const reset = () => inTurn(begin).catch(fail);
  const set = controls(figure, {
    reset: () => { loop.stop(); reset(); },
    other: async () => {
      // A digit that the number model gets wrong says more than one that all get right.
      looked += 1;
      try {
        const count = examples.test.labels.length;
        for (let tries = 0; tries < count && classOf(runs[0].outputs[looked % count]) === examples.test.labels[looked % count]; tries += 1) looked += 1;
        showSays();
      } catch (error) {
        fail(error);
      }
    },
  });
  const loop = new Loop(set.button('train'), () => inTurn(async () => {
    if (!runs.length || runs.every(run => run.done)) await begin();
    const count = runs[0].curve.length < 8 ? 4 : perEpoch();
    await Promise.all(runs.map(async run => {
      const { step, done } = await run.worker.call('run.step', count);
      run.steps = step;
      run.done = done;
    }));
    await test();
    return !runs.every(run => run.done);
  }), fail, () => [say('Train all three', '训练这三个模型'), say('Pause', '暂停')]);
  set.input('hidden').addEventListener('change', () => { loop.stop(); reset(); });
  reset();
  inEveryLanguage(() => {
    const names = say(['class number, squared error', 'one-hot, squared error', 'softmax, cross-entropy'], ['类别编号，均方误差', 'one-hot，均方误差', 'softmax，交叉熵']);
    showLegend(find('.legend', figure), names.map((name, index) => [name, [1, 2, 0][index]]));
    show();
  });
}

// One step.

function oneStep(figure) {
  const [phase, sum, place, found] = ['.phase', '.sum', '.matrices', '.found'].map(name => find(name, figure));
  const start = {
    false: [[0.5, -0.2, 0.1, -0.3, 0.4, 0.2, 0, 0, 0]],
    true: [[0.6, -0.5, -0.1, 0.4, 0.1, 0], [0.5, -0.2, 0.1, -0.3, 0.4, 0.2, 0, 0, 0]],
  };
  let [weights, step, walk, at, taken] = [null, null, [], 0, 0];
  const set = controls(figure, {
    back: () => go(at - 1),
    next: () => go(at + 1),
    again: () => { weights = step.layers.map(layer => layer.updated); taken += 1; compute(0); },
    reset: () => { weights = null; taken = 0; compute(0); },
  });
  const words = () => ({
    phases: say(['forward', 'loss', 'backward', 'update'], ['前向', '损失', '反向', '更新']),
    bias: say('bias', '偏置'),
    // In Chinese a space stands between a number and the word after it.
    class: index => say(`class ${index}`, `类别 ${index} `),
    unit: index => say(`unit ${index + 1}`, `单元 ${index + 1} `),
  });

  /** The tables of all numbers, and the order in which they are computed. */
  function plan() {
    const { bias, class: ofClass, unit } = words();
    const tables = [];
    const numbers = [];
    const table = (id, title, values, rowNames, columnNames, decimals = 4) => tables.push({ id, title, values, rowNames, columnNames, decimals });
    const key = (id, index) => `${id}:${index}`;
    const n = (value, decimals = 4) => factor(value, decimals);
    const add = (phase, id, index, text, parts) => numbers.push({ phase, key: key(id, index), text, parts });
    const { layers, label } = step;
    const last = layers.length - 1;
    const inputNames = layer => layer === 0 ? ['x1', 'x2'] : Array.from({ length: layers[layer].inputs }, (_, index) => unit(index));
    const outputNames = layer => Array.from({ length: layers[layer].outputs }, (_, index) => layer === last ? ofClass(index) : unit(index));
    const inputId = layer => layer === 0 ? 'x' : `h${layer - 1}`;
    table('x', say('Features', '特征'), step.inputs, [''], ['x1', 'x2'], 1);
    layers.forEach((layer, number) => {
      const hidden = number < last;
      const suffix = last ? (hidden ? say(', hidden layer', '，隐藏层') : say(', last layer', '，最后一层')) : '';
      table(`w${number}`, say('Weights', '权重') + suffix, layer.weights, [...inputNames(number), bias], outputNames(number), 4);
      table(`z${number}`, hidden ? say('Sums', '加权和') : say('Scores z', '分数 z'), layer.sums, [''], outputNames(number));
      for (let to = 0; to < layer.outputs; to += 1) {
        const terms = Array.from({ length: layer.inputs }, (_, from) => `${n(layer.input[from], number ? 4 : 1)} · ${n(layer.weights[from * layer.outputs + to])}`);
        const ofBias = layer.weights[layer.inputs * layer.outputs + to];
        const printed = asPrinted(ofBias, 4) + terms.reduce((sum, _, from) => sum + asPrinted(layer.input[from], 4) * asPrinted(layer.weights[from * layer.outputs + to], 4), 0);
        const name = outputNames(number)[to];
        add(0, `z${number}`, to,
          say(`${hidden ? 'Sum of' : 'Score of'} ${name}: features times weights, and the bias.`, `${name}的${hidden ? '加权和' : '分数'}：特征乘以权重再求和，加上偏置。`)
            + ` ${terms.join(' + ')} + ${n(ofBias)} <b>${equals(printed, layer.sums[to], 4)}</b>`,
          [...Array.from({ length: layer.inputs }, (_, from) => key(inputId(number), from)), ...Array.from({ length: layer.inputs + 1 }, (_, from) => key(`w${number}`, from * layer.outputs + to))]);
      }
      if (hidden) {
        table(`h${number}`, say('Outputs, tanh', '输出，tanh'), layer.output, [''], outputNames(number));
        layer.output.forEach((value, to) => add(0, `h${number}`, to,
          say(`Output of ${outputNames(number)[to]}.`, `${outputNames(number)[to]}的输出。`) + ` tanh ${n(layer.sums[to])} <b>= ${fixed(value, 4)}</b>`, [key(`z${number}`, to)]));
      }
    });
    const classNames = outputNames(last);
    const scores = step.scores;
    table('p', say('Probabilities p', '概率 p'), step.probabilities, [''], classNames);
    step.probabilities.forEach((p, index) => add(0, 'p', index,
      say(`Probability of ${classNames[index]}: softmax of the scores.`, `${classNames[index]}的概率：对分数做 softmax。`)
        + ` e<sup>${fixed(scores[index], 4)}</sup> / (${scores.map(score => `e<sup>${fixed(score, 4)}</sup>`).join(' + ')}) <b>= ${fixed(p, 4)}</b>`,
      scores.map((_, other) => key(`z${last}`, other))));
    table('l', say('Loss', '损失'), [step.loss], [''], ['']);
    add(1, 'l', 0, say(`Loss: only the label's probability counts, and the label is ${classNames[label]}.`, `损失：只看标签那一类的概率，标签是${classNames[label]}。`)
      + ` <b>${logarithm(step.probabilities[label], step.loss, 4)}</b>`, [key('p', label)]);
    for (let number = last; number >= 0; number -= 1) {
      const layer = layers[number];
      const hidden = number < last;
      const names = outputNames(number);
      table(`dz${number}`, hidden ? say('Loss by sum', '损失对加权和') : 'p − one-hot', layer.d_sums, [''], names);
      layer.d_sums.forEach((value, to) => {
        if (!hidden) {
          const hot = Number(to === label);
          add(2, `dz${number}`, to, say(`How the loss changes with the score of ${names[to]}: what was said minus what is true.`, `损失随${names[to]}的分数的变化：“说的”减去“真的”。`)
            + ` ${fixed(step.probabilities[to], 4)} − ${hot} <b>${equals(asPrinted(step.probabilities[to], 4) - hot, value, 4)}</b>`, [key('p', to)]);
        } else {
          const above = layers[number + 1];
          const terms = above.d_sums.map((d, up) => `${n(above.weights[to * above.outputs + up])} · ${n(d)}`);
          const back = above.d_sums.reduce((sum, d, up) => sum + asPrinted(above.weights[to * above.outputs + up], 4) * asPrinted(d, 4), 0);
          const slope = 1 - asPrinted(layer.output[to], 4) ** 2;
          add(2, `dz${number}`, to, say(`What comes back to ${names[to]}, times the slope of tanh, 1 − output².`, `传回${names[to]}的量，乘以 tanh 的斜率 1 − 输出²。`)
            + ` (${terms.join(' + ')}) · (1 − ${n(layer.output[to])}²) <b>${equals(back * slope, value, 4)}</b>`,
          [...above.d_sums.map((_, up) => key(`dz${number + 1}`, up)), ...above.d_sums.map((_, up) => key(`w${number + 1}`, to * above.outputs + up)), key(`h${number}`, to)]);
        }
      });
      const rowNames = [...inputNames(number), bias];
      table(`g${number}`, say('Gradient', '梯度'), layer.d_weights, rowNames, names);
      layer.d_weights.forEach((value, index) => {
        const [from, to] = [Math.floor(index / layer.outputs), index % layer.outputs];
        const input = from < layer.inputs ? layer.input[from] : 1;
        add(2, `g${number}`, index,
          say(`How the loss changes with the weight of ${rowNames[from]} for ${names[to]}: the feature it meets (a bias meets 1), times what comes back.`, `损失随“${rowNames[from].trim()} → ${names[to].trim()}”的权重的变化：与它相遇的特征（偏置遇到的是 1）乘以传回的量。`)
            + ` ${n(input, from < layer.inputs && number ? 4 : 1)} · ${n(layer.d_sums[to])} <b>${equals(asPrinted(input, 4) * asPrinted(layer.d_sums[to], 4), value, 4)}</b>`,
          [key(`dz${number}`, to), ...(from < layer.inputs ? [key(inputId(number), from)] : [])]);
      });
    }
    const rate = step.learning_rate;
    layers.forEach((layer, number) => {
      const rowNames = [...inputNames(number), bias];
      const names = outputNames(number);
      table(`u${number}`, say('Weights after', '更新后的权重'), layer.updated, rowNames, names);
      layer.updated.forEach((value, index) => add(3, `u${number}`, index,
        say(`The weight of ${rowNames[Math.floor(index / layer.outputs)]} for ${names[index % layer.outputs]} moves against its gradient, by the learning rate.`, `“${rowNames[Math.floor(index / layer.outputs)].trim()} → ${names[index % layer.outputs].trim()}”的权重按学习率逆着梯度移动。`)
          + ` ${fixed(layer.weights[index], 4)} − ${fixed(rate, 1)} · ${n(layer.d_weights[index])} <b>${equals(asPrinted(layer.weights[index], 4) - rate * asPrinted(layer.d_weights[index], 4), value, 4)}</b>`,
        [key(`w${number}`, index), key(`g${number}`, index)]));
    });
    return { tables, numbers };
  }

  function build() {
    const { tables, numbers } = plan();
    walk = numbers;
    const known = new Set(numbers.map(number => number.key));
    place.replaceChildren(...tables.map(({ id, title, values, rowNames, columnNames, decimals }) => {
      const columns = columnNames.length;
      const head = columnNames.some(Boolean)
        ? make('thead', {}, make('tr', {}, rowNames.length > 1 ? make('td') : null, ...columnNames.map(name => make('th', { scope: 'col' }, name)))) : null;
      const body = rowNames.map((name, row) => make('tr', {}, rowNames.length > 1 ? make('th', { scope: 'row' }, name) : null,
        ...columnNames.map((_, column) => {
          const key = `${id}:${row * columns + column}`;
          const text = fixed(values[row * columns + column], decimals);
          if (!known.has(key)) return make('td', { 'data-key': key }, text);
          const button = make('button', { type: 'button' }, text);
          button.addEventListener('click', () => go(walk.findIndex(number => number.key === key)));
          return make('td', { 'data-key': key }, button);
        })));
      const caption = make('h4', {}, title);
      return make('div', {}, caption, make('table', { 'aria-label': title }, head, make('tbody', {}, ...body)));
    }));
    mark();
  }

  function mark() {
    const { phases } = words();
    const { phase: of, key, text, parts } = walk[at];
    phase.replaceChildren(...phases.map((name, index) => make('span', index === of ? { class: 'now', 'aria-current': 'step' } : {}, `${index + 1}. ${name}`)));
    sum.innerHTML = text;
    const done = new Set(walk.slice(0, at + 1).map(number => number.key));
    const isNumber = new Set(walk.map(number => number.key));
    for (const cell of place.querySelectorAll('[data-key]')) {
      const name = cell.dataset.key;
      const isUnknown = isNumber.has(name) && !done.has(name);
      cell.classList.toggle('now', name === key);
      cell.classList.toggle('part', parts.includes(name));
      cell.firstElementChild?.classList.toggle('unknown', isUnknown);
    }
    set.button('back').disabled = at === 0;
    set.button('next').disabled = at === walk.length - 1;
    found.innerHTML = at < walk.length - 1 ? say(`Number ${at + 1} of ${walk.length}.`, `第 ${at + 1} 个数，共 ${walk.length} 个。`) : say(
      `With the new weights the loss is <b>${fixed(step.after.loss, 4)}</b> instead of <b>${fixed(step.loss, 4)}</b>. Then it all starts again${taken ? `; this was step ${taken + 1}` : ''}.`,
      `换上新权重，损失从 <b>${fixed(step.loss, 4)}</b> 变成 <b>${fixed(step.after.loss, 4)}</b>。然后一切重新开始${taken ? `；这是第 ${taken + 1} 步` : ''}。`);
  }

  function go(to) {
    at = Math.max(0, Math.min(walk.length - 1, to));
    if (walk.length) mark();
  }

  const ask = latest(async () => {
    const hidden = set.input('hidden').checked;
    try {
      step = await formulas().call('step_by_hand', JSON.stringify({
        inputs: [1, 2], outputs: 3, label: 0, hidden: hidden ? [2] : [], activation: 'tanh',
        learning_rate: Number(set.input('rate').value), weights: weights ?? start[hidden],
      }));
      if (typeof step === 'string') step = JSON.parse(step);
      at = Math.min(at, plan().numbers.length - 1);
      build();
    } catch (error) {
      failed(found, error);
    }
  });
  const compute = to => { at = to ?? at; ask(); };
  const loop = new Loop(set.button('play'), async isOn => {
    await pause(isStill.matches ? 2500 : 900);
    if (!isOn()) return false;
    go(at + 1);
    return at < walk.length - 1;
  }, error => failed(found, error), () => [say('Play', '播放'), say('Pause', '暂停')]);
  const showRate = slider(set.input('rate'), rate => fixed(rate, 1), () => compute());
  set.input('hidden').addEventListener('change', () => { weights = null; taken = 0; compute(0); });
  inEveryLanguage(() => {
    showRate();
    if (step) build();
    else compute();
  });
}

/** Starts each figure when it comes near the window, so that the page is there at once. */
export function startLesson() {
  let digitsRead;
  const data = () => (digitsRead ??= bundledDigits());
  const figures = {
    'figure-houses': houses, 'figure-classes': figure => classes(figure, data), 'figure-samples': samples, 'figure-softmax': softmax,
    'figure-two': two, 'figure-fits': fits, 'figure-losses': figure => losses(figure, data), 'figure-step': oneStep,
  };
  const observer = new IntersectionObserver(entries => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      observer.unobserve(target);
      figures[target.id](target);
    }
  }, { rootMargin: '600px' });
  for (const id of Object.keys(figures)) observer.observe(find(`#${id}`));
}
