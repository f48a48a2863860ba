// One radiograph with layers: zoom, move, window, and which layers show. Where its stored values are not to be had: brightness and contrast.
import { windowed } from "/static/values.js";

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

for (const viewer of document.querySelectorAll("[data-viewer]")) {
  const stage = viewer.querySelector(".stage");
  const values = windowed(viewer);
  const pictures = [...stage.querySelectorAll("img, canvas")];
  const radiographs = stage.querySelectorAll("[data-radiograph]");
  const windows = Object.fromEntries([...viewer.querySelectorAll("[data-window]")].map(each => [each.dataset.window, each]));
  let zoom = 1, left = 0, top = 0;

  const draw = () => {
    for (const picture of pictures) picture.style.transform = `translate(${left}px, ${top}px) scale(${zoom})`;
    const filter = `brightness(${windows.brightness.value}%) contrast(${windows.contrast.value}%)`;
    for (const radiograph of radiographs) radiograph.style.filter = filter;
  };
  const zoomed = (factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) => {
    const next = factor ? clamp(zoom * factor, 1, 16) : 1;
    left = next === 1 ? 0 : x - (x - left) * next / zoom;
    top = next === 1 ? 0 : y - (y - top) * next / zoom;
    zoom = next;
    draw();
  };
  const moved = (x, y) => { left += x; top += y; draw(); };
  const level = (across, up) => {
    if (values && values.has()) values.moved(across, up);
    else { changed("contrast", across); changed("brightness", up); }
  };
  const changed = (name, step) => { windows[name].value = Number(windows[name].value) + step; draw(); };

  stage.addEventListener("wheel", event => {
    event.preventDefault();
    const box = stage.getBoundingClientRect();
    zoomed(event.deltaY < 0 ? 1.15 : 1 / 1.15, event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  stage.addEventListener("pointerdown", event => stage.setPointerCapture(event.pointerId));
  stage.addEventListener("pointermove", event => {
    if (!event.buttons) return;
    if (event.buttons === 1 && !event.shiftKey) moved(event.movementX, event.movementY);
    else level(event.movementX, -event.movementY);
  });
  stage.addEventListener("contextmenu", event => event.preventDefault());
  const keys = {
    "+": () => zoomed(1.25), "=": () => zoomed(1.25), "-": () => zoomed(0.8), 0: () => zoomed(0),
    ArrowLeft: () => moved(40, 0), ArrowRight: () => moved(-40, 0), ArrowUp: () => moved(0, 40), ArrowDown: () => moved(0, -40),
    PageUp: shift => level(shift ? 20 : 0, shift ? 0 : 10), PageDown: shift => level(shift ? -20 : 0, shift ? 0 : -10),
  };
  stage.addEventListener("keydown", event => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key](event.shiftKey);
  });
  viewer.addEventListener("click", event => event.target.dataset.zoom && zoomed(Number(event.target.dataset.zoom)));
  viewer.addEventListener("input", event => {
    const { shows, fades } = event.target.dataset;
    const layer = stage.querySelector(`[data-layer="${shows || fades}"]`);
    if (event.target.closest("[data-levels]")) return; // of the window
    if (shows) layer.hidden = !event.target.checked;
    else if (fades) layer.style.opacity = event.target.value / 100;
    else draw();
  });
}
