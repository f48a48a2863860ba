// Stored values of a radiograph on a canvas: window and level as PS3.3 C.11.2.1.2.1 has them. They are fetched when they are looked at.
const SHADES = 256;

async function fetched(address) {
  for (let tries = 0; ; tries++) {
    const answer = await fetch(address);
    if (answer.ok) return { about: JSON.parse(answer.headers.get("X-Values")), words: new Uint16Array(await answer.arrayBuffer()) };
    if (answer.status !== 503 || tries > 4) throw new Error(answer.status === 422 ? "they cannot be read" : `answer ${answer.status}`);
    await new Promise(resolve => setTimeout(resolve, 1000 + 2000 * tries)); // others are being read
  }
}

function marked(canvas, context) {
  const size = Math.max(12, Math.round(Math.max(canvas.width, canvas.height) / 25)), margin = size / 2;
  const written = (text, x, y) => { context.strokeText(text, x, y); context.fillText(text, x, y); };
  context.font = `${size}px sans-serif`;
  context.textBaseline = "top";
  context.lineJoin = "round";
  context.lineWidth = Math.max(2, size / 6);
  context.strokeStyle = "#000";
  context.fillStyle = "#fff";
  if (canvas.dataset.right) written("R", margin, margin);
  const bar = 50 / Number(canvas.dataset.widthMm) * canvas.width; // 5 cm
  if (!(bar > 0 && bar < canvas.width / 2)) return;
  const below = canvas.height - margin, thick = Math.max(1, Math.round(size / 12));
  context.fillStyle = "#000";
  context.fillRect(margin - thick, below - 2 * thick, bar + 2 * thick, 3 * thick);
  context.fillStyle = "#fff";
  context.fillRect(margin, below - thick, bar, thick);
  written(`5 cm ${canvas.dataset.where}`.trim(), margin, below - 1.6 * size);
}

export function windowed(viewer) {
  const canvas = viewer.querySelector("[data-values]"), controls = viewer.querySelector("[data-levels]");
  if (!canvas) return null;
  const context = canvas.getContext("2d"), say = controls.querySelector("[data-levels-say]");
  const inputs = name => controls.querySelectorAll(`[data-level="${name}"], [data-slides="${name}"]`);
  let about, words, image, now, isDue = false;

  const paint = () => {
    isDue = false;
    const { slope, intercept } = about, width = Math.max(1, now.width), table = new Uint32Array(65536);
    for (let word = 0; word < table.length; word++) {
      const value = slope * word + intercept;
      const part = width === 1 ? (value > now.centre - 0.5 ? 1 : 0) : (value - (now.centre - 0.5)) / (width - 1) + 0.5;
      const grey = Math.round(Math.min(1, Math.max(0, now.inverted ? 1 - part : part)) * (SHADES - 1));
      table[word] = 0xff000000 | grey << 16 | grey << 8 | grey;
    }
    const pixels = new Uint32Array(image.data.buffer);
    for (let place = 0; place < words.length; place++) pixels[place] = table[words[place]];
    context.putImageData(image, 0, 0);
    marked(canvas, context);
  };
  const set = changes => {
    if (!about) return;
    Object.assign(now, changes);
    now.width = Math.max(1, now.width);
    for (const name of ["centre", "width"]) for (const each of inputs(name)) if (each !== document.activeElement) each.value = Math.abs(now[name]) < 100 ? now[name].toFixed(2) : now[name].toFixed(0);
    for (const each of inputs("inverted")) each.checked = now.inverted;
    if (!isDue) requestAnimationFrame(paint);
    isDue = true;
  };
  const load = async () => {
    ({ about, words } = await fetched(canvas.dataset.values));
    canvas.width = about.columns;
    canvas.height = about.rows;
    image = context.createImageData(about.columns, about.rows);
    const highest = words.reduce((most, word) => Math.max(most, word), 0);
    const [low, high] = [about.intercept, about.intercept + about.slope * highest].sort((a, b) => a - b);
    for (const each of inputs("centre")) { each.min = each.type === "range" ? low : ""; each.max = each.type === "range" ? high : ""; }
    for (const each of inputs("width")) each.max = each.type === "range" ? Math.max(2, high - low, about.width) : "";
    now = {};
    reset();
    controls.disabled = false;
    const from = about.is_own_window ? "The window is that of the image" : "The image has no window; this one shows 99 % of its values";
    const less = about.reduced > 1 ? ` Of ${about.reduced.toFixed(1)} by ${about.reduced.toFixed(1)} pixels the mean is shown.` : "";
    say.textContent = `${from}. Values ${low} to ${high}.${less}`;
    canvas.hidden = false;
    viewer.querySelector('.stage img[data-layer="0"]').hidden = true;
    for (const each of viewer.querySelectorAll("[data-of-picture]")) each.hidden = true;
  };
  const reset = () => set({ centre: about.centre, width: about.width, inverted: about.is_inverted });

  controls.addEventListener("input", event => {
    const { level, slides } = event.target.dataset;
    if (level === "inverted") set({ inverted: event.target.checked });
    else if (Number.isFinite(event.target.valueAsNumber)) set({ [level || slides]: event.target.valueAsNumber });
  });
  controls.querySelector("[data-levels-reset]").addEventListener("click", reset);
  const seen = new IntersectionObserver(entries => {
    if (!entries.some(each => each.isIntersecting)) return;
    seen.disconnect();
    load().catch(error => { say.textContent = `The stored values are not shown: ${error.message}.`; });
  });
  seen.observe(viewer);
  return {
    moved: (across, brighter) => set({
      width: now.width * Math.exp(across / 200),
      centre: now.centre + (now.inverted ? brighter : -brighter) * now.width / 300,
    }),
    has: () => Boolean(about),
  };
}
