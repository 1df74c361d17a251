// The tree of a search that forks: from left to right the steps, a line a path, and where it left another one.
function tree(search) {
  if (!search.paths.some((path) => path.forks !== undefined)) return null;
  const steps = search.steps || Math.max(...search.paths.map((path) => path.truncated_at || 1));
  const left = 70,
    across = 620,
    row = 24,
    top = 22;
  const x = (step) => left + (across * Math.min(step, steps)) / steps;
  const order = treeOrder(search),
    y = (k) => top + row * order.indexOf(k) + row / 2;
  const height = top + row * search.paths.length + 6;
  const kept = onTheWay(search);
  const marks = search.paths.flatMap((path, k) => {
    const from = path.forks === undefined ? 0 : path.forked_at || 0;
    const to = path.truncated_at !== undefined && path.resumed_at === undefined ? path.truncated_at : steps;
    const cut = kept.get(k);
    const won =
      cut === undefined ? null : svg("line", { class: "line won", x1: x(from), x2: x(cut), y1: y(k), y2: y(k) });
    return [
      path.forks === undefined ? null : svg("path", { class: "line fork", d: `M${x(from)},${y(path.forks)}V${y(k)}` }),
      svg("line", { class: "line", x1: x(from), x2: x(to), y1: y(k), y2: y(k) }),
      won,
      to < steps
        ? svg("path", { class: "cross", d: `M${x(to) - 5},${y(k) - 5}l10,10m0,-10l-10,10` })
        : svg("circle", { class: "end", cx: x(steps), cy: y(k), r: 4 }),
      svg("text", { x: 4, y: y(k) + 4 }, `path ${k + 1}`),
      svg(
        "text",
        { x: x(to) + 9, y: y(k) + 4 },
        (k === search.chosen ? "★ " : "") +
          (path.score !== undefined ? p2(path.score) : to < steps ? `stopped at ${to}` : ""),
      ),
    ];
  });
  const ticks = [...new Set(search.paths.map((path) => path.forked_at).filter(Boolean)), steps].map((step) =>
    svg("text", { x: x(step), y: 12, "text-anchor": "middle" }, String(step)),
  );
  const said = search.paths.map((path, k) =>
    path.forks === undefined ? null : `path ${k + 1} left path ${path.forks + 1} at step ${path.forked_at}`,
  );
  return el(
    "div",
    {},
    el("h4", {}, "Tree of forks"),
    el(
      "div",
      { class: "scroll", tabindex: "0", role: "group", "aria-label": "Tree of forks" },
      svg(
        "svg",
        {
          class: "tree",
          width: left + across + 110,
          height,
          role: "img",
          "aria-label": said.filter(Boolean).join("; "),
        },
        ticks,
        marks.filter(Boolean),
      ),
    ),
    el("p", { class: "soft" }, "Dashed: a fork. ✕ stopped, ● at the end, thick and ★ the way to the choice."),
  );
}

// Forks stand below the path that they left.
function treeOrder(search) {
  const order = [],
    visit = (k) => {
      order.push(k);
      search.paths.forEach((path, index) => {
        if (path.forks === k && index > k) visit(index);
      });
    };
  search.paths.forEach((path, k) => {
    if (path.forks === undefined || path.forks >= k) visit(k);
  });
  return order;
}

// The paths on the way to the choice, and until which step.
function onTheWay(search) {
  const kept = new Map();
  let k = search.chosen,
    until = search.steps || 1;
  while (k !== undefined && !kept.has(k)) {
    kept.set(k, until);
    until = search.paths[k].forked_at || 0;
    k = search.paths[k].forks;
  }
  return kept;
}

// Rounds of reflection: what was said to be wrong, what was drawn in its place, and what changed.
function rounds(search) {
  const found = search.paths
    .map((path, k) => [path, k])
    .filter(([path]) => path.said)
    .sort((x, y) => (x[0].round || 0) - (y[0].round || 0));
  if (!found.length) return null;
  return el(
    "div",
    {},
    el("h4", {}, "Rounds of reflection"),
    found.map(([path, k], number) => {
      const drawn = search.paths.map((one, index) => [one, index]).filter(([one]) => one.corrects === k);
      const best = Math.max(...drawn.map(([one]) => one.score ?? 0));
      const better = best > (path.score ?? 0) ? "better" : "no better";
      return el(
        "div",
        { class: "round" },
        el(
          "p",
          {},
          `Round ${number + 1}. What is wrong with path ${k + 1} (P(yes) ${p2(path.score)})? `,
          `The verifier, P(yes) ${p2(path.said.p_yes)}:`,
        ),
        el("blockquote", {}, path.said.text || "nothing"),
        path.said.problem ? el("p", { class: "odd" }, `Odd: the answer ${path.said.problem}.`) : null,
        (path.said.understood || []).length
          ? el(
              "ul",
              {},
              path.said.understood.map((text) => el("li", {}, `understood: ${text}`)),
            )
          : null,
        el(
          "div",
          { class: "strip" },
          el("div", { class: "figure" }, picture(path.final, `path ${k + 1}`, "", true), `path ${k + 1}, rejected`),
          drawn.map(([one, index]) =>
            el(
              "div",
              { class: "figure" },
              picture(one.final, `path ${index + 1}`, "", true),
              `path ${index + 1}: ${p2(one.score)}`,
              index === search.chosen ? " ★ taken" : "",
            ),
          ),
          drawn
            .filter(([one]) => one.changed)
            .map(([one, index]) =>
              el(
                "div",
                { class: "figure" },
                picture(one.changed[1], `what changed in path ${index + 1}`, "", true),
                `white: what changed in path ${index + 1}, ${(100 * one.changed[0]).toFixed(0)} % of the pixels`,
              ),
            ),
        ),
        el(
          "p",
          {},
          drawn.length
            ? `P(yes) ${p2(path.score)} before, ${p2(best)} for the best that was drawn in its place: ${better}.`
            : "So nothing was drawn again.",
        ),
      );
    }),
  );
}
