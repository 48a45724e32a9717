// The page's side of the Worker: calls with answers, and events.

/** The bytes in an element of a page in one file: gzip in base64. */
export async function unpacked(element) {
  const bytes = Uint8Array.from(atob(element.textContent), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Response(stream).arrayBuffer();
}

let module;
let address;

/** Compiles the wasm, once for all Workers. */
function compiled() {
  const element = document.getElementById('softstep-wasm');
  module ??= element
    ? unpacked(element).then((bytes) => WebAssembly.compile(bytes))
    : WebAssembly.compileStreaming(fetch('softstep_bg.wasm'));
  return module;
}

/** The address of the Worker's script. */
function script() {
  const element = document.getElementById('softstep-worker');
  address ??= element
    ? unpacked(element).then((bytes) => URL.createObjectURL(new Blob([bytes], { type: 'text/javascript' })))
    : Promise.resolve('worker.js');
  return address;
}

/** A Worker with softstep in it: one data set and one run. */
export class Softstep {
  #worker;
  #calls = new Map();
  #next = 1;

  /** Opens a Worker; `hear` gets its events, `{event: 'progress' | 'failed' | 'panic', …}`. */
  static async open(hear = () => {}) {
    const [wasm, url] = await Promise.all([compiled(), script()]);
    const softstep = new Softstep();
    softstep.#worker = new Worker(url);
    softstep.#worker.onmessage = ({ data }) => softstep.#heard(data, hear);
    softstep.#worker.onerror = (event) => softstep.#broken(event.message || 'the Worker ended', hear);
    await softstep.call('init', wasm);
    return softstep;
  }

  #heard(message, hear) {
    if (message.event) {
      if (message.event === 'panic') this.#broken(message.error, hear);
      else hear(message);
      return;
    }
    const { done, failed } = this.#calls.get(message.id) ?? {};
    this.#calls.delete(message.id);
    if ('error' in message) failed?.(new Error(message.error));
    else done?.(message.ok);
  }

  #broken(error, hear) {
    for (const { failed } of this.#calls.values()) failed(new Error(error));
    this.#calls.clear();
    hear({ event: 'panic', error });
  }

  /** Calls a function of the Worker by its name, as `run.step`, and waits for the answer. */
  call(call, ...args) {
    const id = this.#next++;
    return new Promise((done, failed) => {
      this.#calls.set(id, { done, failed });
      this.#worker.postMessage({ id, call, args });
    });
  }

  /** Ends the Worker. */
  close() {
    this.#worker.terminate();
  }
}
