// What is looked at: all of it stands in the address, so that a view can be kept and sent.
const EMPTY = { view: "", p: "", a: "", b: "", q: "", task: "", verdict: "", d: "", v: "", s: "", sort: "" };
const state = { ...EMPTY };
const changed = [];

function readState() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(EMPTY)) state[key] = given.get(key) || "";
}

function set(values, replace) {
  Object.assign(state, values);
  const given = new URLSearchParams(Object.entries(state).filter(([, value]) => value !== ""));
  const address = `#${given}`;
  if (location.hash !== address) history[replace ? "replaceState" : "pushState"](null, "", address);
  for (const act of changed) act();
}

const shownMethods = () => page.methods.map((method, k) => (method.shown ? k : -1)).filter((k) => k >= 0);

function sideA() {
  const known = shownMethods();
  return state.a !== "" && known.includes(Number(state.a)) ? Number(state.a) : (known[0] ?? -1);
}

function sideB() {
  return state.b !== "" && shownMethods().includes(Number(state.b)) ? Number(state.b) : -1;
}

// The verdict of the first judge on all images of a method and a prompt: true, false, or null where there is none.
function right(prompt, method) {
  const mark = prompt.by[method];
  if (!mark || !mark.right || !mark.right.length || !mark.right[0][1]) return null;
  return mark.right[0][0] * 2 > mark.right[0][1];
}

const VERDICTS = {
  "": ["any verdict", () => true],
  r: ["A right", (a) => a === true],
  w: ["A wrong", (a) => a === false],
  wr: ["A wrong, B right", (a, b) => a === false && b === true],
  rw: ["A right, B wrong", (a, b) => a === true && b === false],
  x: ["A and B differ", (a, b) => a !== null && b !== null && a !== b],
  bw: ["both wrong", (a, b) => a === false && b === false],
  n: ["A not judged", (a) => a === null],
};

const probability = (prompt, method) => prompt.by[method]?.p_yes;
const last = (value) => (value === undefined || Number.isNaN(value) ? Infinity : value);
const SORTS = {
  "": ["in their order", () => 0],
  text: ["by prompt", (x, y) => (x.key < y.key ? -1 : x.key > y.key ? 1 : 0)],
  task: ["by task", (x, y) => (x.task < y.task ? -1 : x.task > y.task ? 1 : 0)],
  low: ["P(yes) of A, low first", (x, y, a) => last(probability(x, a)) - last(probability(y, a)) || 0],
  high: ["P(yes) of A, high first", (x, y, a) => last(-probability(x, a)) - last(-probability(y, a)) || 0],
  gap: ["P(yes) of A and B, most apart first", (x, y, a, b) => last(-apart(x, a, b)) - last(-apart(y, a, b)) || 0],
};
const apart = (prompt, a, b) => Math.abs(probability(prompt, a) - probability(prompt, b));

function found() {
  const a = sideA(),
    b = sideB();
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  const holds = (VERDICTS[state.verdict] || VERDICTS[""])[1];
  const wanted = ["d", "v", "s"].filter((flag) => state[flag]);
  const kept = page.prompts.filter((prompt) => {
    if (state.task && prompt.task !== state.task) return false;
    if (!words.every((word) => prompt.key.includes(word))) return false;
    if (!holds(right(prompt, a), right(prompt, b))) return false;
    return wanted.every((flag) => (prompt.by[a]?.flags || "").includes(flag));
  });
  const sort = (SORTS[state.sort] || SORTS[""])[1];
  return kept.sort((x, y) => sort(x, y, a, b) || x.number - y.number);
}
