// Every choice is sent with the question it is about; what comes back is what is shown.
const choices = { asked: null, words: {}, layer: 0, head: -1, patch: null, box: null, how: 'black out', compareRandom: false };
let waiting = false, again = null, photo = null;
let page = null;
const status = () => page.querySelector('.status');

async function view(request) {
  if (waiting) { again = request; return; }
  waiting = true;
  status().textContent = request.step === 'ask' ? 'The model answers …' : 'The model looks …';
  try {
    const shown = await server.act(request);
    status().textContent = shown.problem || '';
    if (!shown.problem) { choices.asked = shown.asked; props.value = shown.html; }
  } catch {
    status().textContent = 'The server has stopped, or failed and says why in its terminal. '
      + 'If it has stopped, start it again; then reload this page.';
  }
  waiting = false;
  if (again) { const next = again; again = null; view(next); }
}
const look = () => { if (choices.asked) view({ step: 'look', ...choices }); };
const forget = () => Object.assign(choices, { words: {}, patch: null, box: null, compareRandom: false });

function ask(request) {
  forget();
  const question = page.querySelector('[name=question]').value;
  view({ step: 'ask', question, ...choices, asked: choices.asked, ...request });
}

element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.word) choices.words[button.closest('[data-model]').dataset.model] = +button.dataset.word;
  else if (button.dataset.how) choices.how = button.dataset.how;
  else if (button.dataset.do === 'random') choices.compareRandom = !choices.compareRandom;
  else if (button.dataset.do === 'no-box') choices.box = null;
  look();
});

dragOver(element, () => true, (place, box, moved) => {
  if (moved) choices.box = box;
  else choices.patch = place;
  look();
});

// The same by keys, when the image has the focus: arrows move the patch, x puts a box
// around it, Shift and arrows resize the box, Escape removes both. / and i go to the question and to the image.
element.addEventListener('keydown', (event) => {
  if (!event.target.matches('.frame')) return;
  const frame = element.querySelector('.layers'), size = [+frame.dataset.width, +frame.dataset.height];
  const [x, y] = choices.patch || size.map((side) => side / 2);
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  const inside = (value, side) => Math.min(Math.max(value, 0), side * 0.9999);
  const moved = (values) => values.map((value, i) => inside(value + (step[i] * size[i]) / 24, size[i]));
  if (step && event.shiftKey && choices.box) choices.box = [...choices.box.slice(0, 2), ...moved(choices.box.slice(2))];
  else if (step) choices.patch = moved([x, y]);
  else if (event.key === 'x') choices.box = [x - size[0] / 8, y - size[1] / 8, x + size[0] / 8, y + size[1] / 8];
  else if (event.key === 'Escape') choices.box = choices.patch = null;
  else return;
  event.preventDefault();
  look();
});

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest('input, textarea, select')) return;
  if (event.key === '/') page?.querySelector('[name=question]').focus();
  else if (event.key === 'i') element.querySelector('.frame')?.focus();
  else return;
  event.preventDefault();
});

// The upper part of the page is another component, which may come later.
function begin() {
  page = document.querySelector('#fivl-top .ask')?.closest('#fivl-top');
  if (!page) { setTimeout(begin, 50); return; }
  page.addEventListener('click', (event) => {
    const example = event.target.closest('[data-example]');
    if (!example) return;
    photo = null;
    page.querySelector('[name=image]').value = '';
    page.querySelector('[name=question]').value = example.querySelector('span').textContent;
    ask({ example: +example.dataset.example });
  });
  page.addEventListener('submit', (event) => {
    event.preventDefault();
    ask(photo ? { photo } : {});
  });
  page.addEventListener('input', (event) => {
    const { name, value } = event.target;
    if (name !== 'layer' && name !== 'head') return;
    choices[name] = +value;
    page.querySelector(`output[name=${name}]`).textContent = name === 'head' && value < 0 ? 'mean' : value;
    look();
  });
  page.addEventListener('change', (event) => {
    if (event.target.name !== 'image') return;
    const [file] = event.target.files;
    if (!file) { photo = null; return; }
    const reader = new FileReader();
    reader.onload = () => { photo = reader.result; };
    reader.readAsDataURL(file);
  });
  choices.layer = +page.querySelector('[name=layer]').value;
  choices.head = +page.querySelector('[name=head]').value;
  page.querySelector('[data-example]')?.click();
}
begin();
