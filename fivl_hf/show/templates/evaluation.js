const data = JSON.parse(document.getElementById("data").textContent);
const field = (id) => document.getElementById(id);
const [show, category, search, found, list, end] = ["show", "category", "search", "found", "list", "end"].map(field);
const PAGE = 30;

const right = (question, condition) => question.answers[condition] && question.answers[condition].score >= data.right;
const asked = (question, ...conditions) => conditions.every((condition) => question.answers[condition]);
const tests = { all: ["all questions", () => true] };
if (data.conditions.includes("original")) {
  tests.right = ["right on the original image", (q) => right(q, "original")];
  tests.wrong = ["wrong on the original image", (q) => asked(q, "original") && !right(q, "original")];
}
if (data.conditions.includes("removed")) {
  tests.without = ["right without the evidence, too", (q) => right(q, "original") && right(q, "removed")];
  tests.lost = ["right only with the evidence", (q) => right(q, "original") && asked(q, "removed") && !right(q, "removed")];
  tests.gained = ["right only without the evidence", (q) => asked(q, "original") && !right(q, "original") && right(q, "removed")];
}
for (const name of data.conditions.filter((each) => each !== "original")) {
  tests[`flips-${name}`] = [`flips under ${name}`, (q) => asked(q, "original", name) && right(q, "original") !== right(q, name)];
}
tests.unparsed = ["with an answer that could not be read", (q) => Object.values(q.answers).some((each) => !each.parsed)];
for (const [value, [label]] of Object.entries(tests)) show.append(new Option(label, value));

const texts = data.questions.map((q) => [q.id, q.prompt, ...q.references, ...Object.values(q.answers).map((each) => each.text)].join("\n").toLowerCase());

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function view(question, condition) {
  const answer = question.answers[condition], figure = element("figure");
  const images = question.images[condition];
  for (const name of images || []) {
    const image = element("img");
    image.loading = "lazy";
    image.decoding = "async";
    image.alt = condition;
    image.src = data.images[name] || `${data.folder}/${name}.jpg`;
    figure.append(image);
  }
  if (images && !images.length) figure.append(element("div", "none", "no image"));
  figure.append(element("figcaption", "", condition));
  const good = answer.score >= data.right, box = element("div", `answer ${good ? "right" : "wrong"}`);
  const partly = answer.score > 0 && answer.score < 1 ? ` (${answer.score})` : "";
  box.append(element("span", "mark", good ? "✓ " : "✗ "), element("span", "spoken", good ? "right: " : "wrong: "));
  box.append((answer.text || "(empty)") + partly + (answer.parsed ? "" : " – could not be read"));
  figure.append(box);
  return figure;
}

function card(question) {
  const made = element("article", "card");
  made.tabIndex = -1;
  made.dataset.id = question.id;
  made.append(element("p", "question", question.prompt));
  const about = [question.references.join(" / "), question.category, question.id, question.evidence ? "" : "no evidence"];
  made.append(element("p", "soft reference", about.filter(Boolean).join(" · ")));
  const views = element("div", "views");
  for (const condition of data.conditions) if (question.answers[condition]) views.append(view(question, condition));
  made.append(views);
  return made;
}

let chosen = [];
function more() {
  const first = list.childElementCount;
  list.append(...chosen.slice(first, first + PAGE).map(card));
  // On a tall screen the end may still be in view, of which the observer says nothing.
  if (list.childElementCount < chosen.length && end.getBoundingClientRect().top < innerHeight) more();
}

function filter() {
  const test = tests[show.value][1], wanted = category ? category.value : "", words = search.value.trim().toLowerCase();
  chosen = data.questions.filter((q, i) => test(q) && (!wanted || q.category === wanted) && texts[i].includes(words));
  found.textContent = `${chosen.length.toLocaleString("en")} of ${data.questions.length.toLocaleString("en")}`;
  const state = new URLSearchParams({ show: show.value, category: wanted, search: search.value });
  history.replaceState(null, "", `#${state}`);
  list.replaceChildren();
  more();
}

const kept = new URLSearchParams(location.hash.slice(1));
if (kept.get("show") in tests) show.value = kept.get("show");
if (category) category.value = kept.get("category") || "";
search.value = kept.get("search") || "";
search.addEventListener("input", filter);
for (const control of [show, category]) if (control) control.addEventListener("change", filter);
document.querySelector(".filters").addEventListener("submit", (event) => event.preventDefault());
new IntersectionObserver((seen) => seen.some((each) => each.isIntersecting) && more(), { rootMargin: "1200px" }).observe(end);

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    event.preventDefault();
    search.focus();
  }
  const step = { j: 1, k: -1 }[event.key];
  if (!step) return;
  const cards = [...list.children], now = cards.indexOf(document.activeElement.closest("article"));
  const next = cards[Math.max(0, now + step)];
  if (next) next.focus();
});
if (kept.has("show")) filter();
else { // A link to a section stays as it is until a filter is used.
  chosen = data.questions;
  found.textContent = `${chosen.length.toLocaleString("en")} of ${chosen.length.toLocaleString("en")}`;
  more();
}
