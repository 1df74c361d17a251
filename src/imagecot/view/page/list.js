// The list of prompts: only the rows that are in sight exist, so that thousands stay fluid.
let kept = [];
const drawn = new Map();

function select(name, label, options, wide) {
  const node = el("select", { id: `pick-${name}`, on: { change: () => set({ [name]: node.value }) } });
  for (const [value, text] of options) node.append(el("option", { value }, text));
  return [el("label", { class: wide ? "wide" : "" }, label, node), node];
}

const controls = {};
let pictured = false; // whether any prompt has a picture

function buildFilters() {
  const methods = shownMethods().map((k) => [String(k), methodName(k)]);
  pictured = page.prompts.some((prompt) => Object.values(prompt.by).some((found) => found.picture));
  const tasks = [...new Set(page.prompts.map((prompt) => prompt.task))].sort();
  const search = el("input", {
    type: "search",
    id: "search",
    placeholder: "words of a prompt  ( / )",
    autocomplete: "off",
    on: { input: () => set({ q: search.value }, true) },
  });
  controls.q = search;
  const labels = [el("label", { class: "wide" }, "Text", search)];
  const add = (name, label, options, wide) => {
    const [node, control] = select(name, label, options, wide);
    controls[name] = control;
    labels.push(node);
  };
  add("a", "Method A", methods, true);
  if (methods.length > 1) add("b", "Method B, beside it", [["", "nothing"], ...methods], true);
  add(
    "verdict",
    "Verdict",
    Object.entries(VERDICTS).map(([value, [text]]) => [value, text]),
  );
  if (tasks.length > 1)
    add("task", "Task", [["", "all tasks"], ...tasks.map((task) => [task, task.replaceAll("_", " ")])]);
  add(
    "sort",
    "Sort",
    Object.entries(SORTS).map(([value, [text]]) => [value, text]),
  );
  const checks = Object.entries(FLAGS).map(([flag, [letter, words]]) => {
    controls[flag] = el("input", {
      type: "checkbox",
      on: { change: () => set({ [flag]: controls[flag].checked ? "1" : "" }) },
    });
    return el(
      "label",
      { title: words },
      controls[flag],
      el("span", { class: "flag", "aria-hidden": "true" }, letter),
      words.split(":")[0],
    );
  });
  $("filters").replaceChildren(...labels, el("div", { class: "checks" }, checks));
  $("list").replaceChildren(el("div", { class: "rail", role: "presentation" }));
  $("list").addEventListener("scroll", () => requestAnimationFrame(drawRows), { passive: true });
  new ResizeObserver(drawRows).observe($("list"));
}

function showFilters() {
  controls.a.value = String(sideA());
  if (controls.b) controls.b.value = sideB() < 0 ? "" : String(sideB());
  for (const name of ["verdict", "task", "sort"]) if (controls[name]) controls[name].value = state[name];
  for (const name of ["d", "v", "s"]) controls[name].checked = Boolean(state[name]);
  if (controls.q.value !== state.q) controls.q.value = state.q;
}

let asked = "";

function showList() {
  showFilters();
  const question = JSON.stringify([
    sideA(),
    sideB(),
    state.q,
    state.task,
    state.verdict,
    state.d,
    state.v,
    state.s,
    state.sort,
  ]);
  if (question !== asked) {
    asked = question;
    kept = found();
    for (const row of drawn.values()) row.remove();
    drawn.clear();
    $("count").textContent =
      kept.length === page.prompts.length
        ? plural(kept.length, "prompt")
        : `${kept.length} of ${plural(page.prompts.length, "prompt")}`;
  }
  drawRows();
}

const rowHeight = () => parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row")) || 92;

function drawRows() {
  const list = $("list"),
    rail = list.firstElementChild,
    height = rowHeight();
  rail.style.height = `${kept.length * height}px`;
  const first = Math.max(0, Math.floor(list.scrollTop / height) - 4);
  const end = Math.min(kept.length, Math.ceil((list.scrollTop + list.clientHeight) / height) + 4);
  for (const [place, row] of drawn) {
    if (place < first || place >= end) {
      row.remove();
      drawn.delete(place);
    }
  }
  for (let place = first; place < end; place += 1) {
    if (!drawn.has(place)) {
      const row = item(kept[place], place);
      row.style.top = `${place * height}px`;
      drawn.set(place, row);
      rail.append(row);
    }
  }
  for (const [place, row] of drawn) row.setAttribute("aria-selected", String(String(kept[place].number) === state.p));
  const current = kept.findIndex((prompt) => String(prompt.number) === state.p);
  if (drawn.has(current)) list.setAttribute("aria-activedescendant", `item-${current}`);
  else list.removeAttribute("aria-activedescendant");
}

function item(prompt, place) {
  const sides = [
    ["A", sideA()],
    ["B", sideB()],
  ].filter(([, k]) => k >= 0);
  return el(
    "div",
    {
      class: "item",
      role: "option",
      id: `item-${place}`,
      "aria-setsize": kept.length,
      "aria-posinset": place + 1,
      on: { click: () => openPrompt(place) },
    },
    (pictured ? sides : []).map(([who, k]) =>
      picture(prompt.by[k]?.picture, `${who}'s choice`, sides.length > 1 ? "s64" : "s72", true),
    ),
    el(
      "div",
      { class: "words" },
      el("div", { class: "text" }, prompt.prompt),
      prompt.task ? el("div", { class: "task" }, prompt.task.replaceAll("_", " ")) : null,
      el(
        "div",
        { class: "marks" },
        sides.map(([who, k]) => mark(who, prompt.by[k], sides.length > 1)),
      ),
    ),
  );
}

const JUDGES = ["images that are right by the first judge", "by the second judge"];

function mark(who, found, named) {
  if (!found) return el("span", { class: "mark soft" }, `${who} –`);
  const sure = found.p_yes === undefined ? null : el("span", { title: "P(yes) of the verifier" }, p2(found.p_yes));
  const judged = (found.right || []).map((right, k) => el("span", { title: JUDGES[k] }, counted(right)));
  if (!judged.length && !sure && !found.flags) return null;
  return el(
    "span",
    { class: "mark" },
    named ? el("b", { class: `who-${who.toLowerCase()}` }, who) : null,
    judged,
    sure,
    flags(found.flags),
  );
}

function openPrompt(place, quiet) {
  const prompt = kept[place];
  if (!prompt) return;
  const list = $("list"),
    height = rowHeight(),
    top = place * height;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + height > list.scrollTop + list.clientHeight) list.scrollTop = top + height - list.clientHeight;
  set({ view: "prompts", p: String(prompt.number) }, quiet);
}

function step(by) {
  if (!kept.length) return;
  const place = kept.findIndex((prompt) => String(prompt.number) === state.p);
  openPrompt(Math.min(kept.length - 1, Math.max(0, place < 0 ? 0 : place + by)), true);
}
