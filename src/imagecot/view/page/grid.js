// The grid of a search: a row a path, a column a step; a click on a cell tells what happened there.
const LETTERS = { clarity: "C", potential: "P", orm: "O", prm: "S", reflection: "R" };
const MEANINGS = {
  clarity: "is the preview clear enough to judge?",
  potential: "can it still become what the prompt asks for?",
  orm: "does the final image show the prompt?",
  prm: "is this step on the way to what the prompt asks for?",
  reflection: "does the image show the prompt, and what is wrong?",
};
const letter = (question) => LETTERS[question] || question.slice(0, 1).toUpperCase();
const END = Infinity; // the column of what is known of the end alone

const at = (search, answer) => answer.step ?? search.steps ?? END;
const endOf = (search) => search.steps ?? END;

function columnsOf(search) {
  const steps = new Set([endOf(search)]);
  for (const path of search.paths) {
    for (const one of path.asked || []) steps.add(at(search, one));
    for (const one of Object.keys(path.pictures || {})) steps.add(Number(one));
    if (path.truncated_at !== undefined) steps.add(path.truncated_at);
    if (path.forked_at) steps.add(path.forked_at);
  }
  return [...steps].sort((x, y) => x - y);
}

const wentOn = (path, step) =>
  path.truncated_at === undefined || step <= path.truncated_at || path.resumed_at !== undefined;
const began = (path, step) => (!path.forks && path.forks !== 0 ? true : step > (path.forked_at ?? 0));

function pictureAt(search, path, step) {
  if (step === endOf(search)) return path.final ?? path.pictures?.[step];
  return path.pictures?.[step];
}

function grid(search, tell) {
  const columns = columnsOf(search),
    places = [];
  const pictured = columns.map((step) => search.paths.some((path) => pictureAt(search, path, step)));
  const head = el(
    "tr",
    {},
    el("th", { scope: "col" }, "path"),
    columns.map((step) =>
      el("th", { scope: "col" }, step === END ? "end" : step === search.steps ? `${step} · end` : String(step)),
    ),
  );
  const rows = search.paths.map((path, k) => {
    const cells = columns.map((step, column) => {
      const node = cell(search, k, step, pictured[column], () => {
        for (const other of places.flat()) other?.setAttribute("aria-pressed", "false");
        node.setAttribute("aria-pressed", "true");
        tell(inspect(search, k, step));
      });
      (places[k] ||= [])[column] = node.tagName === "BUTTON" ? node : null;
      return el("td", {}, node);
    });
    return el("tr", {}, el("th", { scope: "row" }, rowName(search, k)), cells);
  });
  const table = el(
    "table",
    { class: "grid", "aria-label": "Paths and steps" },
    el("thead", {}, head),
    el("tbody", {}, rows),
  );
  table.addEventListener("keydown", (event) => moveInGrid(event, places));
  return el("div", { class: "scroll" }, table);
}

function rowName(search, k) {
  const path = search.paths[k];
  return [
    el("div", {}, k === search.chosen ? el("span", { class: "yes" }, "★ ") : null, `path ${k + 1}`),
    path.forks !== undefined ? el("div", { class: "soft" }, `fork of ${path.forks + 1}`) : null,
    path.round ? el("div", { class: "soft" }, `round ${path.round}`) : null,
    path.right ? el("div", {}, path.right.map(verdict)) : null,
  ];
}

function cell(search, k, step, pictured, act) {
  const path = search.paths[k];
  if (!wentOn(path, step))
    return step === endOf(search) && path.final ? ghost(path, k, act) : el("div", { class: "gone" }, "·");
  if (!began(path, step))
    return el("div", { class: "gone", title: `as path ${path.forks + 1}` }, step === path.forked_at ? "⤷" : "");
  const answers = (path.asked || []).filter((one) => at(search, one) === step);
  const stopped = path.truncated_at === step;
  const chosen = k === search.chosen && step === endOf(search);
  const name = step === END ? "the end" : `step ${step}`;
  const said = answers.map((one) =>
    el(
      "span",
      { class: "said" },
      `${letter(one.question)} `,
      el("span", { class: one.p_yes >= 0.5 ? "yes" : "no" }, one.p_yes >= 0.5 ? "✓" : "✗"),
      ` ${p2(one.p_yes).replace(/^0/, "")}`,
    ),
  );
  const shownPicture = pictureAt(search, path, step);
  return el(
    "button",
    {
      type: "button",
      class: `cell ${pictured ? "" : "bare"} ${stopped ? "stop" : ""} ${chosen ? "chosen" : ""}`,
      "aria-pressed": "false",
      on: { click: act },
    },
    shownPicture
      ? picture(shownPicture, `path ${k + 1}, ${name}`, "", true)
      : answers.length
        ? null
        : el("span", { class: "soft" }, "·"),
    said,
    stopped ? el("span", { class: "said no" }, "✕ stop") : null,
    chosen ? el("span", { class: "said yes" }, "★ taken") : null,
  );
}

