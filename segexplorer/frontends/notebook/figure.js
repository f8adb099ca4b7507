// A plotly figure in a cell. Its code, 5 MB, is sent once for a page and waited for as long as it takes: plotly's own
// widget has it in every figure, and anywidget gives a figure up whose code needs more than two seconds.

const PLACE = "segexplorerPlotly"; // of plotly, for all figures of the page
// plotly's own set has "Share chart", which sends a figure of a patient to a server of plotly's
const BUTTONS = {
  flat: [["toImage"], ["zoom2d", "pan2d"], ["resetScale2d"]],
  solid: [["toImage"], ["orbitRotation", "pan3d", "zoom3d"], ["resetCameraDefault3d"]],
};
const views = new Map(); // uid of a figure -> how many views it has in this page

async function inflate(buffer) {
  const bytes = new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).text();
}

async function load(code) {
  const parts = ["const module = { exports: {} };\n", code, "\nexport default module.exports;"];
  const url = URL.createObjectURL(new Blob(parts, { type: "text/javascript" }));
  try {
    window[PLACE] = window[PLACE] || (await import(url)).default;
  } finally {
    URL.revokeObjectURL(url);
  }
}

export default {
  render({ model, el }) {
    const uid = model.get("uid");
    const root = document.createElement("div");
    const style = el.appendChild(document.createElement("style"));
    root.style.cssText = `width: 100%; min-height: ${model.get("height")}px`;
    root.textContent = "The code that draws figures is on its way…";
    el.appendChild(root);
    let plot = null, figure = null, drawing = false, again = false, drawn = 0;

    async function draw() {
      // what is hidden has no width; it is drawn when it is looked at
      if (!window[PLACE] || !figure || !root.clientWidth) return;
      again = drawing;
      if (drawing) return;
      drawing = true;
      try {
        if (!plot) {
          root.replaceChildren();
          plot = root.appendChild(document.createElement("div"));
        }
        const layout = { ...figure.layout, width: root.clientWidth };
        root.style.minHeight = `${layout.height}px`;
        const modeBarButtons = BUTTONS[figure.layout.scene ? "solid" : "flat"];
        await window[PLACE].react(plot, figure.data, layout, { displaylogo: false, modeBarButtons });
        // the still picture that is kept for a notebook without a kernel
        style.textContent = `.segexplorer-still-${uid} { display: none; }`;
        drawn += 1;
        root.dataset.drawn = String(drawn);
      } finally {
        drawing = false;
      }
      if (again) draw();
    }

    async function take(message, buffers) {
      if (message.kind === "code") await load(await inflate(buffers[0]));
      if (message.kind === "figure") figure = JSON.parse(await inflate(buffers[0]));
      await draw();
    }

    let queue = Promise.resolve();
    const heard = (message, buffers) => {
      queue = queue.then(() => take(message, buffers)).catch((error) => {
        console.error(error);
        root.textContent = `This figure cannot be drawn here: ${error.message}`;
        plot = null;
      });
    };
    let width = 0;
    const seen = new ResizeObserver(() => {
      if (Math.abs(root.clientWidth - width) < 3) return;
      width = root.clientWidth;
      heard({ kind: "width" });
    });
    const count = (change) => {
      views.set(uid, (views.get(uid) || 0) + change);
      model.send({ kind: "views", count: views.get(uid) });
    };
    model.on("msg:custom", heard);
    seen.observe(root);
    count(1);
    let ended = false;
    ask(model, () => ({ kind: "ready", code: !window[PLACE] }), () => figure || ended);
    return () => {
      ended = true;
      seen.disconnect();
      model.off("msg:custom", heard);
      if (plot) window[PLACE].purge(plot);
      count(-1);
    };
  },
};
