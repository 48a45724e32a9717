// The Worker: all of softstep runs here, and the page's own thread only draws.
//
// The page sends {id, call, args} and gets {id, ok} or {id, error}. The first call is "init", with the compiled module.
// Every other call is named as a function of src/web.rs: a class with its function ("Data.digits", "Run.create"), or
// "data." or "run." with a method of what this Worker holds: one data set and one run. The calls here beyond those are
// "run.start" and "run.pause", which train in slices and tell the page by {event: "progress"}, and "run.close".
//
// `wasm_bindgen` comes before this text: src/web/build joins the two.
"use strict";

/** Milliseconds that a slice of training is to take. */
const SLICE = 40;

let data = null;
let run = null;
let pace = null;

/** The calls with a meaning of their own; the others go to the functions of their names. */
const calls = {
  async init(module) {
    await wasm_bindgen({ module_or_path: module });
    return null;
  },
  "Data.digits": () => hold(wasm_bindgen.Data.digits()),
  async "Data.from_files"(names, bytes, options) {
    const files = await decoded(bytes, wasm_bindgen.PictureForm.of_options(text(options)));
    return hold(wasm_bindgen.Data.from_files(names, files, text(options)));
  },
  "Data.from_values": (...args) => hold(wasm_bindgen.Data.from_values(...args)),
  async "Data.for_model"(model, names, bytes) {
    return hold(wasm_bindgen.Data.for_model(model, names, await decoded(bytes, wasm_bindgen.PictureForm.of_model(model))));
  },
  async "Run.create"(settings, backend) {
    needs(data, "there is no data yet: choose some");
    return replace(() => wasm_bindgen.Run.create(data, text(settings), backend));
  },
  async "Run.from_model"(name, bytes, withData, settings, backend) {
    if (withData) needs(data, "there is no data yet: choose some");
    const further = settings == null ? undefined : text(settings);
    return replace(() =>
      wasm_bindgen.Run.from_model(name, bytes, withData ? data.share() : undefined, further, backend));
  },
  async "run.step"(count) {
    needs(run, "there is no model yet: make one");
    // The losses of both: those that arrived while it trained, and those that a GPU still had.
    const [trained, rest] = [await run.step(count), await run.flush()];
    const losses = new Float32Array([...trained.losses, ...rest.losses]);
    return { ...rest, first_step: trained.first_step, losses, epochs: [...trained.epochs, ...rest.epochs] };
  },
  "run.start"() {
    needs(run, "there is no model yet: make one");
    if (!pace) pace = { stop: false, done: train() };
    return null;
  },
  async "run.pause"() {
    await pause();
    return exclusive(() => run?.flush() ?? null);
  },
  async "run.close"() {
    return replace(() => null);
  },
};

/** Settings as the bindings take them: JSON. */
function text(settings) {
  return typeof settings === "string" ? settings : JSON.stringify(settings ?? {});
}

/**
 * Files with the pixels of the pictures among them, in the form that is wanted. One after the other is decoded, so that
 * only one is there in full. Of a picture that the browser cannot decode the file stays, and is refused where it is read.
 */
async function decoded(files, form) {
  const canvas = new OffscreenCanvas(1, 1);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const pixels = async (file) => {
    if (!wasm_bindgen.PictureForm.is_picture(file.subarray(0, 32))) return file;
    try {
      const picture = await createImageBitmap(new Blob([file]), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
      [canvas.width, canvas.height] = [picture.width, picture.height];
      context.drawImage(picture, 0, 0);
      picture.close();
      const { data, width, height } = context.getImageData(0, 0, canvas.width, canvas.height);
      return form.file(data, width, height);
    } catch {
      return file;
    }
  };
  try {
    const done = [];
    for (const file of files) done.push(await pixels(file));
    return done;
  } finally {
    form.free();
  }
}

function needs(value, problem) {
  if (!value) throw new Error(problem);
}

function hold(made) {
  data?.free();
  data = made;
  return data.describe();
}

async function pause() {
  if (pace) {
    pace.stop = true;
    await pace.done;
  }
}

/** Ends the run, and makes another. */
async function replace(make) {
  await pause();
  return exclusive(async () => {
    run?.free();
    run = null;
    run = await make();
    return run && run.describe();
  });
}

/** Lets messages that wait be heard. */
function breathe() {
  return new Promise((heard) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => {
      channel.port1.close();
      heard();
    };
    channel.port2.postMessage(null);
  });
}

/** Trains in slices until the run is over or the page pauses it. */
async function train() {
  let count = 1;
  try {
    await breathe();
    for (;;) {
      const before = performance.now();
      const progress = await exclusive(() => run.step(count));
      const took = performance.now() - before;
      // As many steps as a slice takes; a GPU answers late, so that one slice says little.
      const wanted = took > 0 ? (count * SLICE) / took : 2 * count;
      count = Math.max(1, Math.min(Math.round(wanted), 2 * count, 4096));
      progress.milliseconds = took;
      postMessage({ event: "progress", progress });
      await breathe();
      if (progress.done || pace.stop) break;
    }
  } catch (error) {
    postMessage({ event: "failed", error: message(error) });
  } finally {
    pace = null;
  }
}

/** One after the other: the model does one thing at a time. */
let last = Promise.resolve();
function exclusive(work) {
  const next = last.then(work, work);
  last = next.catch(() => {});
  return next;
}

function message(error) {
  // Memory that is not there stops the wasm, and a fault does: neither goes on.
  if (error instanceof WebAssembly.RuntimeError) {
    return "softstep ran out of memory in this tab, or has a fault: load the page again, and use less data or smaller layers";
  }
  return error instanceof Error ? error.message : String(error);
}

async function perform(call, args) {
  if (calls[call]) {
    // Those that train or wait for training take their turns themselves.
    return ["run.start", "run.pause", "run.close", "Run.create", "Run.from_model"].includes(call)
      ? calls[call](...args)
      : exclusive(() => calls[call](...args));
  }
  const [holder, method] = call.split(".");
  if (holder === "data" && method) {
    needs(data, "there is no data yet: choose some");
    return data[method](...args);
  }
  if (holder === "run" && method) {
    needs(run, "there is no model yet: make one");
    return exclusive(() => run[method](...args));
  }
  needs(typeof wasm_bindgen[call] === "function", `there is no call ${call}`);
  return wasm_bindgen[call](...args.map((value) => (call === "step_by_hand" ? text(value) : value)));
}

onmessage = async ({ data: { id, call, args } }) => {
  try {
    postMessage({ id, ok: await perform(call, args ?? []) });
  } catch (error) {
    postMessage({ id, error: message(error) });
  }
};
