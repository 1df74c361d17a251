// What the folders are, how their methods score, and what a score costs in seconds.
function showOverview() {
  const place = $("overview");
  if (place.childElementCount) return;
  place.append(
    ...page.sources.map((source, number) =>
      el(
        "article",
        { class: "panel", "aria-label": source.name },
        el("h2", {}, source.name),
        el("p", { class: "soft" }, `${source.kind} · ${source.headline}`),
        source.problems.length
          ? el(
              "ul",
              {},
              source.problems.map((text) => el("li", { class: "odd" }, text)),
            )
          : null,
        scores(number),
        el("details", {}, el("summary", {}, "Settings"), facts(source.facts) || "none are kept"),
      ),
    ),
    ...figures(),
  );
  const between = difference();
  if (between) place.prepend(between);
}

// The shortest way to a prompt at which two methods differ.
function difference() {
  const known = shownMethods().filter((k) => page.prompts.some((prompt) => right(prompt, k) !== null));
  if (known.length < 2) return null;
  const pick = (label, first) => {
    const node = el(
      "select",
      { "aria-label": label },
      known.map((k) => el("option", { value: String(k) }, methodName(k))),
    );
    node.value = String(first);
    node.addEventListener("change", count);
    return node;
  };
  const often = (a, b) =>
    page.prompts.filter((prompt) => right(prompt, a) === false && right(prompt, b) === true).length;
  const few = known.slice(0, 40);
  const pairs = few.flatMap((a) => few.filter((b) => b !== a).map((b) => [often(a, b), a, b]));
  const [, first, second] = pairs.reduce((best, pair) => (pair[0] > best[0] ? pair : best));
  const wrong = pick("The method that is wrong", first),
    good = pick("The method that is right", second);
  const go = el("button", {
    type: "button",
    on: {
      click: () => {
        Object.assign(state, EMPTY, { a: wrong.value, b: good.value, verdict: "wr" });
        set({ view: "prompts", p: String(found()[0].number) });
      },
    },
  });
  function count() {
    const many = often(Number(wrong.value), Number(good.value));
    go.textContent = many ? `Show ${plural(many, "prompt")}` : "There is none";
    go.disabled = !many;
  }
  count();
  return el(
    "section",
    { class: "panel difference", "aria-label": "Find a difference" },
    el("span", {}, "Prompts that "),
    wrong,
    el("span", {}, " got wrong and "),
    good,
    el("span", {}, " right: "),
    go,
  );
}

// How often a method was right among the prompts of this page, by its first judge.
function tally(k) {
  let good = 0,
    all = 0;
  for (const prompt of page.prompts) {
    const counts = prompt.by[k]?.right?.[0];
    if (counts) {
      good += counts[0];
      all += counts[1];
    }
  }
  return all ? `${good} of ${all}` : "–";
}

function scores(number) {
  const methods = page.methods.map((method, k) => [method, k]).filter(([method]) => method.source === number);
  const share = (value, error) =>
    value === undefined ? "–" : `${value.toFixed(3)}${error === undefined ? "" : ` ± ${error.toFixed(3)}`}`;
  const row = ([method, k]) => {
    const score = method.score || {};
    const name = method.shown
      ? el("button", { type: "button", on: { click: () => set({ view: "prompts", a: String(k) }) } }, method.label)
      : method.label;
    const given = (key) => (score[key] === null ? undefined : score[key]);
    return [
      name,
      tally(k),
      share(given("overall"), given("se")),
      share(given("second"), given("second_se")),
      given("seconds") === undefined ? "–" : given("seconds").toFixed(2),
    ];
  };
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "group", "aria-label": "Scores" },
    numberTable(["method", "right", "score", "second judge", "seconds an image"], methods.map(row)),
  );
}

function figures() {
  const names = [...new Set(page.curves.map((curve) => curve.figure))];
  return names.map((name) => {
    const curves = page.curves.filter((curve) => curve.figure === name);
    return el(
      "article",
      { class: "panel", "aria-label": `Score over seconds: ${name}` },
      el("h2", {}, "Score over seconds"),
      el("p", { class: "soft" }, name),
      plot(curves),
      el(
        "ul",
        { class: "legend" },
        curves.map((curve, k) => el("li", {}, key(k), ` ${curve.label}`)),
      ),
      el("details", {}, el("summary", {}, "The same as numbers"), numbers(curves)),
    );
  });
}

const DASHES = ["", "6 3", "2 3", "8 3 2 3", "1 4", "10 4"];

