// The page of a browser tab: the lesson and the workbench.

import { find } from './dom.js';
import { startLesson } from './lesson.js';
import { formulas } from './engine.js';
import { inEveryLanguage, say, setLanguage } from './text.js';
import { startWorkbench } from './workbench.js';

const status = find('#status');
let state = () => say('Getting softstep ready …', 'softstep 正在准备……');

setLanguage(document.documentElement.lang.startsWith('zh') ? 'zh' : 'en');
for (const button of document.querySelectorAll('[data-language]')) {
  button.addEventListener('click', () => {
    setLanguage(button.dataset.language);
    const address = new URL(location.href);
    address.searchParams.set('lang', button.dataset.language);
    try {
      history.replaceState(null, '', address);
    } catch {
      // A page that was opened from disk may not change its address.
    }
  });
}

inEveryLanguage(() => {
  status.textContent = state();
  document.title = say('softstep: why classification has its own loss', 'softstep：分类为什么要用自己的损失函数');
});

startLesson();
let adapter = null;
try {
  adapter = await formulas().call('adapter');
  state = () => adapter.gpu
    ? say(`softstep runs here, on the CPU and on ${adapter.software ? 'a GPU in software' : adapter.name || 'the GPU'}`, `softstep 已就绪：CPU 和${adapter.software ? '软件模拟的 GPU' : adapter.name || ' GPU'}`)
    : say('softstep runs here, on the CPU: this browser gives it no GPU', 'softstep 已就绪：使用 CPU（浏览器没有提供 GPU）');
} catch (error) {
  status.classList.add('bad');
  state = () => error.message;
}
status.textContent = state();
status.title = state();
startWorkbench(adapter);
