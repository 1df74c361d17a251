// The page begins.
function show() {
  const prompts = state.view === "prompts";
  $("overview").hidden = prompts;
  $("prompts").hidden = !prompts;
  for (const [id, on] of [
    ["go-overview", !prompts],
    ["go-prompts", prompts],
  ]) {
    if (on) $(id).setAttribute("aria-current", "page");
    else $(id).removeAttribute("aria-current");
  }
  if (prompts) {
    showList();
    showDetail();
  } else showOverview();
}

async function begin() {
  readState();
  document.addEventListener("keydown", pressed);
  $("theme").addEventListener("click", theme);
  $("help").addEventListener("click", () => $("keys").showModal());
  buildKeys();
  try {
    await open();
  } catch (error) {
    $("overview").hidden = false;
    $("overview").replaceChildren(el("p", { role: "alert" }, error.message));
    return;
  }
  const names = page.sources.map((source) => source.name);
  $("title").textContent =
    names.length > 3 ? `${names.slice(0, 3).join(", ")} and ${names.length - 3} more` : names.join(", ");
  document.title = `${$("title").textContent} · imagecot`;
  if (page.prompts.length) buildFilters();
  else $("go-prompts").disabled = true;
  $("go-overview").addEventListener("click", () => set({ view: "overview" }));
  $("go-prompts").addEventListener("click", () => set({ view: "prompts" }));
  changed.push(show);
  addEventListener("popstate", () => {
    readState();
    show();
  });
  addEventListener("hashchange", () => {
    readState();
    show();
  });
  start();
  document.documentElement.dataset.ready = "yes";
}

// A page without an address begins where there is most to see: at its prompt where there is one, else at the overview.
function start() {
  const known = shownMethods();
  if (state.b === "" && known.length > 1 && page.prompts.length && !location.hash) state.b = String(beside(known));
  if (!state.view && page.prompts.length === 1) {
    Object.assign(state, { view: "prompts", p: "0" });
  } else if (!state.view) state.view = "overview";
  if (!page.prompts.length) state.view = "overview";
  show();
}

// The method that shares most prompts with the first one.
function beside(known) {
  const shared = (k) => page.prompts.filter((prompt) => prompt.by[known[0]] && prompt.by[k]).length;
  return known.slice(1).reduce((best, k) => (shared(k) > shared(best) ? k : best));
}

begin();
