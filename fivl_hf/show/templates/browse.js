// The filters' form is another component, which may come later; its values make a page of rows.
let form = null, page = 0, waiting = false, again = false, timer = null;

async function show() {
  if (waiting) { again = true; return; }
  waiting = true;
  try {
    const shown = await server.act({ ...Object.fromEntries(new FormData(form)), page });
    props.value = shown.html;
    page = shown.page;
    const select = form.querySelector('[name=source]');
    for (const source of shown.sources || []) {
      if (source && ![...select.options].some((option) => option.value === source)) select.add(new Option(source, source));
    }
    clearTimeout(timer);
    if (shown.ready === false) timer = setTimeout(show, 2000);
  } catch {
    props.value = '<p class="problem" role="alert">The server has stopped, or failed and says why in its terminal. If it has stopped, start it again; then reload this page.</p>';
  }
  waiting = false;
  if (again) { again = false; show(); }
}
function turn(to) { page = Math.max(to, 0); show(); window.scrollTo(0, 0); }

element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-page]');
  if (button && !button.disabled) turn(+button.dataset.page);
});
document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest('input, select, textarea, summary')) return;
  if (event.key === '/') form.querySelector('[name=search]').focus();
  else if (event.key === 'ArrowRight' && !element.querySelector('[data-page]:last-child').disabled) turn(page + 1);
  else if (event.key === 'ArrowLeft') turn(page - 1);
  else return;
  event.preventDefault();
});
function begin() {
  form = document.querySelector('#fivl-top .filters');
  if (!form) { setTimeout(begin, 50); return; }
  let typed = null;
  const wait = () => { clearTimeout(typed); typed = setTimeout(() => turn(0), 250); };
  form.addEventListener('input', wait);
  form.addEventListener('change', wait);
  form.addEventListener('submit', (event) => { event.preventDefault(); turn(0); });
  show();
}
begin();
