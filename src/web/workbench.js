// The workbench: data, settings, training on GPU and CPU, and a look inside the model while it forms.

import { answerOf, showProbabilities, showSeen } from './answer.js';
import { Chart, Track, roundedUp, showLegend } from './chart.js';
import { coalesced, drawPicture, drawWeights, find, latest, make, pause, throttled } from './dom.js';
import { bytesOf, chosen, columnsOf, keep, takeDrops } from './files.js';
import { Pad } from './pad.js';
import { Engine } from './engine.js';
import { digits, fixed, inEveryLanguage, percent, say, thousands } from './text.js';

const NAMES = { gpu: 'GPU', cpu: 'CPU' };
/** Milliseconds between two looks inside a model in training. */
const LOOK = 350;
const MAX_PICTURES = 40;

/** A run on a backend, in a Worker of its own. */
class Lane {
  constructor(backend, heard) {
    Object.assign(this, { backend, heard });
    this.open();
    this.forget();
  }

  open() {
    this.worker = new Engine(({ event, progress, error }) => {
      if (event === 'progress') this.take(progress);
      else this.isRunning = false;
      this.heard(event, error, this);
    });
  }

  /** Forgets the run, not the data. */
  forget() {
    Object.assign(this, { run: null, losses: new Track(), tests: [], step: 0, epoch: 1, isRunning: false, isDone: false, isFailed: false, opened: null, isTrained: false, seconds: 0 });
  }

  async create(settings) {
    this.forget();
    this.run = await this.worker.call('Run.create', settings, this.backend);
  }

  take({ first_step, losses, step, epoch, epochs, done, milliseconds }) {
    losses.forEach((loss, at) => this.losses.add(first_step + at, loss));
    this.tests.push(...epochs);
    this.seconds += (milliseconds ?? 0) / 1000;
    Object.assign(this, { step, epoch, isDone: done });
    if (done) this.isRunning = false;
  }

  /** Steps in a second of training. */
  get speed() {
    return this.seconds > 0.05 ? this.step / this.seconds : NaN;
  }
}

