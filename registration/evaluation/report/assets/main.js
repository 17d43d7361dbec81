// Which page is shown, and in which colours.

/** The pair named in the address, or -1. */
function currentPair() {
  if (!location.hash.startsWith("#pair=")) return -1;
  let id = location.hash.slice(6);
  try {
    id = decodeURIComponent(id);
  } catch {
    // Not ours; looked up as it stands.
  }
  return data.cases.findIndex((entry) => entry.id === id);
}

function route() {
  const c = currentPair();
  tip.hide();
  $("cohort-view").hidden = c >= 0;
  $("pair-view").hidden = c < 0;
  $("pick").value = c >= 0 ? c : "";
  if (c >= 0) {
    $("to-cohort").removeAttribute("aria-current");
    drawPair(c);
    scrollTo(0, 0);
  } else {
    $("to-cohort").setAttribute("aria-current", "page");
    if (!$("cohort-view").childElementCount) drawCohort();
  }
  document.title = c >= 0 ? `${data.cases[c].id} \u2013 ${data.title}` : `${data.title}: ${data.cases.length} pairs registered`;
}

function chooseTheme() {
  const box = $("theme");
  // A page opened from disk may have no storage; then the choice lasts as long as the page.
  let stored = null;
  try {
    stored = localStorage.getItem("registration-theme");
  } catch {
    stored = null;
  }
  const apply = () => {
    if (box.value === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = box.value;
  };
  if (["light", "dark"].includes(stored)) box.value = stored;
  box.addEventListener("change", () => {
    apply();
    try {
      localStorage.setItem("registration-theme", box.value);
    } catch {
      // Nothing is lost but the memory of it.
    }
  });
  apply();
}

function start() {
  const count = data.cases.length;
  $("title").textContent = data.title;
  $("about").textContent = `${count} ${count === 1 ? "pair" : "pairs"} registered and judged`
    + `${failed.length ? `, ${failed.length} failed` : ""}; distances in mm, before is as the headers place the images`;
  const pick = $("pick");
  replace(pick, el("option", { value: "" }, "\u2013"), data.cases.map((entry, c) => el("option", { value: c }, entry.id)));
  pick.addEventListener("change", () => {
    location.hash = pick.value === "" ? "#cohort" : linkTo(Number(pick.value));
  });
  chooseTheme();
  addEventListener("hashchange", route);
  addEventListener("keydown", pairKey);
  if (!location.hash && count === 1) history.replaceState(null, "", linkTo(0));
  route();
  document.documentElement.dataset.ready = "yes";
}

start();
