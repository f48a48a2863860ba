// Sends one file after the other, then says that each study is whole, and follows it to its result.
const drop = document.getElementById("drop");
const progress = document.getElementById("progress");
const words = document.getElementById("progress-words");
const studies = new Map(); // by UID: images, made up, the cells that say so
const reasons = new Map();
let isSending = false;

const post = (path, body) => fetch(path, { method: "POST", body, headers: { "X-Form-Token": drop.dataset.token, "Content-Type": body ? "application/octet-stream" : "" } });
const cell = (row, label, text = "") => {
  const made = row.insertCell();
  made.dataset.of = label;
  made.textContent = text;
  return made;
};

function shown(uid) {
  if (!studies.has(uid)) {
    const row = document.getElementById("studies").insertRow();
    const link = document.createElement("a");
    link.className = "uid";
    link.href = `/studies/${uid}`;
    link.textContent = uid;
    row.insertCell().append(link);
    const images = cell(row, "Images");
    images.className = "number";
    studies.set(uid, { images: 0, cells: { images, state: cell(row, "State", "received"), madeUp: cell(row, "Made up", "no") } });
    document.getElementById("results").hidden = false;
  }
  return studies.get(uid);
}

function refused(reason) {
  reasons.set(reason, (reasons.get(reason) || 0) + 1);
  const items = [...reasons].map(([text, count]) => {
    const item = document.createElement("li");
    item.textContent = `${count} × ${text}`;
    return item;
  });
  document.getElementById("reasons").replaceChildren(...items);
  document.getElementById("refused").hidden = document.getElementById("results").hidden = false;
}

async function sendOne(file) {
  const answer = await post(drop.dataset.path, file);
  if (!answer.ok) return refused(`${answer.status}: not taken`);
  for (const each of await answer.json()) {
    if (each.reason) { refused(each.reason); continue; }
    const study = shown(each.study_instance_uid);
    study.cells.images.textContent = ++study.images;
    if (each.is_made_up) study.cells.madeUp.textContent = "patient, spacing, orientation";
  }
}

async function follow(uid) {
  const study = studies.get(uid);
  for (let answer = await post(`/send/${uid}/complete`); answer.ok; answer = await fetch(`/send/${uid}/result`)) {
    const { state, is_finished } = await answer.json();
    study.cells.state.textContent = state;
    if (is_finished) return;
    await new Promise(resolve => setTimeout(resolve, 1000));
  }
}

async function send(files) {
  if (isSending || !files.length) return;
  isSending = true;
  progress.hidden = false;
  progress.max = files.length;
  const sent = new Set();
  for (const [number, file] of files.entries()) {
    words.textContent = `${number + 1} of ${files.length}`;
    const before = new Map([...studies].map(([uid, study]) => [uid, study.images]));
    await sendOne(file).catch(() => refused("the service did not answer"));
    for (const [uid, study] of studies) if (study.images !== before.get(uid)) sent.add(uid);
    progress.value = number + 1;
  }
  words.textContent = `${files.length} sent`;
  isSending = false;
  await Promise.all([...sent].map(follow));
}

// Files of a folder that was dropped, to any depth.
async function below(entry) {
  if (entry.isFile) return [await new Promise((found, failed) => entry.file(found, failed))];
  const reader = entry.createReader(), all = [];
  for (let some; (some = await new Promise((found, failed) => reader.readEntries(found, failed))).length;) all.push(...some);
  return (await Promise.all(all.map(below))).flat();
}

for (const id of ["files", "folder"]) {
  document.getElementById(id).addEventListener("change", event => send([...event.target.files]));
}
drop.addEventListener("dragover", event => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", async event => {
  event.preventDefault();
  drop.classList.remove("over");
  const entries = [...event.dataTransfer.items].map(item => item.webkitGetAsEntry()).filter(Boolean);
  send((await Promise.all(entries.map(below))).flat());
});
