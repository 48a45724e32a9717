"use strict";

const result = document.getElementById("result");
let asked = 0;

/** Creates an element with a text and a class. */
function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

/** Formats a number of a prediction. */
function number(value, isShare) {
  return isShare ? `${(100 * value).toFixed(2)} %` : String(Number(value.toPrecision(7)));
}

/** The most probable classes, as bars, or the values of a prediction. */
function shown(prediction, isAlone) {
  const part = element("div");
  const title = prediction.digit ? `digit ${prediction.digit}, row ${prediction.row}` : prediction.input;
  if (!isAlone) part.append(element("h3", title));
  if (prediction.values) {
    part.append(element("p", prediction.values.map((value) => number(value, false)).join(", "), "answer"));
    return part;
  }
  const [first] = prediction.classes;
  part.append(element("p", prediction.no_digit ? "no digit" : first.class, "answer"));
  const chances = element("dl", undefined, "chances");
  for (const { class: name, probability, output } of prediction.classes) {
    const row = element("div");
    row.style.setProperty("--v", Math.min(1, Math.max(0, probability ?? output)));
    row.append(element("dt", name), element("dd", number(probability ?? output, probability !== undefined)));
    chances.append(row);
  }
  part.append(chances);
  return part;
}

/** Sends a body, and shows what comes back unless something was sent since. */
async function predict(body, type) {
  const own = ++asked;
  const parts = [];
  try {
    const headers = type ? { "Content-Type": type } : {};
    const response = await fetch("predict?top=10", { method: "POST", body, headers });
    const answer = await response.json();
    if (answer.error) parts.push(element("p", answer.error, "warning"));
    for (const notice of answer.notices ?? []) parts.push(element("p", notice, "note"));
    const predictions = answer.predictions ?? [];
    const isAlone = predictions.length === 1;
    parts.push(...predictions.slice(0, 100).map((prediction) => shown(prediction, isAlone)));
    if (predictions.length > 100) parts.push(element("p", `and ${predictions.length - 100} more`, "note"));
  } catch (error) {
    parts.push(element("p", `The server does not answer: ${error.message}`, "warning"));
  }
  if (own === asked) result.replaceChildren(...parts);
}

document.getElementById("file").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  // The server tells files apart by their first bytes, but for JSON and tables.
  if (file) predict(file, file.name.endsWith(".json") ? "application/json" : "application/octet-stream");
  target.value = "";
});

document.getElementById("row")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const row = {};
  for (const field of event.target.querySelectorAll("[data-column]")) row[field.dataset.column] = field.value;
  predict(JSON.stringify([row]), "application/json");
});

document.getElementById("numbers")?.addEventListener("submit", (event) => {
  event.preventDefault();
  predict(document.getElementById("values").value, "application/json");
});

const drawing = document.getElementById("drawing");
if (drawing) {
  const pen = drawing.getContext("2d");
  let last;
  const at = ({ clientX, clientY }) => {
    const { left, top, width, height } = drawing.getBoundingClientRect();
    return [((clientX - left) * drawing.width) / width, ((clientY - top) * drawing.height) / height];
  };
  const clear = () => {
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, drawing.width, drawing.height);
    asked++;
    result.replaceChildren(element("p", "Nothing was predicted yet.", "note"));
  };
  const draw = (event) => {
    const next = at(event);
    pen.beginPath();
    pen.moveTo(...(last ?? next));
    pen.lineTo(...next);
    pen.stroke();
    last = next;
  };
  Object.assign(pen, { lineWidth: 18, lineCap: "round", lineJoin: "round", strokeStyle: "#000" });
  clear();
  drawing.addEventListener("pointerdown", (event) => {
    drawing.setPointerCapture(event.pointerId);
    last = undefined;
    draw(event);
  });
  drawing.addEventListener("pointermove", (event) => {
    if (event.buttons) draw(event);
  });
  drawing.addEventListener("pointerup", () => drawing.toBlob((picture) => predict(picture, "image/png")));
  document.getElementById("clear").addEventListener("click", clear);
}
