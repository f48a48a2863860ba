// Takes the changing part of the page anew when the ledger changed. What is open or has the focus stays so.
const live = document.getElementById("live");
const state = document.getElementById("live-state");
let waits = false;

const kept = element => element && element.dataset && (element.dataset.keeps || element.getAttribute("href"));

async function refresh() {
  if (waits) return;
  waits = true;
  try {
    const answer = await fetch("/now/part", { headers: { "X-Part": "1" } });
    if (answer.status === 401) return location.assign("/enter");
    if (!answer.ok) throw new Error(answer.status);
    if (live.querySelector("details[open]")) return; // somebody is deciding
    const focus = live.contains(document.activeElement) ? kept(document.activeElement) : null;
    live.innerHTML = await answer.text(); // made by our templates, which escape every text
    const again = focus && [...live.querySelectorAll("a, button")].find(each => kept(each) === focus);
    if (again) again.focus({ preventScroll: true });
    state.textContent = `live, as of ${new Date().toLocaleTimeString()}`;
  } catch {
    state.textContent = "The service does not answer; this is what it said last.";
  } finally {
    setTimeout(() => { waits = false; }, 500);
  }
}

const changes = new EventSource("/now/changes");
changes.addEventListener("change", refresh);
changes.addEventListener("error", () => { state.textContent = "The service does not answer; this is what it said last."; });
