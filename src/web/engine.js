// Workers of the page: each has one data set and one run.

import { Softstep } from './softstep.js';

/** A Worker that opens by itself: calls wait until it is there. */
export class Engine {
  constructor(hear) {
    this.opened = Softstep.open(hear);
    this.opened.catch(() => {});
  }

  async call(call, ...args) {
    return (await this.opened).call(call, ...args);
  }

  /** Ends the Worker; whatever it was doing is given up. */
  end() {
    this.opened.then(worker => worker.close(), () => {});
  }
}

/** The Worker of single formulas, which the lesson's figures share. */
const shared = new Engine();
export const formulas = () => shared;

/** `count` rows of outputs from a flat list, each an array. */
export function rows(values, count) {
  const width = values.length / count;
  return Array.from({ length: count }, (_, row) => Array.from(values.slice(row * width, (row + 1) * width)));
}