// Curves differ in colour, in dashes, and in the shape of their points.
function point(shape, x, y, classes) {
  const r = 4.5;
  const paths = [
    `M${x - r},${y}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`,
    `M${x - r},${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
    `M${x},${y - r - 1}l${r + 1},${2 * r}h${-2 * r - 2}z`,
    `M${x},${y - r - 1}l${r + 1},${r + 1}l${-r - 1},${r + 1}l${-r - 1},${-r - 1}z`,
    `M${x - r},${y - r}l${2 * r},${2 * r}m0,${-2 * r}l${-2 * r},${2 * r}`,
    `M${x},${y + r + 1}l${r + 1},${-2 * r}h${-2 * r - 2}z`,
  ];
  return svg("path", { class: `dot ${classes}`, d: paths[shape % 6] });
}

function key(k) {
  return svg(
    "svg",
    { viewBox: "0 0 34 14", "aria-hidden": "true" },
    svg("line", {
      class: `curve c${k % 6}`,
      x1: 0,
      x2: 34,
      y1: 7,
      y2: 7,
      "stroke-dasharray": DASHES[(k + Math.floor(k / 6)) % 6],
    }),
    point(k + Math.floor(k / 6), 17, 7, `c${k % 6}`),
  );
}

function plot(curves) {
  const points = curves.flatMap((curve) => curve.points);
  const low = Math.min(...points.map((one) => one.seconds)),
    high = Math.max(...points.map((one) => one.seconds));
  const from = Math.log10(low) - 0.1,
    to = Math.log10(high) + 0.1;
  const floor = Math.max(0, Math.floor(10 * Math.min(...points.map((one) => one.overall - (one.se || 0)))) / 10);
  const roof = Math.min(1, Math.ceil(10 * Math.max(...points.map((one) => one.overall + (one.se || 0)))) / 10);
  const x = (seconds) => 60 + (720 * (Math.log10(seconds) - from)) / (to - from);
  const y = (score) => 330 - (310 * (score - floor)) / Math.max(roof - floor, 0.1);
  const rules = [];
  for (let score = floor; score <= Math.max(roof, floor + 0.1) + 0.001; score += 0.1) {
    rules.push(
      svg("line", { class: "rule", x1: 60, x2: 780, y1: y(score), y2: y(score) }),
      svg("text", { x: 52, y: y(score) + 4, "text-anchor": "end" }, score.toFixed(1)),
    );
  }
  for (let power = Math.floor(from) - 1; power <= to + 1; power += 1) {
    for (const factor of [1, 2, 5]) {
      const seconds = factor * 10 ** power;
      if (Math.log10(seconds) >= from && Math.log10(seconds) <= to) {
        rules.push(
          svg("line", { class: "rule", x1: x(seconds), x2: x(seconds), y1: 20, y2: 330 }),
          svg("text", { x: x(seconds), y: 348, "text-anchor": "middle" }, String(Number(seconds.toPrecision(1)))),
        );
      }
    }
  }
  const lines = curves.flatMap((curve, k) => {
    const style = `c${k % 6}`,
      dash = DASHES[(k + Math.floor(k / 6)) % 6];
    const way = curve.points.map((one, n) => `${n ? "L" : "M"}${x(one.seconds)},${y(one.overall)}`).join("");
    return [
      curve.points.length > 1
        ? svg("path", { class: `curve ${style}`, d: way, style: { fill: "none", "stroke-dasharray": dash } })
        : null,
      curve.points.map((one) => [
        one.se
          ? svg("line", {
              class: style,
              x1: x(one.seconds),
              x2: x(one.seconds),
              y1: y(one.overall - one.se),
              y2: y(one.overall + one.se),
            })
          : null,
        point(k + Math.floor(k / 6), x(one.seconds), y(one.overall), style),
      ]),
    ];
  });
  return svg(
    "svg",
    {
      class: "plot",
      viewBox: "0 0 800 380",
      role: "img",
      "aria-label": "Score over seconds an image; the numbers stand below",
    },
    rules,
    svg("line", { class: "axis", x1: 60, x2: 780, y1: 330, y2: 330 }),
    lines,
    svg("text", { x: 420, y: 372, "text-anchor": "middle" }, "seconds an image (logarithmic)"),
    svg("text", { x: 60, y: 12 }, "score"),
  );
}

function numbers(curves) {
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "group", "aria-label": "Numbers of the figure" },
    numberTable(
      ["method", "paths", "seconds", "score", "standard error"],
      curves.flatMap((curve) =>
        curve.points.map((one) => [
          curve.label,
          one.n ?? "–",
          one.seconds.toFixed(2),
          one.overall.toFixed(3),
          one.se === undefined ? "–" : one.se.toFixed(3),
        ]),
      ),
    ),
  );
}