export function startWorkbench(adapter) {
  const form = find('#settings');
  const buttons = Object.fromEntries(['train', 'one-step-button', 'stop', 'save', 'profile'].map(name => [name, find(`#${name}`)]));
  const [message, progressLine, progressBar, tiles] = ['#message', '#progress', '#progress-bar', '#tiles'].map(name => find(name));
  let [data, source, evaluation] = [null, null, null];
  let isChanged = true;
  let pendingTable = null;
  let shownMistakes = '';

  const lossChart = new Chart(find('#loss-chart'), {
    x: [0, 100], y: [0, 1], whole: true, xLabel: () => say('step', '步数'), summary: () => lossWords(),
  });
  const accuracyChart = new Chart(find('#accuracy-chart'), {
    x: [0, 10], y: [0, 1], percent: true, whole: true, xLabel: () => say('epoch', '轮数'), summary: () => accuracyWords(),
  });
  const lossWords = () => {
    const losses = main.losses;
    return losses.count ? say(`The loss goes from ${digits(losses.first)} in the first step to ${digits(losses.last)} in the last`, `第一步的损失为 ${digits(losses.first)}，最后一步为 ${digits(losses.last)}`) : say('No step has been taken yet', '还没有走过一步');
  };
  const scoreOf = test => test.accuracy ?? test.r_squared;
  const scoreName = () => data?.targets === 'values' ? 'R²' : say('accuracy', '正确率');
  const accuracyWords = () => main.tests.length ? say(`${scoreName()} after epoch ${main.tests.length}: ${percent(scoreOf(main.tests[main.tests.length - 1].test))}`, `第 ${main.tests.length} 轮之后的${scoreName()}：${percent(scoreOf(main.tests[main.tests.length - 1].test))}`) : say('No epoch has ended yet', '还没有完成一轮');

  const heard = (event, error, lane) => {
    if (event === 'failed') {
      // Training goes on from a new start.
      lane.isFailed = true;
      isChanged = true;
      fail(error, lane);
    }
    if (event === 'panic') {
      fail(error, lane);
      reopen(lane);
    }
    show();
    if (event === 'progress' && lane === main) look();
    if (lane.isDone && !lanes().some(lane => lane.isRunning)) finished();
  };
  const main = new Lane('cpu', heard);
  let rival = null;
  const lanes = () => rival ? [main, rival] : [main];
  const isRunning = () => lanes().some(lane => lane.isRunning);

  function fail(error, lane) {
    const text = error?.message ?? String(error);
    message.hidden = false;
    message.textContent = lane && rival ? `${NAMES[lane.backend]}: ${text}` : text;
    show();
  }
  const clearMessage = () => { message.hidden = true; message.textContent = ''; };
  /** Does something, and says in one sentence why if it fails. */
  const attempt = work => async (...args) => {
    clearMessage();
    try {
      await work(...args);
    } catch (error) {
      fail(error);
    }
  };

  // Data.

  const load = (lane, { files, options }) => files
    ? lane.worker.call('Data.from_files', files.map(([name]) => name), files.bytes, options ?? {})
    : lane.worker.call('Data.digits');

  /** Replaces a Worker that ended, and reads its data again. */
  const reopen = async lane => {
    lane.worker.end();
    lane.forget();
    lane.open();
    isChanged = true;
    try {
      await load(lane, source ?? {});
    } catch (error) {
      fail(error, lane);
    }
  };

  async function useData(next) {
    await stop();
    const loaded = await load(main, next);
    [data, source] = [loaded, next];
    rival?.worker.end();
    rival = null;
    isChanged = true;
    evaluation = null;
    pendingTable = null;
    find('#draw').hidden = !data.shape;
    pad.clear();
    find('#accuracy-title').textContent = data.targets === 'values' ? say('R² on the test part', '测试部分的 R²') : say('Accuracy on the test part', '测试部分的正确率');
    if (data.shape) pad.suit(data.shape);
    forgetLooks();
    showData();
    show();
  }

  function showData() {
    if (!data) return;
    const { name, rows, shape, classes, features, target, notices } = data;
    const what = shape ? say(`pictures of ${shape[0]} × ${shape[1]} pixels`, `${shape[0]} × ${shape[1]} 像素的图片`) : say(`${thousands(features)} features`, `${thousands(features)} 个特征`);
    const goal = data.targets === 'values' ? (target ? say(`value of “${target}”`, `“${target}”的数值`) : say('a value', '一个数值')) : say(`${classes} classes`, `${classes} 个类别`);
    find('#confusion-title').textContent = data.targets === 'values' ? say('Predicted by real value', '预测值与真实值') : say('Confusion matrix', '混淆矩阵');
    find('#mistakes').parentElement.hidden = data.targets === 'values';
    find('#draw-title').textContent = data.class_names ? say('Draw or drop a picture', '画一幅或拖入一张图片') : say('Draw a digit', '写一个数字');
    find('.data-name').replaceChildren(make('b', {}, name === 'digits' ? say('bundled digits', '内置数字') : name),
      say(`: ${thousands(rows.train)} examples to learn, ${thousands(rows.test)} to test, ${what}, ${goal}`, `：${thousands(rows.train)} 个训练样本，${thousands(rows.test)} 个测试样本，${what}，${goal}`),
      ...(notices ?? []).map(notice => make('span', { class: 'note' }, ` ${notice}`)));
  }

  const takeFiles = attempt(async files => {
    if (!files.length) return;
    if (files.length === 1 && /\.safetensors$/i.test(files[0][0])) return openModel(files[0][1]);
    files.bytes = await bytesOf(files);
    const isTable = files.length === 1 && /\.(csv|tsv|txt)(\.gz)?$/i.test(files[0][0]);
    find('#target-field').hidden = !isTable;
    let options = {};
    if (isTable) {
      const columns = await columnsOf(files[0][1]);
      find('#target').replaceChildren(...columns.map(name => make('option', {}, name)));
      // The target is usually the last column.
      find('#target').value = columns[columns.length - 1];
      options = { target: columns[columns.length - 1] };
    }
    pendingTable = files;
    await useData({ files, options });
    if (isTable) pendingTable = files;
  });
  find('#target').addEventListener('change', attempt(async () => {
    if (!pendingTable) return;
    const files = pendingTable;
    await useData({ files, options: { target: find('#target').value } });
    pendingTable = files;
  }));
  takeDrops(find('#drop-data'), takeFiles);
  for (const id of ['#data-files', '#data-folder']) {
    find(id).addEventListener('change', ({ target }) => { takeFiles(chosen(target)); target.value = ''; });
  }
  find('#use-digits').addEventListener('click', attempt(() => { find('#target-field').hidden = true; return useData({}); }));
  // A file that misses its place must not replace the page.
  for (const name of ['dragover', 'drop']) addEventListener(name, event => event.preventDefault());

  // Settings.

  function settings() {
    const value = name => form.elements[name].value;
    const model = value('model');
    const hidden = model === 'hidden' ? value('hidden').split(/[ ,]+/).filter(Boolean).map(Number) : [];
    const of = {
      activation: value('activation'), optimizer: value('optimizer'), seed: 0,
      learning_rate: value('learning_rate') ? Number(value('learning_rate')) : null,
      batch_size: Number(value('batch_size')), epochs: Number(value('epochs')), loss: value('loss') || null,
    };
    return model === 'cnn' ? { ...of, layers: 'cnn' } : { ...of, hidden };
  }
  const checkForm = () => {
    if (form.reportValidity()) return true;
    progressLine.textContent = say('One of the settings is not a number that fits.', '有一项设置不是合适的数。');
    return false;
  };
  form.addEventListener('submit', event => event.preventDefault());
  form.addEventListener('change', ({ target }) => {
    if (!target.name) return;
    for (const field of form.querySelectorAll('.of-hidden')) field.hidden = form.elements.model.value !== 'hidden';
    isChanged = true;
    show();
  });
  const backends = () => ({ gpu: ['gpu'], cpu: ['cpu'], both: ['gpu', 'cpu'] })[form.elements.backend.value];

  function showAdapter() {
    const note = find('#no-gpu');
    for (const name of ['gpu', 'both']) find(`input[value=${name}]`, form).disabled = !adapter?.gpu;
    note.hidden = !adapter || adapter.gpu;
    if (adapter && !adapter.gpu) note.textContent = say(`No GPU here, so the CPU computes (${adapter.why_not}).`, `这里没有 GPU，由 CPU 计算（${adapter.why_not}）。`);
  }
  if (adapter?.gpu && !adapter.software) find('input[value=gpu]', form).checked = true;

  // Training.

  async function create() {
    if (!data) await useData({});
    const wanted = backends();
    main.backend = wanted[0];
    if (wanted.length === 1) {
      rival?.worker.end();
      rival = null;
    } else if (!rival) {
      rival = new Lane(wanted[1], heard);
      await load(rival, source);
    }
    const chosen = settings();
    forgetLooks();
    for (const lane of lanes()) await lane.create(chosen);
    isChanged = false;
  }

  const needsRun = () => isChanged || !main.run || lanes().every(lane => lane.isDone) || main.isTrained;

  async function train() {
    if (!checkForm()) return;
    if (isRunning()) {
      await Promise.all(lanes().map(async lane => {
        const rest = await lane.worker.call('run.pause');
        lane.isRunning = false;
        if (rest) lane.take(rest);
      }));
      show();
      await inspect();
      return;
    }
    buttons.train.disabled = true;
    try {
      if (needsRun()) {
        progressLine.textContent = say('Getting ready …', '准备中……');
        await create();
      }
      for (const lane of lanes()) {
        if (lane.isDone) continue;
        lane.isRunning = true;
        await lane.worker.call('run.start');
      }
    } finally {
      buttons.train.disabled = false;
      show();
    }
  }

  async function oneStep() {
    if (!checkForm() || isRunning()) return;
    if (needsRun()) await create();
    for (const lane of lanes()) lane.take(await lane.worker.call('run.step', 1));
    show();
    await inspect();
  }

  async function stop() {
    await Promise.all(lanes().map(async lane => {
      if (lane.run) await lane.worker.call('run.close');
      lane.forget();
    }));
    isChanged = true;
    forgetLooks();
    show();
  }

  async function finished() {
    show();
    await inspect();
  }

  buttons.train.addEventListener('click', attempt(train));
  buttons['one-step-button'].addEventListener('click', attempt(oneStep));
  buttons.stop.addEventListener('click', attempt(stop));

  // Models.

  buttons.save.addEventListener('click', attempt(async () => keep('model.safetensors', await main.worker.call('run.save'))));

  const openModel = attempt(async file => {
    const bytes = new Uint8Array(await file.arrayBuffer());
    await stop();
    const wanted = backends()[0];
    main.backend = wanted;
    const { name: model, hidden, layers, ...rest } = settings();
    try {
      if (!data) await useData({});
      // The layers are the model's own.
      main.run = await main.worker.call('Run.from_model', file.name, bytes, true, { ...rest, loss: null, activation: null }, wanted);
      isChanged = false;
    } catch (error) {
      // It may be a model of other data, and can still predict.
      main.run = await main.worker.call('Run.from_model', file.name, bytes, false, null, wanted);
      main.isTrained = true;
      find('#draw').hidden = !main.run.image;
      fail(say(`The model can predict here, but not go on: ${error.message}`, `模型可以在这里预测，但不能继续训练：${error.message}`));
    }
    main.opened = file.name;
    show();
    await inspect();
  });
  find('#model-file').addEventListener('change', ({ target }) => {
    if (target.files[0]) openModel(target.files[0]);
    target.value = '';
  });

  // What is shown.

  const show = throttled(() => {
    const running = isRunning();
    const first = main.run;
    buttons.train.textContent = running ? say('Pause', '暂停') : first && main.step && !main.isDone && !isChanged ? say('Go on', '继续') : say('Train', '训练');
    buttons['one-step-button'].disabled = running;
    buttons.stop.disabled = !first;
    buttons.save.disabled = !first;
    buttons.profile.disabled = !(adapter?.timestamps && first && !running && main.backend === 'gpu');
    const colour = lane => lane.backend === 'gpu' ? 0 : rival ? 1 : 0;
    const steps = Math.max(1, ...lanes().map(lane => lane.run?.steps ?? 0));
    const epochs = Number(form.elements.epochs.value) || 1;
    lossChart.x = [0, main.run ? steps : 100];
    // The first losses set the height, so that the axis does not jump later.
    lossChart.y = [0, roundedUp(Math.max(0.1, ...lanes().map(lane => lane.losses.highest)))];
    lossChart.series = lanes().flatMap(lane => [
      { colour: colour(lane), style: 'faint', points: lane.losses.spread },
      { colour: colour(lane), points: lane.losses.means },
    ]);
    lossChart.paint();
    accuracyChart.x = [0, main.run?.settings?.epochs ?? epochs];
    const scores = lanes().map(lane => lane.tests.map(({ epoch, test }) => [epoch, scoreOf(test)]));
    const all = scores.flat().map(([, score]) => score).filter(Number.isFinite);
    const lowest = all.length ? Math.min(...all) : 0;
    accuracyChart.y = [data?.targets === 'values' ? Math.max(-1, Math.min(0, lowest)) : lowest > 0.8 ? 0.8 : lowest > 0.5 ? 0.5 : 0, 1];
    accuracyChart.series = scores.flatMap((points, at) => [
      { colour: colour(lanes()[at]), points }, { kind: 'dots', colour: colour(lanes()[at]), points },
    ]);
    accuracyChart.paint();
    for (const list of document.querySelectorAll('.run .legend')) {
      showLegend(list, rival ? lanes().map(lane => [NAMES[lane.backend], colour(lane)]) : []);
    }
    progressBar.value = main.run?.steps ? main.step / main.run.steps : 0;
    const rivalBar = find('#rival-bar');
    rivalBar.hidden = !rival;
    if (rival) rivalBar.value = rival.run?.steps ? rival.step / rival.run.steps : 0;
    showProgress(running);
    showTiles();
  }, 100);

  let said = '';
  function showProgress(running) {
    const { run, step, epoch } = main;
    let text = '';
    if (!run) text = data ? say('Ready to train.', '可以开始训练了。') : '';
    else if (main.opened && !step && !running) text = say(`${main.opened} is open: ${thousands(run.parameters)} parameters.`, `已打开 ${main.opened}：${thousands(run.parameters)} 个参数。`);
    else if (main.isTrained) text = say('This model predicts; train to make a new one.', '这个模型用来预测；点“训练”会新建一个。');
    else {
      const where = `${say('step', '第')} ${thousands(step)}${say(` of ${thousands(run.steps)}, epoch ${thousands(Math.min(epoch, run.settings.epochs))} of ${thousands(run.settings.epochs)}`, ` 步，共 ${thousands(run.steps)} 步；第 ${thousands(Math.min(epoch, run.settings.epochs))} 轮，共 ${thousands(run.settings.epochs)} 轮`)}`;
      const device = rival ? say('GPU against CPU', 'GPU 对 CPU') : main.backend === 'gpu' ? `GPU${run.device ? ` (${run.device})` : ''}` : 'CPU';
      if (main.isDone && !running) {
        const winner = rival && lanes().reduce((a, b) => a.seconds <= b.seconds ? a : b);
        text = say(`Finished after ${thousands(step)} steps.`, `${thousands(step)} 步之后训练完成。`)
          + (winner ? say(` The ${NAMES[winner.backend]} was faster: ${fixed(winner.seconds, 1)} s.`, `${NAMES[winner.backend]} 更快：${fixed(winner.seconds, 1)} 秒。`) : '');
      } else {
        const state = running ? say('Training', '训练中') : lanes().some(lane => lane.isFailed) ? say('Stopped', '已停止') : say('Paused', '已暂停');
        text = `${state}: ${where}, ${device}`;
      }
    }
    // A screen reader hears how it stands, not every step.
    const state = `${Boolean(run)} ${running} ${main.isDone} ${epoch} ${document.documentElement.lang}`;
    progressLine.setAttribute('aria-live', state === said ? 'off' : 'polite');
    said = state;
    if (run || data) progressLine.textContent = text;
  }

  function showTiles() {
    const { losses, tests, run } = main;
    const isValue = data?.targets === 'values';
    const last = tests[tests.length - 1];
    const entries = [
      [say('loss of the last step', '最后一步的损失'), losses.count ? digits(losses.last) : '–'],
      [isValue ? say('test R², last epoch', '上一轮的测试 R²') : say('test accuracy, last epoch', '上一轮的测试正确率'), last ? percent(scoreOf(last.test)) : '–'],
      ...lanes().map(lane => [rival ? say(`steps per second, ${NAMES[lane.backend]}`, `每秒步数，${NAMES[lane.backend]}`) : say('steps per second', '每秒步数'), Number.isFinite(lane.speed) ? thousands(lane.speed) : '–']),
      ...(rival ? [] : [[say('parameters', '参数个数'), run ? thousands(run.parameters) : '–']]),
    ];
    while (tiles.children.length > entries.length) tiles.lastChild.remove();
    entries.forEach(([name, value], at) => {
      const tile = tiles.children[at] ?? tiles.appendChild(make('div', {}, make('dt'), make('dd')));
      tile.firstChild.textContent = name;
      tile.lastChild.textContent = value;
    });
  }

  // Inside the model.

  const places = { confusion: find('#confusion'), mistakes: find('#mistakes'), weights: find('#weights'), kernels: find('#kernels') };
  const empty = Object.fromEntries(Object.entries(places).map(([name, place]) => [name, [...place.childNodes]]));
  function forgetLooks() {
    evaluation = null;
    shownMistakes = '';
    for (const [name, place] of Object.entries(places)) place.replaceChildren(...empty[name]);
    predict();
  }

  /** Looks inside a model in training, not more often than people can see. */
  const look = latest(async () => {
    const start = performance.now();
    try {
      await inspectNow();
    } catch (error) {
      // A model that is gone meanwhile has nothing to show.
      if (main.run && main.isRunning) fail(error);
    }
    // Looks at a large test part must not slow the training down.
    await pause(Math.max(LOOK, 4 * (performance.now() - start)));
  });
  const inspect = latest(() => inspectNow().catch(error => { if (main.run) fail(error); }));

  async function inspectNow() {
    const run = main.run;
    if (!run) return;
    const isCurrent = () => main.run === run;
    const weights = await main.worker.call('run.weights');
    if (!isCurrent()) return;
    showWeights(weights);
    await predict();
    if (main.isTrained) return;
    const judged = await main.worker.call('run.evaluate', 'test');
    if (!isCurrent()) return;
    evaluation = judged;
    showConfusion();
    await showMistakes(isCurrent);
  }

  const className = index => main.run?.class_names?.[index] ?? String(index);

  function showWeights(layers) {
    const place = places.weights;
    const isImage = Boolean(main.run.image);
    const layer = layers.find(({ kind }) => kind === 'conv' || kind === 'linear');
    if (!layer) return;
    const outputs = layer.shape[0];
    const size = layer.values.length / outputs;
    let [rows, columns, channels] = [1, size, 1];
    if (layer.kind === 'conv') [, channels, rows, columns] = layer.shape;
    else if (isImage) [rows, columns] = main.run.image;
    if (rows * columns * channels !== size) channels = size / (rows * columns);
    const isClass = layers.length === 1 && data?.targets !== 'values';
    const shown = Math.min(outputs, MAX_PICTURES);
    let largest = 0;
    for (const value of layer.values) largest = Math.max(largest, Math.abs(value));
    while (place.children.length > shown || (place.firstElementChild && place.firstElementChild.tagName !== 'FIGURE')) place.lastElementChild.remove();
    for (let output = 0; output < shown; output += 1) {
      const figure = place.children[output] ?? place.appendChild(make('figure', {}, make('canvas', { role: 'img' }), make('figcaption')));
      const [canvas, caption] = figure.children;
      const name = isClass ? className(output) : layer.kind === 'conv' ? say(`filter ${output + 1}`, `滤波器 ${output + 1}`) : say(`unit ${output + 1}`, `单元 ${output + 1}`);
      if (caption.textContent !== name) caption.textContent = name;
      canvas.setAttribute('aria-label', say(`weights of ${name}`, `${name}的权重`));
      const values = layer.values.subarray(output * size, (output + 1) * size);
      const plane = channels === 1 ? values : Float32Array.from({ length: rows * columns }, (_, pixel) => {
        let sum = 0;
        // The channels of a filter are planes; those of a picture's features lie beside each other.
        for (let channel = 0; channel < channels; channel += 1) sum += values[layer.kind === 'conv' ? channel * rows * columns + pixel : pixel * channels + channel];
        return sum / channels;
      });
      drawWeights(canvas, plane, rows, columns, largest);
    }
  }

  function showConfusion() {
    const place = places.confusion;
    if (evaluation.pairs) {
      showPairs(place);
      return;
    }
    const { confusion } = evaluation;
    const most = Math.max(1, ...confusion.map((row, label) => Math.max(0, ...row.filter((_, predicted) => predicted !== label))));
    const isMany = confusion.length > 15;
    const head = make('tr', {}, make('th', { scope: 'col' }, say('true ↓ said →', '真实 ↓ 预测 →')), ...confusion.map((_, index) => make('th', { scope: 'col' }, className(index))));
    const body = confusion.map((row, label) => {
      const total = Math.max(1, row.reduce((sum, count) => sum + count, 0));
      return make('tr', {}, make('th', { scope: 'row' }, className(label)), ...row.map((count, predicted) => {
        const share = predicted === label ? count / total : count / most;
        return make('td', { class: !count ? 'none' : predicted === label ? 'hit' : 'miss', style: `--v: ${(0.12 + 0.5 * share).toFixed(2)}` }, count ? String(count) : '·');
      }));
    });
    place.replaceChildren(make('table', { class: isMany ? 'confusion many' : 'confusion' }, make('thead', {}, head), make('tbody', {}, ...body)));
  }

  /** Predicted by real values of the test part. */
  function showPairs(place) {
    const { pairs, r_squared, rmse } = evaluation;
    const values = pairs.flat();
    const [low, high] = [Math.min(...values), Math.max(...values)];
    if (!place.pairs?.host.isConnected) {
      const host = make('div', { class: 'chart' });
      const [line, legend] = [make('p'), make('ul', { class: 'legend' })];
      place.replaceChildren(line, legend, host);
      place.pairs = new Chart(host, { x: [0, 1], y: [0, 1], xLabel: () => say('real value', '真实值'), summary: () => say('Each test example as a dot; a perfect prediction lies on the diagonal', '每个测试样本一个点；完美的预测落在对角线上') });
    }
    const room = (high - low || 1) * 0.03;
    place.pairs.x = [low - room, high + room];
    place.pairs.y = place.pairs.x;
    place.pairs.series = [{ colour: 5, style: 'thin', points: [[low, low], [high, high]] }, { kind: 'dots', colour: 0, points: pairs }];
    place.pairs.paint();
    showLegend(place.querySelector('.legend'), [[say('prediction', '预测'), 0, true], [say('perfect', '完美预测'), 5]]);
    const share = r_squared === null ? '–' : percent(r_squared);
    place.firstChild.textContent = say(`R² ${share}; root mean squared error ${digits(rmse)}.`, `R² ${share}；均方根误差 ${digits(rmse)}。`);
  }

  async function showMistakes(isCurrent) {
    const { mistakes, accuracy, wrong, examples } = evaluation;
    if (!mistakes) return;
    const now = JSON.stringify([mistakes, say('en', 'zh')]);
    if (now === shownMistakes) return;
    shownMistakes = now;
    const figures = [];
    for (const { index, label, predicted, probability } of mistakes.slice(0, 12)) {
      let picture = null;
      if (data.shape) {
        const { features } = await main.worker.call('data.example', 'test', index);
        if (!isCurrent()) return;
        picture = make('canvas', { role: 'img', 'aria-label': say(`test example ${index}, a ${className(label)}`, `测试样本 ${index}，${className(label)}`) });
        drawPicture(picture, features, data.shape[0], data.shape[1]);
      }
      figures.push(make('figure', { class: 'mistake' }, picture, make('figcaption', {}, say(`${className(label)}, taken for ${className(predicted)} (${percent(probability)})`, `${className(label)}，认成 ${className(predicted)}（${percent(probability)}）`))));
    }
    const line = say(`${thousands(wrong)} of ${thousands(examples)} wrong, ${percent(accuracy)} right.`, `${thousands(examples)} 个中错了 ${thousands(wrong)} 个，正确率 ${percent(accuracy)}。`);
    places.mistakes.replaceChildren(make('p', { class: 'note' }, line), ...figures);
  }

  buttons.profile.addEventListener('click', attempt(async () => {
    buttons.profile.disabled = true;
    const steps = 20;
    const kernels = await main.worker.call('run.profile', steps);
    buttons.profile.disabled = false;
    if (!kernels) throw new Error(say('This browser gives no timestamps of the GPU.', '这个浏览器不提供 GPU 时间戳。'));
    const total = kernels.reduce((sum, { seconds }) => sum + seconds, 0);
    const row = (name, seconds) => make('tr', {}, make('th', { scope: 'row' }, name), make('td', {}, `${digits((1e6 * seconds) / steps)} µs`), make('td', {}, percent(seconds / total)));
    places.kernels.replaceChildren(make('table', {}, make('thead', {}, make('tr', {}, ...say(['kernel', 'per step', 'share'], ['内核', '每步', '占比']).map(name => make('th', { scope: 'col' }, name)))),
      make('tbody', {}, ...kernels.map(({ name, seconds }) => row(name, seconds)), row(say('together', '合计'), total))));
  }));

  // Drawing.

  const [answer, bars, seen] = [find('#answer'), find('#probabilities'), [find('#seen'), find('#spoke')]];
  let example = null;
  let drawnAnswer = null;
  const pad = new Pad(find('#pad'), () => { example = null; draw(); });
  const emptyAnswer = [...answer.childNodes];

  const predict = latest(async () => {
    const run = main.run;
    if (pad.isBlank || !run) {
      drawnAnswer = null;
      if (pad.isBlank) answer.replaceChildren(...emptyAnswer);
      showProbabilities(bars, new Float32Array(run?.outputs ?? data?.outputs ?? 10), run?.class_names ?? data?.class_names);
      for (const canvas of seen) canvas.getContext('2d').clearRect(0, 0, canvas.width, canvas.height);
      return;
    }
    try {
      if (example) {
        // A test picture is what the model reads already.
        const { features } = example;
        drawnAnswer = { ...await main.worker.call('run.predict', features), seen: features };
      } else {
        const { data: pixels, width, height } = pad.pixels();
        drawnAnswer = await main.worker.call('run.predict_picture', new Uint8Array(pixels.buffer), width, height);
      }
    } catch (error) {
      if (main.run === run) answer.textContent = error.message;
      return;
    }
    if (main.run !== run || pad.isBlank) return;
    showAnswer();
    if (run.image && drawnAnswer.seen) showSeen(seen, drawnAnswer, run.image);
  });

  function showAnswer() {
    if (!drawnAnswer) return;
    const step = main.isTrained || main.isDone ? '' : say(` (after ${thousands(main.step)} steps)`, `（${thousands(main.step)} 步之后）`);
    const was = example == null ? '' : say(` The test set says ${className(example.label)}.`, `测试集说是 ${className(example.label)}。`);
    answer.innerHTML = answerOf(drawnAnswer, main.run?.class_names) + step + was;
    if (drawnAnswer.probabilities) showProbabilities(bars, drawnAnswer.probabilities, main.run?.class_names);
  }

  /** Predicts what is drawn; the first stroke trains a model if there is none. */
  const draw = coalesced(async () => {
    if (!pad.isBlank && !main.run && !buttons.train.disabled) {
      answer.textContent = say('There is no model yet: one is trained for you …', '还没有模型：正在为你训练一个……');
      await attempt(train)();
    }
    predict();
  });
  find('#clear').addEventListener('click', () => pad.clear());
  find('#undo').addEventListener('click', () => pad.undo());
  find('#example').addEventListener('click', attempt(async () => {
    if (!data) await useData({});
    const { features, label } = await main.worker.call('data.example', 'test', Math.floor(Math.random() * data.rows.test));
    // Enlarged smoothly with a margin, as a pen would have written it.
    const [rows, columns] = data.shape;
    const small = make('canvas');
    drawPicture(small, features, rows, columns);
    const large = Object.assign(make('canvas'), { width: 280, height: 280 });
    const context = large.getContext('2d');
    context.fillStyle = '#fff';
    context.fillRect(0, 0, 280, 280);
    context.imageSmoothingQuality = 'high';
    context.drawImage(small, 30, 30, 220, 220);
    pad.lay(large);
    example = { features, label };
  }));
  const photo = attempt(async file => {
    if (!file) return;
    let picture;
    try {
      picture = await createImageBitmap(file);
    } catch {
      throw new Error(say(`${file.name} is no picture that this browser can read: take a PNG or JPEG`, `${file.name} 不是这个浏览器能读的图片：请用 PNG 或 JPEG`));
    }
    pad.lay(picture);
  });
  find('#photo').addEventListener('change', ({ target }) => { photo(target.files[0]); target.value = ''; });
  takeDrops(find('#pad-drop'), files => photo(files[0]?.[1]));

  inEveryLanguage(() => {
    find('#pad').setAttribute('aria-label', say('Paper: draw a digit here. With the keyboard, arrow keys move the pen and the space bar lowers and lifts it.', '纸：在这里写数字。用键盘时，方向键移动笔，空格键落笔和提笔。'));
    find('#accuracy-title').textContent = data?.targets === 'values' ? say('R² on the test part', '测试部分的 R²') : say('Accuracy on the test part', '测试部分的正确率');
    said = '';
    showAdapter();
    showData();
    show();
    if (evaluation) { showConfusion(); inspect(); }
    predict();
    showAnswer();
  });
  const first = attempt(() => useData({}));
  first();
}
