// Paper to write a digit on, with pen, finger, mouse or arrow keys; or a photo laid on it.

export class Pad {
  /** `changed` is called after every part of a stroke. */
  constructor(canvas, changed) {
    Object.assign(this, { canvas, changed, strokes: [], picture: null, width: 22, pen: [canvas.width / 2, canvas.height / 2], isDown: false });
    this.context = canvas.getContext('2d', { willReadFrequently: true });
    const place = event => {
      const box = canvas.getBoundingClientRect();
      return [((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height];
    };
    canvas.addEventListener('pointerdown', event => {
      if (event.button) return;
      canvas.setPointerCapture(event.pointerId);
      this.begin(place(event));
      event.preventDefault();
    });
    canvas.addEventListener('pointermove', event => {
      if (!canvas.hasPointerCapture(event.pointerId)) return;
      const parts = event.getCoalescedEvents?.() ?? [];
      for (const part of parts.length ? parts : [event]) this.draw(place(part));
    });
    canvas.addEventListener('keydown', event => {
      const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (move) {
        this.pen = this.pen.map((at, axis) => Math.max(10, Math.min(canvas.width - 10, at + 10 * move[axis])));
        if (this.isDown) this.draw(this.pen);
        else this.paint();
      } else if (event.key === ' ') {
        this.isDown = !this.isDown;
        if (this.isDown) this.begin(this.pen);
        else this.paint();
      } else return;
      event.preventDefault();
    });
    for (const name of ['focus', 'blur']) canvas.addEventListener(name, () => this.paint());
    this.paint();
  }

  get isBlank() {
    return !this.strokes.length && !this.picture;
  }

  /** Takes the pen that suits a model's pictures: of few pixels, a line is broad. */
  suit([rows]) {
    this.width = rows <= 12 ? 36 : 22;
    this.paint();
  }

  begin(at) {
    this.strokes.push([at]);
    this.paint();
    this.changed();
  }

  draw(at) {
    this.strokes[this.strokes.length - 1].push(at);
    this.paint();
    this.changed();
  }

  undo() {
    if (!this.strokes.pop()) this.picture = null;
    this.paint();
    this.changed();
  }

  clear() {
    Object.assign(this, { strokes: [], picture: null, isDown: false });
    this.paint();
    this.changed();
  }

  /** Lays a picture on the paper, as large as it fits. */
  lay(picture) {
    Object.assign(this, { strokes: [], picture });
    this.paint();
    this.changed();
  }

  paint() {
    this.ink(this.context);
    if (this.canvas.matches(':focus-visible')) {
      const [x, y] = this.pen;
      Object.assign(this.context, { strokeStyle: this.isDown ? '#d55e00' : '#0072b0', lineWidth: 2 });
      this.context.beginPath();
      this.context.arc(x, y, this.width / 2, 0, 7);
      this.context.stroke();
    }
  }

  ink(context) {
    const { width, height } = this.canvas;
    Object.assign(context, { fillStyle: '#fff', strokeStyle: '#14181d', lineWidth: this.width, lineCap: 'round', lineJoin: 'round' });
    context.fillRect(0, 0, width, height);
    if (this.picture) {
      const scale = Math.min(width / this.picture.width, height / this.picture.height);
      const [w, h] = [this.picture.width * scale, this.picture.height * scale];
      context.drawImage(this.picture, (width - w) / 2, (height - h) / 2, w, h);
    }
    for (const stroke of this.strokes) {
      context.beginPath();
      context.moveTo(...stroke[0]);
      // A dot is a line that goes almost nowhere.
      context.lineTo(stroke[0][0] + 0.1, stroke[0][1]);
      for (const at of stroke) context.lineTo(...at);
      context.stroke();
    }
  }

  /** Pixels of what is drawn, RGBA: a photo keeps its own size. */
  pixels() {
    const { picture } = this;
    if (picture && !this.strokes.length) {
      const scale = Math.min(1, 1600 / Math.max(picture.width, picture.height));
      const size = [picture.width, picture.height].map(side => Math.max(1, Math.round(side * scale)));
      const context = Object.assign(document.createElement('canvas'), { width: size[0], height: size[1] }).getContext('2d', { willReadFrequently: true });
      Object.assign(context, { fillStyle: '#fff' });
      context.fillRect(0, 0, ...size);
      context.drawImage(picture, 0, 0, ...size);
      return context.getImageData(0, 0, ...size);
    }
    this.ink(this.context);
    const pixels = this.context.getImageData(0, 0, this.canvas.width, this.canvas.height);
    this.paint();
    return pixels;
  }
}
