// The page of one trained model: draw or drop a picture, or fill in the fields of a table, and see the prediction.

import { answerOf, showProbabilities, showSeen } from './answer.js';
import { coalesced, find, latest, make } from './dom.js';
import { Engine } from './engine.js';
import { takeDrops } from './files.js';
import { Pad } from './pad.js';
import { unpacked } from './softstep.js';
import { digits, inEveryLanguage, percent, say, setLanguage, thousands } from './text.js';

const message = find('#message');
const engine = new Engine();
let run = null;

/** Does something, and says in one sentence why if it fails. */
const attempt = work => async (...args) => {
  message.hidden = true;
  try {
    await work(...args);
  } catch (error) {
    message.hidden = false;
    message.textContent = error.message;
  }
};

setLanguage(document.documentElement.lang.startsWith('zh') ? 'zh' : 'en');
for (const button of document.querySelectorAll('[data-language]')) {
  button.addEventListener('click', () => setLanguage(button.dataset.language));
}

// Pictures.

const [answer, bars, seen] = [find('#answer'), find('#probabilities'), [find('#seen'), find('#spoke')]];
const emptyAnswer = [...answer.childNodes];
let shown = null;
const predictPicture = latest(attempt(async () => {
  if (!run?.image) return;
  if (pad.isBlank) {
    shown = null;
    answer.replaceChildren(...emptyAnswer);
    showProbabilities(bars, new Float32Array(run.outputs), run.class_names);
    for (const canvas of seen) canvas.getContext('2d').clearRect(0, 0, canvas.width, canvas.height);
    return;
  }
  const { data, width, height } = pad.pixels();
  shown = await engine.call('run.predict_picture', new Uint8Array(data.buffer), width, height);
  showPicture();
}));
function showPicture() {
  if (!shown) return;
  answer.innerHTML = answerOf(shown, run.class_names);
  if (shown.probabilities) showProbabilities(bars, shown.probabilities, run.class_names);
  if (shown.seen) showSeen(seen, shown, run.image);
}
const pad = new Pad(find('#pad'), coalesced(() => predictPicture()));
find('#clear').addEventListener('click', () => pad.clear());
find('#undo').addEventListener('click', () => pad.undo());
const photo = attempt(async file => {
  if (!file) return;
  try {
    pad.lay(await createImageBitmap(file));
  } catch {
    throw new Error(say(`${file.name} is no picture that this browser can read: take a PNG or JPEG`, `${file.name} 不是这个浏览器能读的图片：请用 PNG 或 JPEG`));
  }
});
find('#photo').addEventListener('change', ({ target }) => { photo(target.files[0]); target.value = ''; });

// Tables.

const twoDigits = number => String(number).padStart(2, '0');
/** How a date is written in a column of each form. */
const DATES = {
  year_month_day: ([year, month, day]) => `${year}-${month}-${day}`,
  day_month_year: ([year, month, day]) => `${day}.${month}.${year}`,
  month_day_year: ([year, month, day]) => `${month}/${day}/${year}`,
};
const dayOf = days => {
  const date = new Date(days * 86_400_000);
  return `${date.getUTCFullYear()}-${twoDigits(date.getUTCMonth() + 1)}-${twoDigits(date.getUTCDate())}`;
};

