const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const [measure, cell, own, control, scale, list] = ["measure", "cell", "own", "control", "scale", "top"].map(byId);
const SVG = "http://www.w3.org/2000/svg";
const three = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));
const isOne = (heads, layer, head) => heads.some(([l, h]) => l === layer && h === head);
for (const [name, each] of Object.entries(data.measures)) measure.append(new Option(each.label, name));

function drawn(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/* Above chance in one colour, below it in another; of a measure without chance level, from the worst to the best. */
function colouring(found) {
  const values = [...found.alignment.flat(), ...found.control_alignment.flat()].filter((value) => value !== null);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const mixed = (colour, share) => `color-mix(in oklab, var(${colour}) ${(100 * share).toFixed(1)}%, var(--card))`;
  if (found.chance === null || least >= found.chance) {
    const better = (value) => (most > least ? (value - least) / (most - least) : 1);
    scale.textContent = `From ${three(least)} (${found.lower_is_better ? "deepest" : "palest"}) to ${three(most)}.` +
      (found.chance === null ? "" : ` Chance is ${three(found.chance)}.`);
    return (value) => mixed("--fivl", found.lower_is_better ? 1 - better(value) : better(value));
  }
  const reach = Math.max(most - found.chance, found.chance - least) || 1;
  scale.textContent = `Blue is above chance (${three(found.chance)}), red below; the deepest colour is ${three(reach)} away from it.`;
  return (value) => mixed(value >= found.chance ? "--fivl" : "--wrong-line", Math.abs(value - found.chance) / reach);
}

function map(place, found, values, colour) {
  const layers = found.alignment.length, heads = found.alignment[0].length;
  const letter = Math.max(heads, layers, 8) / 26, edge = 2.4 * letter;
  const svg = drawn("svg", { viewBox: `${-edge} ${-edge / 2 - 0.2} ${heads + edge + 0.2} ${layers + edge / 2 + 0.4}`, role: "img" });
  svg.style.maxWidth = `${56 * (heads + edge)}px`;
  svg.setAttribute("font-size", letter);
  svg.setAttribute("aria-label", `${found.label} of ${layers} layers of ${heads} heads`);
  const step = Math.ceil(Math.max(layers, heads) / 16);
  for (let head = 0; head < heads; head += step) svg.append(drawn("text", { x: head + 0.5, y: -0.3, "text-anchor": "middle" }, head));
  const framed = [];
  values.forEach((row, layer) => {
    if (layer % step === 0) svg.append(drawn("text", { x: -0.3, y: layer + 0.7, "text-anchor": "end" }, layer));
    row.forEach((value, head) => {
      const rect = drawn("rect", { x: head, y: layer, width: 0.96, height: 0.96, "data-head": `${layer},${head}` });
      if (value === null) rect.setAttribute("class", "unknown");
      else rect.style.fill = colour(value);
      const chosen = isOne(found.chosen, layer, head);
      if (chosen || isOne(found.top.map((each) => [each.layer, each.head]), layer, head)) {
        rect.setAttribute("class", chosen ? "chosen" : "top");
        framed.push(rect);
      }
      const description = `layer ${layer}, head ${head}: ${three(found.alignment[layer][head])}, control ${three(found.control_alignment[layer][head])}`;
      rect.append(drawn("title", {}, description));
      for (const event of ["pointerover", "click"]) rect.addEventListener(event, () => (cell.textContent = description));
      svg.append(rect);
    });
  });
  svg.append(...framed); // Over their neighbours.
  place.replaceChildren(svg);
}

function show() {
  const found = data.measures[measure.value];
  cell.textContent = "";
  if (!found || !found.alignment.length) {
    scale.textContent = "No key expression could be measured.";
    return;
  }
  const colour = colouring(found);
  map(own, found, found.alignment, colour);
  map(control, found, found.control_alignment, colour);
  list.replaceChildren(...found.top.map((each) => {
    const row = element("tr"), bar = element("span", "bar"), share = element("i");
    share.style.width = `${100 * each.chosen_again}%`;
    bar.append(share, element("span", "", `${Math.round(100 * each.chosen_again)}%`));
    const at = each.threshold === undefined ? "" : `, above ${each.threshold} of the largest attention`;
    const name = element("th", "", `${each.layer},${each.head}${at}`), last = element("td", "axis");
    name.scope = "row";
    last.append(bar);
    row.append(name, element("td", "n", three(each.score)), element("td", "n", three(each.control)), last);
    return row;
  }));
}

measure.addEventListener("change", show);
if (data.measures.auroc) measure.value = "auroc";
show();
