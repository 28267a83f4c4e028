// Dragging over the image of a component: what is drawn is shown while it is dragged.
// isActive says whether a press begins a drag; onEnd gets the start [x, y] and the box [x0, y0, x1, y1], in pixels of the
// image, and whether the pointer has moved.
function dragOver(element, isActive, onEnd) {
  let start = null;
  const frame = () => element.querySelector('.layers');
  const place = (event) => {
    const box = frame().getBoundingClientRect();
    const inside = (value, size, length) => Math.min(Math.max(value / size, 0), 0.9999) * length;
    return [
      inside(event.clientX - box.left, box.width, +frame().dataset.width),
      inside(event.clientY - box.top, box.height, +frame().dataset.height),
    ];
  };
  const corners = (event) => {
    const end = place(event), of = (pick) => [0, 1].map((i) => pick(start.at[i], end[i]));
    return [...of(Math.min), ...of(Math.max)];
  };
  const moved = (event) => Math.hypot(event.clientX - start.x, event.clientY - start.y) > 5;
  element.addEventListener('pointerdown', (event) => {
    if (!event.target.closest('.layers') || !isActive()) return;
    event.preventDefault();
    start = { at: place(event), x: event.clientX, y: event.clientY };
  });
  document.addEventListener('pointermove', (event) => {
    if (!start || !moved(event)) return;
    const [x, y, x1, y1] = corners(event), rect = element.querySelector('.drawn');
    for (const [name, value] of Object.entries({ x, y, width: x1 - x, height: y1 - y })) rect.setAttribute(name, value);
  });
  document.addEventListener('pointerup', (event) => {
    if (!start) return;
    const drag = [start.at, corners(event), moved(event)];
    start = null;
    onEnd(...drag);
  });
  document.addEventListener('pointercancel', () => { start = null; });
}

