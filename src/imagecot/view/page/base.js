// Making elements. Whatever comes from data becomes text or an attribute of a known name, never markup.
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else if (name === "style") for (const [key, text] of Object.entries(value)) node.style.setProperty(key, text);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false && child !== "") node.append(child);
  }
  return node;
}

const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const $ = (id) => document.getElementById(id);
const p2 = (value) => (value === undefined || value === null ? "–" : value.toFixed(2));
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

// A picture by its reference: a file, or one tile of many as FILE#TILE/COLUMNS/ROWS. It is loaded when it is seen.
function picture(reference, alt, size, crisp) {
  const classes = `pic ${size || ""} ${crisp ? "crisp" : ""}`;
  if (!reference)
    return el("span", { class: `${classes} none`, role: "img", "aria-label": `${alt}: no picture` }, "none");
  const [file, place] = reference.split("#");
  if (!/^pictures\/[0-9]{5,7}\.[a-z]{3,4}$/.test(file)) return el("span", { class: `${classes} none` }, "?");
  if (!place) {
    return el("span", { class: classes }, el("img", { src: file, alt, loading: "lazy", decoding: "async" }));
  }
  const [tile, columns, rows] = place.split("/").map(Number);
  const at = (k, many) => (many > 1 ? (100 * k) / (many - 1) : 0);
  const node = el("span", { class: `${classes} crisp`, role: "img", "aria-label": alt });
  const show = () => {
    node.style.backgroundImage = `url("${file}")`;
    node.style.backgroundSize = `${100 * columns}% ${100 * rows}%`;
    node.style.backgroundPosition = `${at(tile % columns, columns)}% ${at(Math.floor(tile / columns), rows)}%`;
  };
  seen(node, show);
  return node;
}

const waiting = new WeakMap();
const watcher = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting && waiting.has(entry.target)) {
        waiting.get(entry.target)();
        waiting.delete(entry.target);
        watcher.unobserve(entry.target);
      }
    }
  },
  { rootMargin: "200px" },
);

function seen(node, act) {
  waiting.set(node, act);
  watcher.observe(node);
}

// A verdict as a sign and a word: never by colour alone.
function verdict(right) {
  if (right === true) return el("span", { class: "yes", title: "right" }, "✓");
  if (right === false) return el("span", { class: "no", title: "wrong" }, "✗");
  return el("span", { class: "soft", title: "not judged" }, "?");
}

function counted([right, of]) {
  if (of === 1) return verdict(right === 1);
  return el("span", { class: right === of ? "yes" : right ? "odd" : "no" }, `${right}/${of}`);
}

const FLAGS = {
  d: ["D", "judges disagree"],
  v: ["V", "verifier wrong: P(yes) is on the wrong side"],
  s: ["S", "a path that was right was stopped"],
};
const flags = (text) =>
  [...(text || "")]
    .filter((one) => FLAGS[one])
    .map((one) => el("abbr", { class: "flag", title: FLAGS[one][1] }, FLAGS[one][0]));

function facts(values) {
  const rows = Object.entries(values || {}).flatMap(([name, value]) => [
    el("dt", {}, name),
    el("dd", {}, String(value)),
  ]);
  return rows.length ? el("dl", { class: "facts" }, rows) : null;
}

// A table of numbers: a heading a column, and of each row what its cells hold.
function numberTable(headings, rows) {
  const line = (tag, attributes, cells) =>
    el(
      "tr",
      {},
      cells.map((cell) => el(tag, attributes, cell)),
    );
  return el(
    "table",
    { class: "numbers" },
    el("thead", {}, line("th", { scope: "col" }, headings)),
    el(
      "tbody",
      {},
      rows.map((cells) => line("td", {}, cells)),
    ),
  );
}
