// Words and numbers of the page, in English and Chinese.

const listeners = [];

export const isChinese = () => document.documentElement.lang.startsWith('zh');

/** The text in the language of the page. */
export const say = (english, chinese) => isChinese() ? chinese : english;

/** Calls a function now and whenever the language changes. */
export function inEveryLanguage(render) {
  listeners.push(render);
  render();
}

export function setLanguage(language) {
  document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';
  const name = say('en', 'zh');
  for (const element of document.querySelectorAll('[data-label-en]')) {
    element.setAttribute('aria-label', element.dataset[`label${name === 'en' ? 'En' : 'Zh'}`]);
  }
  for (const element of document.querySelectorAll('[data-placeholder-en]')) {
    element.placeholder = element.dataset[`placeholder${name === 'en' ? 'En' : 'Zh'}`];
  }
  for (const option of document.querySelectorAll('option[data-en]')) option.textContent = option.dataset[name];
  for (const button of document.querySelectorAll('[data-language]')) {
    button.setAttribute('aria-pressed', button.dataset.language === name);
  }
  for (const render of listeners) render();
}

/** A number with so many decimals, and a true minus sign; never a negative zero. */
export function fixed(number, decimals) {
  if (!Number.isFinite(number)) return '–';
  const text = number.toFixed(decimals);
  return Number(text) === 0 ? text.replace('-', '') : text.replace('-', '−');
}

/** The same as a factor: in brackets if it is below 0. */
export function factor(number, decimals) {
  const text = fixed(number, decimals);
  return text.startsWith('−') ? `(${text})` : text;
}

/** `= result`, or `≈ result` where the terms, as they are printed, come to another. */
export const equals = (ofPrinted, result, decimals) =>
  `${fixed(ofPrinted, decimals) === fixed(result, decimals) ? '=' : '≈'} ${fixed(result, decimals)}`;

/** A number as it is printed. */
export const asPrinted = (number, decimals) => Number(number.toFixed(decimals));

/** `−ln p = loss`, with so many digits of p that it is true as printed. */
export function logarithm(p, loss, decimals) {
  let digits = 4;
  while (digits < 8 && fixed(-Math.log(asPrinted(p, digits)), decimals) !== fixed(loss, decimals)) digits += 1;
  return `−ln\u00a0${fixed(p, digits)} ${equals(-Math.log(asPrinted(p, digits)), loss, decimals)}`;
}

export const percent = share => `${fixed(100 * share, 1)}\u00a0%`;

/** A small number: 1.2 × 10⁻⁷. */
export function small(number) {
  if (number === 0) return '0';
  const [digits, power] = number.toExponential(1).split('e');
  return `${digits}\u00a0×\u00a010<sup>${power.replace('-', '−').replace('+', '')}</sup>`;
}

/** A number with so many digits that mean something. */
export function digits(number, count = 3) {
  if (!Number.isFinite(number)) return '–';
  const size = Math.abs(number);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) return number.toExponential(count - 1).replace('e+', 'e');
  const decimals = size === 0 ? 0 : Math.max(0, count - 1 - Math.floor(Math.log10(size)));
  const text = fixed(number, Math.min(decimals, 8));
  return size < 1000 ? text : text.replace(/^(−?\d+)/, whole => whole.replace(/\B(?=(\d{3})+$)/g, ','));
}

export const thousands = number => Math.round(number).toLocaleString('en');
