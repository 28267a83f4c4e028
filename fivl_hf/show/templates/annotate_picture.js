// Mask and boxes on or off, opacity, zoom, and boxes dragged over the image. Choices last from image to image.
const shown = { mask: true, boxes: true, opacity: 100, zoom: 1, drawing: false };
const layers = () => element.querySelector('.layers');

function apply() {
  const frame = layers();
  if (!frame) return;
  const width = +frame.dataset.width, height = +frame.dataset.height;
  const room = Math.min(frame.parentElement.clientWidth, (window.innerHeight * 0.73 * width) / height);
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

dragOver(element, () => shown.drawing, (_, box, moved) => {
  shown.drawing = false;
  const rounded = box.map((value) => Math.round(value * 10) / 10);
  if (moved) document.dispatchEvent(new CustomEvent('fivl-draw', { detail: rounded }));
  apply();
});
document.addEventListener('fivl-show', (event) => { props.value = event.detail; });
window.addEventListener('resize', apply);
new MutationObserver(apply).observe(element, { childList: true, subtree: true, attributeFilter: ['src', 'data-width'] });
apply();