/** The field of a column: its element, a hint about its range, and the text that it holds. */
function fieldOf({ name, encoding, form }, index) {
  const id = `field-${index}`;
  const label = make('label', { for: id }, name);
  const choice = (texts, first) => {
    const select = make('select', { id }, ...['', ...texts].map(text => make('option', { value: text }, text || '–')));
    select.value = first;
    return { name, element: make('div', { class: 'field' }, label, select), hint: () => {}, text: () => select.value };
  };
  if (encoding.one_hot) {
    const known = encoding.one_hot.filter(text => text !== '');
    return choice(known, known[0] ?? '');
  }
  if (form === 'boolean') return choice(['true', 'false'], '');
  const { mean, deviation } = encoding.standardised;
  const isDate = form in DATES;
  const words = isDate ? dayOf : value => digits(value);
  const note = make('span', { class: 'note', id: `${id}-range` });
  const input = make('input', {
    id, type: isDate ? 'date' : 'number', step: isDate ? null : 'any', 'aria-describedby': note.id,
    value: isDate ? dayOf(mean) : Number(mean.toPrecision(3)),
  });
  return {
    name, element: make('div', { class: 'field' }, label, input, note),
    hint: () => {
      const [low, high] = [words(mean - 2 * deviation), words(mean + 2 * deviation)];
      note.textContent = say(`mostly ${low} to ${high}`, `多在 ${low} 到 ${high} 之间`);
    },
    text: () => {
      if (!input.value) return '';
      if (isDate) return DATES[form](input.value.split('-'));
      return form === 'decimal_comma' ? input.value.replace('.', ',') : input.value;
    },
  };
}

let fields = [];
const predictTable = latest(attempt(async () => {
  if (!fields.length) return;
  const [names, texts] = [fields.map(field => field.name), fields.map(field => field.text())];
  const { probabilities, predicted, value } = await engine.call('run.predict_fields', names, texts);
  const result = find('#result');
  if (probabilities) {
    result.replaceChildren(make('b', {}, run.class_names?.[predicted] ?? String(predicted)), say(`, with ${percent(probabilities[predicted])}`, `，概率 ${percent(probabilities[predicted])}`));
    showProbabilities(find('#chances'), probabilities, run.class_names);
  } else {
    result.replaceChildren(make('b', {}, digits(value, 4)));
  }
}));
find('#fields').addEventListener('input', () => predictTable());
find('#fields').addEventListener('submit', event => event.preventDefault());

// The model.

async function open(name, bytes) {
  run = await engine.call('Run.from_model', name, bytes, false, null, 'cpu');
  find('#no-model').hidden = true;
  find('#draw').hidden = !run.image;
  const columns = run.preprocessing?.columns;
  find('#table').hidden = Boolean(run.image) || !columns;
  if (columns && !run.image) {
    fields = columns.map(fieldOf);
    find('#fields').replaceChildren(...fields.map(field => field.element));
  }
  if (!run.image && !columns) {
    throw new Error(say(`This model takes ${thousands(run.features)} numbers, and neither pictures nor the columns of a table: use softstep predict`, `这个模型接收 ${thousands(run.features)} 个数，既不是图片也不是表格的列：请用 softstep predict`));
  }
  render();
  if (run.image) pad.suit(run.image);
  predictPicture();
  predictTable();
}

function render() {
  find('#pad').setAttribute('aria-label', say('Paper: draw here. With the keyboard, arrow keys move the pen and the space bar lowers and lifts it.', '纸：在这里写。用键盘时，方向键移动笔，空格键落笔和提笔。'));
  document.title = say('softstep: a model to try', 'softstep：试试这个模型');
  if (!run) return;
  find('#status').textContent = say('The model is ready.', '模型已就绪。');
  find('#target').textContent = run.target ?? say('Prediction', '预测');
  find('#about').textContent = say(`${run.model}, ${thousands(run.parameters)} parameters, trained by softstep on ${run.data}.`, `${run.model}，${thousands(run.parameters)} 个参数，由 softstep 在 ${run.data} 上训练。`);
  for (const field of fields) field.hint();
  showPicture();
}
inEveryLanguage(() => { render(); if (fields.length) predictTable(); });

const openFile = attempt(async file => open(file.name, new Uint8Array(await file.arrayBuffer())));
find('#model-file').addEventListener('change', ({ target }) => {
  if (target.files[0]) openFile(target.files[0]);
  target.value = '';
});
takeDrops(document.documentElement, ([[, file]]) => /\.safetensors$/i.test(file.name) ? openFile(file) : photo(file));
const inside = find('#softstep-model');
if (inside.textContent.trim()) {
  await attempt(async () => open(inside.dataset.name ?? 'model.safetensors', new Uint8Array(await unpacked(inside))))();
} else {
  find('#no-model').hidden = false;
  find('#status').textContent = '';
}
