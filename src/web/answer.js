// The answer to a picture: probabilities, what the model saw, and which pixels spoke for it.

import { drawPicture, drawWeights, make } from './dom.js';
import { fixed, percent, say } from './text.js';

/** Bars of the probabilities of classes, the largest first if there are many; elements are kept, so that nothing jumps. */
export function showProbabilities(list, probabilities, names) {
  const order = Array.from(probabilities, (_, index) => index);
  if (order.length > 12) order.sort((a, b) => probabilities[b] - probabilities[a]).splice(12);
  while (list.children.length > order.length) list.lastChild.remove();
  const top = probabilities.indexOf(Math.max(...probabilities));
  order.forEach((index, place) => {
    const row = list.children[place] ?? list.appendChild(
      make('div', {}, make('dt'), make('dd', {}, make('div', { class: 'bar' }, make('i'))), make('dd')));
    row.classList.toggle('top', index === top && probabilities[index] > 0);
    row.children[0].textContent = names?.[index] ?? index;
    row.children[1].firstChild.style.setProperty('--v', probabilities[index]);
    row.children[2].textContent = fixed(probabilities[index], 3);
  });
}

/** The answer in words. */
export function answerOf({ probabilities, digit }, names) {
  if (!probabilities) return say('There is no digit here that softstep could find.', '这里没有 softstep 能找到的数字。');
  const top = probabilities.indexOf(Math.max(...probabilities));
  if (digit === false) return say(`Not sure that it is a digit: most like <b>${names?.[top] ?? top}</b>, with ${percent(probabilities[top])}.`, `不确定是不是数字：最像 <b>${names?.[top] ?? top}</b>，概率 ${percent(probabilities[top])}。`);
  return say(`It is <b>${names?.[top] ?? top}</b>, with ${percent(probabilities[top])}.`, `是 <b>${names?.[top] ?? top}</b>，概率 ${percent(probabilities[top])}。`);
}

/** What the model saw, and beside it the pixels that spoke for the answer and against it. */
export function showSeen([seen, spoke], answer, [rows, columns]) {
  drawPicture(seen, answer.seen, rows, columns);
  if (!answer.attribution) {
    spoke.getContext('2d').clearRect(0, 0, spoke.width, spoke.height);
    return;
  }
  // Of a picture with colours, a pixel speaks with the sum of its channels.
  const channels = answer.attribution.length / (rows * columns);
  const sums = Float32Array.from({ length: rows * columns }, (_, pixel) =>
    answer.attribution.slice(pixel * channels, (pixel + 1) * channels).reduce((sum, value) => sum + value, 0));
  drawWeights(spoke, sums, rows, columns, Math.max(...sums.map(Math.abs)));
}
