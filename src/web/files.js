// Files that people drop or choose, with the names of their folders.

/** Every file below dropped entries: `[name with folders, File]`. */
async function within(entry, path = '') {
  if (entry.isFile) return [[path + entry.name, await new Promise((done, failed) => entry.file(done, failed))]];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    // A reader gives at most a hundred entries at once.
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) break;
    for (const one of some) found.push(...await within(one, `${path}${entry.name}/`));
  }
  return found;
}

/** Files of a drop. */
export async function dropped(transfer) {
  const entries = [...transfer.items].map(item => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map(file => [file.name, file]);
  return (await Promise.all(entries.map(entry => within(entry)))).flat();
}

/** Files of an input. */
export const chosen = input => [...input.files].map(file => [file.webkitRelativePath || file.name, file]);

/** Lets files be dropped on an element. */
export function takeDrops(element, taken) {
  let inside = 0;
  const over = by => {
    inside = Math.max(0, inside + by);
    element.classList.toggle('over', inside > 0);
  };
  element.addEventListener('dragenter', event => { event.preventDefault(); over(1); });
  element.addEventListener('dragleave', () => over(-1));
  element.addEventListener('dragover', event => event.preventDefault());
  element.addEventListener('drop', async event => {
    event.preventDefault();
    over(-inside);
    taken(await dropped(event.dataTransfer));
  });
}

/** The bytes of files, in their order. */
export const bytesOf = files => Promise.all(files.map(async ([, file]) => new Uint8Array(await file.arrayBuffer())));

/** The columns' names in the first line of a table. */
export async function columnsOf(file) {
  const text = await file.slice(0, 65536).text();
  const line = text.replace(/^\ufeff/, '').split(/\r?\n/, 1)[0];
  const sign = [',', ';', '\t'].sort((a, b) => line.split(b).length - line.split(a).length)[0];
  const names = [];
  let [name, isQuoted] = ['', false];
  for (const character of line + sign) {
    if (character === '"') isQuoted = !isQuoted;
    else if (character === sign && !isQuoted) {
      names.push(name.trim());
      name = '';
    } else name += character;
  }
  return names;
}

/** Offers bytes as a file to keep. */
export function keep(name, bytes) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([bytes], { type: 'application/octet-stream' }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
