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
  // Until another item is shown, keys would be about the one before.
  turning = step !== 'say' && step !== 'draw';
  waiting = waiting.then(() => server.act({ link, step, item, ...more })).then((shown) => {
    // What could not be saved is not answered.
    if (shown.failed) answered = {};
    if (shown.picture !== null) document.dispatchEvent(new CustomEvent('fivl-show', { detail: shown.picture }));
    props.value = shown.panel;
    if (step !== 'say' && step !== 'draw') turning = false;
  }).catch(() => {
    turning = false;
    answered = {};
    apply();
    const words = 'The server does not answer: what you say now is not saved. Start it again, then reload this page.';
    const lost = element.querySelector('.lost');
    if (lost) { lost.textContent = words; lost.hidden = false; }
  });
}

function say(field, value) {
  if (item) ask('say', { field, value });
}

function answer(question, value) {
  if (!question || !item || turning) return;
  answered[question.dataset.field] = value;
  say(question.dataset.field, value);
  apply();
}

function save(input) {
  if (input.type === 'checkbox') return say(input.dataset.field, input.checked);
  if (input.value === input.defaultValue) return;
  const lines = input.value.split('\n').map((line) => line.trim()).filter(Boolean);
  say(input.dataset.field, input.dataset.field === 'missed' ? lines : input.value.trim());
}

function next() {
  if (turning) return;
  const open = questions().find((question) => !answerOf(question));
  if (open) open.querySelector('button').focus();
  else if (item) ask('next');
}

const picture = (name) => document.dispatchEvent(new CustomEvent('fivl-picture', { detail: name }));
const actions = {
  undo: () => { answered = {}; ask('undo'); },
  next,
  draw: () => picture('draw'),
  'boxes-again': () => say('boxes', null),
};
element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.answer) answer(button.closest('.question'), button.dataset.answer);
  else if (actions[button.dataset.do]) actions[button.dataset.do]();
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
document.addEventListener('fivl-draw', (event) => { if (item) ask('draw', { value: event.detail }); });
// Gradio changes what is there in place, attributes and texts, too.
new MutationObserver(apply).observe(element, {
  childList: true, subtree: true, characterData: true, attributeFilter: ['data-item', 'data-answer', 'data-shown'],
});
ask('open');
