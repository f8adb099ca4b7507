"use strict";
(() => {
  const COLOURS = JSON.parse(document.getElementById("colours").textContent);
  const IGNORED = 255;
  const KEPT = 6;
  const HIGHEST = 560;

  const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

  // the grey values of a PNG, one a pixel
  async function pixelsOf(uri) {
    const image = new Image();
    image.src = uri;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const all = context.getImageData(0, 0, canvas.width, canvas.height).data;
    const values = new Uint8Array(all.length / 4);
    for (let i = 0; i < values.length; i += 1) values[i] = all[4 * i];
    return { values, image };
  }

  function moveCursors(step) {
    for (const line of document.querySelectorAll(".cursor")) {
      const { first, last, left, width } = line.dataset;
      const share = (step - Number(first)) / Math.max(Number(last) - Number(first), 1e-9);
      const x = Number(left) + Math.min(Math.max(share, 0), 1) * Number(width);
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
      line.style.visibility = "visible";
    }
  }

  class Film {
    constructor(box, number) {
      this.box = box;
      this.data = JSON.parse(box.querySelector("script").textContent);
      this.canvas = box.querySelector("canvas");
      this.step = box.querySelector("[name=step]");
      this.slice = box.querySelector("[name=slice]");
      this.shown = box.querySelector("[name=show]");
      this.of = box.querySelector("[name=class]");
      this.play = box.querySelector("[name=play]");
      this.frames = new Map();
      this.sets = this.data.sets;
      this.drawn = 0;
      this.follow(number);
      for (const control of [this.step, this.slice, this.shown, this.of]) {
        control.addEventListener("input", () => this.draw());
      }
      this.play.addEventListener("click", () => this.toggle());
      window.addEventListener("resize", () => this.draw());
      this.canvas.addEventListener("wheel", (event) => {
        event.preventDefault();
        this.slice.value = Number(this.slice.value) + (event.deltaY < 0 ? 1 : -1);
        this.draw();
      }, { passive: false });
    }

    // #film=0&step=2&slice=5&class=1&show=errors: places of the sliders, for links
    follow(number) {
      const wanted = new URLSearchParams(location.hash.slice(1));
      if (Number(wanted.get("film") ?? -1) !== number) return;
      for (const name of ["step", "slice", "class", "show"]) {
        if (wanted.has(name)) this.box.querySelector(`[name=${name}]`).value = wanted.get(name);
      }
    }

    async open() {
      const { image, truth } = this.data;
      this.image = image ? (await pixelsOf(image)).image : null;
      this.truth = truth ? (await pixelsOf(truth)).values : null;
      await this.draw();
    }

    async frame(place) {
      if (!this.frames.has(place)) {
        this.frames.set(place, pixelsOf(this.data.frames[place]));
        if (this.frames.size > KEPT) this.frames.delete(this.frames.keys().next().value);
      }
      return (await this.frames.get(place)).values;
    }

    toggle() {
      if (this.timer) {
        clearInterval(this.timer);
        this.timer = null;
        this.play.textContent = "Play";
        return;
      }
      this.play.textContent = "Stop";
      this.timer = setInterval(() => {
        this.step.value = (Number(this.step.value) + 1) % this.data.steps.length;
        this.draw();
      }, 500);
    }

    async draw() {
      const turn = (this.drawn += 1);
      const place = Number(this.step.value);
      const all = await this.frame(place);
      if (turn !== this.drawn) return; // something newer is asked for
      const { width, height, pixel } = this.data;
      const index = Number(this.slice.value);
      const part = (values) => values && values.subarray(index * width * height, (index + 1) * width * height);
      const predicted = part(all);
      const truth = part(this.truth);
      const chosen = Number(this.of.value);
      const scale = window.devicePixelRatio || 1;
      const shape = (height * pixel[0]) / (width * pixel[1]);
      const room = Math.min(this.canvas.parentElement.clientWidth, HIGHEST / shape);
      this.canvas.style.width = `${room}px`;
      const wide = Math.max(1, Math.round(room * scale));
      const high = Math.max(1, Math.round(wide * shape));
      this.canvas.width = wide;
      this.canvas.height = high;
      const context = this.canvas.getContext("2d");
      context.fillStyle = "#000";
      context.fillRect(0, 0, wide, high);
      if (this.image) context.drawImage(this.image, 0, index * height, width, height, 0, 0, wide, high);
      const counts = this.fill(context, predicted, truth, chosen, wide, high);
      if (this.shown.value === "errors") this.outline(context, predicted, truth, chosen, wide / width, high / height, scale);
      if (this.shown.value === "prediction" && this.sets) this.rings(context, predicted, chosen, wide / width, high / height, scale);
      this.write(context, wide, high, scale, index);
      this.tell(place, index, counts);
      moveCursors(this.data.steps[place]);
    }

    // whether a value is of a class; where classes overlap, a value stands for several: bit 0 is the first class
    is(value, chosen) {
      if (value === IGNORED) return false;
      return this.sets ? (this.sets[value] >> (chosen - 1)) % 2 === 1 : value === chosen;
    }

    // which classes a prediction has too many and too few
    compare(p, t, chosen) {
      if (chosen) {
        const [has, should] = [this.is(p, chosen), this.is(t, chosen)];
        return [has && !should, should && !has];
      }
      if (this.sets) return [(this.sets[p] & ~this.sets[t]) !== 0, (this.sets[t] & ~this.sets[p]) !== 0];
      return [p !== t && p !== 0, p !== t && t !== 0];
    }

    // the class whose colour a pixel has: the chosen one, or the innermost
    top(value, chosen) {
      if (chosen) return this.is(value, chosen) ? chosen : 0;
      return this.sets ? 32 - Math.clz32(this.sets[value]) : value;
    }

    // colours of errors or of classes; returns extra and missed pixels
    fill(context, predicted, truth, chosen, wide, high) {
      const { width, height } = this.data;
      const small = document.createElement("canvas");
      small.width = width;
      small.height = height;
      const painted = new ImageData(width, height);
      const counts = { extra: 0, missed: 0, wrong: 0 };
      for (let i = 0; i < predicted.length; i += 1) {
        const p = predicted[i];
        const t = truth && truth[i] !== IGNORED ? truth[i] : p;
        const [extra, missed] = p === t ? [false, false] : this.compare(p, t, chosen);
        const kind = extra && missed ? "wrong" : extra ? "extra" : missed ? "missed" : null;
        if (kind) counts[kind] += 1;
        let colour = kind && this.shown.value === "errors" ? COLOURS[kind] : null;
        let opacity = COLOURS.errorOpacity;
        const own = this.shown.value === "prediction" ? this.top(p, chosen) : 0;
        if (own) {
          colour = this.data.colours[own - 1];
          opacity = COLOURS.classOpacity;
        }
        if (colour) painted.data.set([...rgb(colour), Math.round(255 * opacity)], 4 * i);
      }
      small.getContext("2d").putImageData(painted, 0, 0);
      context.imageSmoothingEnabled = false;
      context.drawImage(small, 0, 0, wide, high);
      return counts;
    }

    // the border of each class in its own colour, so that one under another is seen
    rings(context, predicted, chosen, dx, dy, scale) {
      const drawn = chosen ? [chosen] : this.data.names.map((_, i) => i + 1);
      for (const one of drawn) {
        const ring = new Path2D();
        this.faces((i, j, x0, y0, x1, y1) => {
          if (this.is(predicted[i], one) === this.is(predicted[j], one)) return;
          ring.moveTo(x0 * dx, y0 * dy);
          ring.lineTo(x1 * dx, y1 * dy);
        });
        context.strokeStyle = this.data.colours[one - 1];
        context.lineWidth = 2 * scale;
        context.stroke(ring);
      }
    }

    // calls back with every two neighbours and the ends of the face between them
    faces(edge) {
      const { width, height } = this.data;
      for (let y = 0; y < height; y += 1) {
        for (let x = 0; x < width; x += 1) {
          const i = y * width + x;
          if (x + 1 < width) edge(i, i + 1, x + 1, y, x + 1, y + 1);
          if (y + 1 < height) edge(i, i + width, x, y + 1, x + 1, y + 1);
        }
      }
    }

    // lines along the faces of pixels: where truth and prediction change together they are correct
    outline(context, predicted, truth, chosen, dx, dy, scale) {
      const paths = { correct: new Path2D(), truth: new Path2D(), prediction: new Path2D() };
      const value = (values, i) => (chosen ? Number(this.is(values[i], chosen)) : values[i]);
      this.faces((i, j, x0, y0, x1, y1) => {
        const p0 = value(predicted, i), p1 = value(predicted, j);
        const own = (k, p) => (!truth || truth[k] === IGNORED ? p : value(truth, k));
        const t0 = own(i, p0), t1 = own(j, p1);
        let kind = null;
        if (t0 !== t1) kind = t0 === p0 && t1 === p1 ? "correct" : "truth";
        else if (p0 !== p1) kind = "prediction";
        if (!kind) return;
        paths[kind].moveTo(x0 * dx, y0 * dy);
        paths[kind].lineTo(x1 * dx, y1 * dy);
      });
      for (const [kind, pens] of Object.entries(COLOURS.pens)) {
        for (const [colour, thickness, opacity] of pens) {
          context.globalAlpha = opacity;
          context.strokeStyle = colour;
          context.lineWidth = thickness * scale;
          context.stroke(paths[kind]);
        }
      }
      context.globalAlpha = 1;
    }

    write(context, wide, high, scale, index) {
      const { letters, pixel, width, slices, count } = this.data;
      context.font = `600 ${13 * scale}px system-ui, "DejaVu Sans", sans-serif`;
      context.lineWidth = 3 * scale;
      context.strokeStyle = "#000";
      context.fillStyle = "#fff";
      const text = (words, x, y, align, baseline) => {
        context.textAlign = align;
        context.textBaseline = baseline;
        context.strokeText(words, x, y);
        context.fillText(words, x, y);
      };
      const gap = 5 * scale;
      text(letters.left, gap, high / 2, "left", "middle");
      text(letters.right, wide - gap, high / 2, "right", "middle");
      text(letters.top, wide / 2, gap, "center", "top");
      text(letters.bottom, wide / 2, high - gap, "center", "bottom");
      text(`axial ${slices[index]} of ${count}`, gap, gap, "left", "top");
      const mm = (width * pixel[1]) / wide;
      const long = [200, 100, 50, 20, 10, 5, 2, 1].find((n) => n / mm <= wide / 4) || 1;
      context.fillRect(wide - gap - long / mm, high - gap - 3 * scale, long / mm, 3 * scale);
      text(`${long} mm`, wide - gap, high - gap - 6 * scale, "right", "bottom");
    }

    tell(place, index, counts) {
      const { steps, slices, pixel } = this.data;
      this.box.querySelector("[for=step]").textContent = steps[place];
      this.box.querySelector("[for=slice]").textContent = slices[index];
      const area = (n) => `${((n * pixel[0] * pixel[1]) / 100).toFixed(2)} cm²`;
      const wrong = counts.wrong ? `, wrong organ ${area(counts.wrong)}` : "";
      this.box.querySelector(".told").textContent = this.truth
        ? `Step ${steps[place]}, slice ${slices[index]}: extra ${area(counts.extra)}, missed ${area(counts.missed)}${wrong} in this slice.`
        : `Step ${steps[place]}, slice ${slices[index]}.`;
    }
  }

  document.querySelectorAll(".film").forEach((box, number) => new Film(box, number).open());

  for (const button of document.querySelectorAll("[data-copies]")) {
    button.addEventListener("click", () => {
      const range = document.createRange();
      range.selectNodeContents(document.getElementById(button.dataset.copies));
      const chosen = getSelection();
      chosen.removeAllRanges();
      chosen.addRange(range);
      button.textContent = document.execCommand("copy") ? "Copied" : "Selected: press Ctrl+C";
    });
  }
})();