// The end of a path that this search stopped, where somebody drew it to its end all the same: a study does.
function ghost(path, k, act) {
  return el(
    "button",
    { type: "button", class: "cell ghost", "aria-pressed": "false", on: { click: act } },
    picture(path.final, `path ${k + 1}, what it would have become`, "", true),
    el("span", { class: "said" }, "not drawn"),
  );
}

function moveInGrid(event, places) {
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  if (!steps) return;
  const row = places.findIndex((cells) => cells.includes(document.activeElement));
  if (row < 0) return;
  let y = row,
    x = places[row].indexOf(document.activeElement);
  do {
    y += steps[0];
    x += steps[1];
  } while (places[y] && x >= 0 && x < places[y].length && !places[y][x]);
  const next = places[y]?.[x];
  if (next) {
    event.preventDefault();
    event.stopPropagation();
    next.focus();
    next.click();
  }
}

// What was decided about a path after a step, in sentences; from what the trace says alone.
function decided(search, k, step) {
  const path = search.paths[k],
    told = [],
    end = step === endOf(search);
  if (path.first_clear === step) told.push("From here on its previews are clear enough to judge.");
  const cloudy = (path.asked || []).some(
    (one) => at(search, one) === step && one.question === "clarity" && one.p_yes < 0.5,
  );
  if (cloudy) told.push("Not clear enough yet: it was drawn on and is asked again.");
  if (path.truncated_at === step)
    told.push("It was stopped here: other paths were more promising, or the verifier saw no future for it.");
  if (path.resumed_at !== undefined && path.resumed_at === step)
    told.push("No path was left, so this one was taken up again.");
  search.paths.forEach((other, index) => {
    if (other.forks === k && other.forked_at === step)
      told.push(`Path ${index + 1} left it here, under a seed of its own.`);
  });
  if (path.forks !== undefined && path.forked_at !== undefined && step === path.forked_at + 1) {
    told.push(`Until step ${path.forked_at} it was path ${path.forks + 1}.`);
  }
  if (!wentOn(path, step)) {
    return [
      `It was stopped after step ${path.truncated_at}.`,
      "This is what it would have become: the study drew all paths to their end.",
    ];
  }
  if (end && k === search.chosen) told.push("It was taken.");
  else if (end) told.push(`Not taken: path ${search.chosen + 1} was${other(search)}.`);
  if (path.said && end) told.push(`Asked what is wrong, the verifier said: “${path.said.text}”`);
  if (!told.length) told.push("It went on.");
  return told;
}

function other(search) {
  const score = search.paths[search.chosen].score;
  return score === undefined ? "" : `, with P(yes) ${p2(score)}`;
}

function inspect(search, k, step) {
  const path = search.paths[k];
  const shownPicture = pictureAt(search, path, step);
  const answers = (path.asked || []).filter((one) => at(search, one) === step);
  const before = (path.asked || []).filter((one) => at(search, one) <= step).length;
  const where = step === END ? "at its end" : `after step ${step}${search.steps ? ` of ${search.steps}` : ""}`;
  const drawnSteps = step === END ? null : step - (path.forked_at || 0);
  const table = answers.length
    ? numberTable(
        ["question", "P(yes)", "answer", "fill"],
        answers.map((one) => [
          [one.question, MEANINGS[one.question] ? el("div", { class: "soft" }, MEANINGS[one.question]) : null],
          one.p_yes.toFixed(4),
          one.p_yes >= 0.5 ? "✓ yes" : "✗ no",
          one.fill || "none",
        ]),
      )
    : el("p", { class: "soft" }, "Nothing was asked here.");
  const cost = [
    drawnSteps === null ? null : plural(drawnSteps, "step"),
    `${plural(before, "question")} asked of this path so far`,
  ];
  return el(
    "div",
    { class: "inspector", role: "region", "aria-label": "The cell", "aria-live": "polite" },
    picture(shownPicture, `path ${k + 1} ${where}`, "s256", true),
    el(
      "div",
      { class: "words" },
      el("h4", { style: { "margin-top": "0" } }, `Path ${k + 1}, ${where}`),
      table,
      decided(search, k, step).map((text) => el("p", {}, text)),
      path.right && step === endOf(search)
        ? el(
            "p",
            {},
            "Judges: ",
            path.right.map((one) => [verdict(one), one ? " right " : " wrong "]),
            path.why ? `(${path.why.replaceAll("\n", "; ")})` : "",
          )
        : null,
      facts({ cost: cost.filter(Boolean).join(", "), seed: path.seed ?? "not kept" }),
    ),
  );
}
