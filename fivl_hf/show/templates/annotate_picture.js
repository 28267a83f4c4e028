// Mask and boxes on or off, opacity, zoom, and boxes dragged over the image. Choices last from image to image.
const shown = { mask: true, boxes: true, opacity: 100, zoom: 1, drawing: false };
const layers = () => element.querySelector('.layers');

function apply() {
  const frame = layers();
  if (!frame) return;
  const width = +frame.dataset.width, height = +frame.dataset.height;
  const room = Math.min(frame.parentElement.clientWidth, (window.innerHeight * 0.74 * width) / height);
  frame.style.width = `${room * shown.zoom}px`;
  frame.classList.toggle('small', room * shown.zoom > 2 * width);
  frame.classList.toggle('drawing', shown.drawing);
  frame.querySelector('.mask').style.opacity = shown.mask ? shown.opacity / 100 : 0;
  frame.querySelector('svg').style.display = shown.boxes || shown.drawing ? '' : 'none';
  for (const name of ['mask', 'boxes']) {
    element.querySelector(`[data-do="${name}"]`).setAttribute('aria-pressed', shown[name]);
  }
  element.querySelector('[data-do="opacity"]').value = shown.opacity;
  for (const button of document.querySelectorAll('[data-do="draw"]')) button.setAttribute('aria-pressed', shown.drawing);
}

const steps = {
  mask: () => { shown.mask = !shown.mask; },
  boxes: () => { shown.boxes = !shown.boxes; },
  fainter: () => { shown.opacity = Math.max(0, shown.opacity - 20); },
  stronger: () => { shown.opacity = Math.min(100, shown.opacity + 20); },
  larger: () => { shown.zoom = Math.min(8, shown.zoom * 1.5); },
  smaller: () => { shown.zoom = Math.max(1, shown.zoom / 1.5); },
  draw: () => { shown.drawing = !shown.drawing; },
};
document.addEventListener('fivl-picture', (event) => { steps[event.detail](); apply(); });
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-do]');
  if (button) { steps[button.dataset.do](); apply(); }
});
element.addEventListener('input', (event) => { shown.opacity = +event.target.value; apply(); });

let start = null;
const place = (event) => {
  const frame = layers(), box = frame.getBoundingClientRect();
  const scale = (value, size, length) => Math.min(Math.max(value / size, 0), 1) * length;
  return [
    scale(event.clientX - box.left, box.width, +frame.dataset.width),
    scale(event.clientY - box.top, box.height, +frame.dataset.height),
  ];
};
const corners = (event) => {
  const end = place(event);
  return [0, 1].map((i) => Math.min(start[i], end[i])).concat([0, 1].map((i) => Math.max(start[i], end[i])));
};
element.addEventListener('pointerdown', (event) => {
  if (!shown.drawing || !event.target.closest('.layers')) return;
  event.preventDefault();
  start = place(event);
});
document.addEventListener('pointermove', (event) => {
  if (!start) return;
  const [x0, y0, x1, y1] = corners(event), rect = element.querySelector('.drawn');
  for (const [name, value] of Object.entries({ x: x0, y: y0, width: x1 - x0, height: y1 - y0 })) rect.setAttribute(name, value);
});
document.addEventListener('pointerup', (event) => {
  if (!start) return;
  const box = corners(event).map((value) => Math.round(value * 10) / 10);
  start = null;
  shown.drawing = false;
  if (box[2] - box[0] >= 1 && box[3] - box[1] >= 1) {
    document.dispatchEvent(new CustomEvent('fivl-draw', { detail: box }));
  }
  apply();
});
document.addEventListener('fivl-show', (event) => { props.value = event.detail; });
document.addEventListener('pointercancel', () => { start = null; });
window.addEventListener('resize', apply);
new MutationObserver(apply).observe(element, { childList: true, subtree: true, attributeFilter: ['src', 'data-width'] });
apply();
