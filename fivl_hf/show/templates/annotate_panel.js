// Answers by key or click. What is answered here and not yet confirmed counts, so that nobody has to wait for it.
const link = new URLSearchParams(window.location.search).get('key') || '';
let item = null, answered = {}, fixing = false, waiting = Promise.resolve(), turning = false;
const panel = () => element.querySelector('.panel');
const answerOf = (question) => answered[question.dataset.field] || question.dataset.answer;
const questions = () => [...element.querySelectorAll('.question')];

function apply() {
  const now = panel();
  if (!now) return;
  window.fivlItem = now.dataset.item;
  const paint = document.querySelector('#fivl-paint');
  if (paint) paint.style.display = now.dataset.item ? '' : 'none';
  if (now.dataset.item !== item) { item = now.dataset.item; answered = {}; fixing = false; window.scrollTo(0, 0); trigger('close'); }
  const current = questions().find((question) => !answerOf(question));
  for (const question of questions()) {
    question.classList.toggle('current', question === current);
    for (const button of question.querySelectorAll('button')) {
      button.setAttribute('aria-pressed', button.dataset.answer === answerOf(question));
    }
  }
  now.classList.toggle('finished', !current);
  const fix = element.querySelector('.fix');
  if (fix) fix.open = fixing;
}

// One after the other, in their order: each sees what the one before has written.
function ask(step, more = {}) {
  const about = item, turns = step !== 'record' && step !== 'draw';
  // Until another item is shown, nothing can be about the one before.
  if (turns) turning = true;
  waiting = waiting.then(() => server.act({ link, step, item: about, ...more })).then((shown) => {
    // What could not be saved is not answered.
    if (shown.failed) answered = {};
    if (shown.picture !== null) document.dispatchEvent(new CustomEvent('fivl-show', { detail: shown.picture }));
    props.value = shown.panel;
    if (turns) turning = false;
  }).catch(() => {
    turning = false;
    answered = {};
    apply();
    const words = 'That was not saved: the server has stopped, or failed and says why in its terminal. '
      + 'If it has stopped, start it again; then reload this page.';
    tell(words);
  });
}

function tell(words) {
  const message = element.querySelector('.lost');
  if (message) { message.textContent = words; message.hidden = false; message.scrollIntoView({ block: 'nearest' }); }
}

function record(field, value) {
  if (item && !turning) ask('record', { field, value });
}

function answer(question, value) {
  if (!question || !item || turning) return;
  answered[question.dataset.field] = value;
  record(question.dataset.field, value);
  apply();
}

function save(input) {
  if ('none' in input.dataset) return record('missed', input.checked ? [] : null);
  if (input.type === 'checkbox') return record(input.dataset.field, input.checked);
  if (input.value === input.defaultValue) return;
  const lines = input.value.split('\n').map((line) => line.trim()).filter(Boolean);
  record(input.dataset.field, input.dataset.field === 'missed' ? (lines.length ? lines : null) : input.value.trim());
  // Not sent again when the box is left.
  if (input.dataset.field === 'comment') input.defaultValue = input.value;
}

function next() {
  if (turning) return;
  if (document.querySelector('#fivl-editor')?.offsetParent) return tell('Save the painted mask, or restore the dataset\'s, first.');
  const open = questions().find((question) => !answerOf(question));
  if (open) tell('Answer the three questions first.');
  else if (item) ask('next');
}

const picture = (name) => document.dispatchEvent(new CustomEvent('fivl-picture', { detail: name }));
const actions = {
  undo: () => { answered = {}; ask('undo'); },
  next,
  draw: () => picture('draw'),
  'boxes-again': () => record('boxes', null),
};
element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.answer) answer(button.closest('.question'), button.dataset.answer);
  else if (actions[button.dataset.do]) actions[button.dataset.do]();
});
// A comment is kept as it is written: a page that is closed fires no change.
let typed = null;
element.addEventListener('input', (event) => {
  if (event.target.dataset.field !== 'comment') return;
  clearTimeout(typed);
  typed = setTimeout(() => save(event.target), 600);
});
element.addEventListener('change', (event) => { if (event.target.dataset.field) save(event.target); });
element.addEventListener('toggle', (event) => { if (event.target.matches('.fix')) fixing = event.target.open; }, true);

const keys = {
  u: actions.undo, Enter: next, x: actions.draw,
  m: () => picture('mask'), b: () => picture('boxes'), '[': () => picture('fainter'), ']': () => picture('stronger'),
  '+': () => picture('larger'), '-': () => picture('smaller'),
  c: () => element.querySelector('[data-field="comment"]')?.focus(),
  f: () => { fixing = !fixing; apply(); },
  d: () => element.querySelector('[data-field="drop"]')?.click(),
};
document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const typing = event.target.closest('textarea, input:not([type="checkbox"], [type="range"]), [contenteditable="true"]');
  if (typing) {
    // Escape leaves a box of text, which saves it.
    if (event.key === 'Escape') typing.blur();
    return;
  }
  if (event.key === 'Enter' && event.target.closest('button, summary, a')) return;
  const value = { 1: 'yes', 2: 'no', 3: 'unsure' }[event.key];
  if (value) {
    const focused = document.activeElement.closest?.('.question');
    const open = questions().find((question) => !answerOf(question));
    answer(focused || open, value);
    document.activeElement.blur();
  } else if (keys[event.key]) keys[event.key]();
  else return;
  event.preventDefault();
});
document.addEventListener('fivl-draw', (event) => { if (item && !turning) ask('draw', { value: event.detail }); });
// Gradio changes what is there in place, attributes and texts, too.
new MutationObserver(apply).observe(element, {
  childList: true, subtree: true, characterData: true, attributeFilter: ['data-item', 'data-answer', 'data-shown'],
});
ask('open');
