// The keyboard, and the page that explains it.
const KEYS = [
  ["/", "search prompts"],
  ["j  k  ↓  ↑", "next, previous prompt"],
  ["Enter", "go from the list to the prompt"],
  ["arrows", "in the grid: from cell to cell"],
  ["x", "exchange A and B"],
  ["r", "without filters"],
  ["o  p", "overview, prompts"],
  ["t", "light or dark"],
  ["Esc", "back"],
  ["?", "this page"],
];

function buildKeys() {
  const rows = KEYS.flatMap(([keys, words]) => [
    el(
      "dt",
      {},
      keys.split("  ").map((one) => [el("kbd", {}, one), " "]),
    ),
    el("dd", {}, words),
  ]);
  const signs = [
    ["✓ ✗ ?", "right, wrong, not judged; the first judge first"],
    ["0.93", "P(yes) of the verifier to the last question"],
    ...Object.values(FLAGS),
    ["★ ✕", "taken, stopped"],
    ...Object.entries(LETTERS).map(([question, sign]) => [sign, `${question}: ${MEANINGS[question]}`]),
  ];
  $("keys").replaceChildren(
    el("h2", { id: "keys-title" }, "Keys and signs"),
    el("dl", {}, rows),
    el("hr", {}),
    el(
      "dl",
      {},
      signs.flatMap(([sign, words]) => [el("dt", {}, el("b", {}, sign)), el("dd", {}, words)]),
    ),
    el("form", { method: "dialog" }, el("button", {}, "Close")),
  );
}

function theme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
  const typing = event.target.matches("input[type=search], select, textarea");
  if (event.key === "Escape") {
    if (typing) event.target.blur();
    else if (state.p !== "") set({ p: "" });
    return;
  }
  if (typing) return;
  const inList = event.target === $("list");
  const act = {
    "/": () => {
      set({ view: "prompts", p: narrow() ? "" : state.p });
      $("search").focus();
    },
    j: () => step(1),
    k: () => step(-1),
    x: () => {
      if (sideB() >= 0) set({ a: String(sideB()), b: String(sideA()) });
    },
    r: () => set({ q: "", task: "", verdict: "", d: "", v: "", s: "", sort: "" }),
    o: () => set({ view: "overview" }),
    p: () => set({ view: "prompts" }),
    t: theme,
    "?": () => $("keys").showModal(),
    ArrowDown: inList && (() => step(1)),
    ArrowUp: inList && (() => step(-1)),
    Enter: inList && (() => $("detail").focus()),
  }[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
}

const narrow = () => matchMedia("(max-width: 860px)").matches;
