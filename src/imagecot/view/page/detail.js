// One prompt: the choices of A and B with the reasons, then the grid, the tree, the rounds, and all other methods.
let shownDetail = "";

async function showDetail() {
  const place = $("detail"),
    number = state.p === "" ? -1 : Number(state.p);
  const prompt = page.prompts[number];
  $("prompts").classList.toggle("one", Boolean(prompt));
  const question = JSON.stringify([number, sideA(), sideB()]);
  if (question === shownDetail) return;
  shownDetail = question;
  if (!prompt) {
    place.replaceChildren(
      el("p", { class: "soft" }, "Choose a prompt to see every path and why it ended as it did. Keys: ?"),
    );
    return;
  }
  let found;
  try {
    found = await told(number);
  } catch (error) {
    place.replaceChildren(el("p", { role: "alert" }, error.message));
    return;
  }
  if (question !== shownDetail) return; // another prompt was asked for meanwhile
  const sides = [sideA(), sideB()].filter((k) => k >= 0);
  place.replaceChildren(
    el("button", { type: "button", class: "back", on: { click: () => set({ p: "" }) } }, "← all prompts"),
    el("h2", {}, prompt.prompt),
    el(
      "p",
      { class: "soft" },
      [prompt.task.replaceAll("_", " "), found.wanted ? `judged by: ${found.wanted}` : ""].filter(Boolean).join(" · "),
    ),
    el(
      "div",
      { class: "sides" },
      sides.map((k, index) => side(prompt, found.by[k], k, index ? "B" : "A")),
    ),
    others(prompt, sides),
  );
  place.scrollTop = 0;
}

function side(prompt, found, k, who) {
  const mark = prompt.by[k],
    method = page.methods[k];
  const title = el("h3", {}, el("b", { class: `who-${who.toLowerCase()}` }, `${who} `), methodName(k));
  if (!found || !mark)
    return el("article", { class: `side ${who.toLowerCase()}` }, title, el("p", {}, "It has nothing of this prompt."));
  const search = found.search;
  return el(
    "article",
    { class: `side ${who.toLowerCase()}`, "aria-label": `${who}: ${methodName(k)}` },
    title,
    search ? searched(search, mark, method) : shownImages(found.images || [], method, mark),
  );
}

function searched(search, mark, method) {
  const place = el("div", {});
  const tell = (node) => place.replaceChildren(node);
  return [
    el(
      "div",
      { class: "top" },
      picture(mark.picture, "the choice", "", true),
      el(
        "ul",
        { class: "story", "aria-label": "Why" },
        el(
          "li",
          {},
          el(
            "span",
            { class: "mark" },
            (mark.right || []).map(counted),
            mark.p_yes === undefined ? null : `P(yes) ${p2(mark.p_yes)}`,
            flags(mark.flags),
          ),
        ),
        (search.story || []).map((text) => el("li", {}, text)),
      ),
    ),
    el("h4", {}, "Paths and steps"),
    grid(search, tell),
    el("p", { class: "soft" }, legend(search)),
    place,
    tree(search),
    rounds(search),
    el("details", {}, el("summary", {}, "Cost and settings"), facts(search.cost), facts(method.facts)),
  ];
}

function legend(search) {
  const asked = [...new Set(search.paths.flatMap((path) => (path.asked || []).map((one) => one.question)))];
  const told = asked.map((question) => `${letter(question)} ${question}`);
  const questions = told.length ? `Asked: ${told.join(", ")}, with P(yes). ` : "";
  return `${questions}✕ stopped, ★ taken. Click a cell, or move with the arrows.`;
}

function shownImages(images, method, mark) {
  return [
    el("p", {}, el("span", { class: "mark" }, (mark.right || []).map(counted), flags(mark.flags))),
    el(
      "div",
      { class: "strip" },
      images.map((one, k) =>
        el(
          "figure",
          { class: "figure", style: { width: "168px", margin: "0" } },
          el(
            "span",
            { style: { display: "block", width: "168px" } },
            picture(one.picture, `image ${k + 1}`, "s256", true),
          ),
          el(
            "figcaption",
            {},
            (one.right || []).map((right, judge) =>
              el(
                "div",
                {},
                verdict(right),
                ` ${(method.judges || [])[judge] || ""}: `,
                right === null ? "not judged" : right ? "right" : "wrong",
                one.why?.[judge] ? ` (${one.why[judge].replaceAll("\n", "; ")})` : "",
              ),
            ),
            facts(one.facts),
          ),
        ),
      ),
    ),
    el("details", {}, el("summary", {}, "Settings"), facts(method.facts)),
  ];
}

function others(prompt, sides) {
  const rest = Object.keys(prompt.by)
    .map(Number)
    .filter((k) => page.methods[k].shown);
  if (rest.length < 2) return null;
  return el(
    "section",
    { "aria-label": "All methods at this prompt" },
    el("h4", {}, "All methods at this prompt"),
    el(
      "div",
      { class: "others" },
      rest.map((k) =>
        el(
          "div",
          { class: "other" },
          picture(prompt.by[k].picture, methodName(k), "s40", true),
          el(
            "div",
            { class: "words" },
            el("div", {}, methodName(k)),
            el(
              "div",
              {},
              (prompt.by[k].right || []).map(counted),
              " ",
              prompt.by[k].p_yes === undefined ? "" : p2(prompt.by[k].p_yes),
              " ",
              flags(prompt.by[k].flags),
            ),
            ["A", "B"].map((who, index) =>
              el(
                "button",
                {
                  type: "button",
                  "aria-pressed": String(sides[index] === k),
                  "aria-label": `${methodName(k)} as ${who}`,
                  on: { click: () => set({ [who.toLowerCase()]: String(k) }) },
                },
                who,
              ),
            ),
          ),
        ),
      ),
    ),
  );
}
