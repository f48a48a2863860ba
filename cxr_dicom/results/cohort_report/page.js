"use strict";
// The table of all images: unpacked once into arrays, filtered and sorted as numbers, 50 rows on the page at a time.
(async () => {
  const PAGE = 50, NONE = 65535;
  const $ = id => document.getElementById(id);
  const layout = JSON.parse($("layout").textContent);
  const words = name => (name[0].toUpperCase() + name.slice(1)).replaceAll("_", " ");
  const element = (name, text, className) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };

  async function unpack() {
    const bytes = Uint8Array.from(atob($("packed").textContent), letter => letter.charCodeAt(0));
    $("packed").remove();
    const text = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
    const lines = text.split("\n");
    lines.pop();
    const count = lines.length, width = layout.scores.length;
    const rows = {
      count, uid: new Array(count), study: new Array(count), outcome: new Uint8Array(count), reason: new Uint8Array(count),
      view: new Uint8Array(count), warnings: new Uint16Array(count), ratio: new Float32Array(count), lungs: new Float32Array(count),
      scores: new Uint16Array(count * width).fill(NONE),
    };
    lines.forEach((line, row) => {
      const [uid, study, outcome, reason, view, warnings, ratio, lungs, scores] = line.split("\t");
      rows.uid[row] = uid; rows.study[row] = study; rows.outcome[row] = outcome; rows.reason[row] = reason;
      rows.view[row] = view; rows.warnings[row] = warnings;
      rows.ratio[row] = ratio === "" ? NaN : ratio / 1000;
      rows.lungs[row] = lungs === "" ? NaN : lungs;
      if (scores) scores.split(",").forEach((value, place) => { if (value !== "") rows.scores[row * width + place] = value; });
    });
    return rows;
  }

  const rows = await unpack();
  const width = layout.scores.length;
  const score = (row, place) => { const value = rows.scores[row * width + place]; return value === NONE ? NaN : value / 1000; };
  const own = layout.scores.map((_, place) => place).filter(place => layout.pointed[place] && !layout.scores[place].includes("__"));
  const present = row => {
    const found = own.filter(place => score(row, place) > 0.5).sort((a, b) => score(row, b) - score(row, a) || a - b);
    return found.slice(0, 3).map(place => words(layout.scores[place])).join(", ") + (found.length > 3 ? ` and ${found.length - 3} more` : "");
  };
  const state = { shown: new Uint32Array(0), page: 0, key: "line", descending: false, scored: layout.scores.length ? 0 : -1 };

  const columns = [
    { key: "line", title: "Line", number: true, value: row => row, cell: row => row + 1 },
    { key: "uid", title: "SOP Instance UID", cell: row => rows.uid[row] || "not known", className: "uid" },
    { key: "outcome", title: "Outcome", value: row => rows.outcome[row] * 256 + rows.reason[row],
      cell: row => layout.reasons[rows.reason[row]] || layout.outcomes[rows.outcome[row]], tag: row => layout.outcomes[rows.outcome[row]] },
    { key: "view", title: "View", value: row => rows.view[row], cell: row => layout.views[rows.view[row]] },
    { key: "ratio", title: "CT ratio", number: true, value: row => rows.ratio[row], cell: row => shown(rows.ratio[row], 3) },
    { key: "lungs", title: "Lungs, cm²", number: true, value: row => rows.lungs[row], cell: row => shown(rows.lungs[row], 0) },
  ];
  if (width) columns.push(
    { key: "score", title: "Score", number: true, value: row => score(row, state.scored), cell: row => shown(score(row, state.scored), 3) },
    { key: "present", title: "Called present", cell: present, className: "words" });
  columns.push({ key: "warnings", title: "Warnings", number: true, value: row => rows.warnings[row], cell: row => rows.warnings[row] || "" });
  const shown = (value, digits) => Number.isNaN(value) ? "" : value.toFixed(digits);

  function option(select, value, text) { const made = element("option", text); made.value = value; select.append(made); }
  option($("outcome"), "", "all");
  layout.outcomes.forEach((name, place) => { if (rows.outcome.includes(place)) option($("outcome"), `o${place}`, name); });
  layout.reasons.forEach((name, place) => { if (place && rows.reason.includes(place)) option($("outcome"), `r${place}`, name); });
  option($("view"), "", "all");
  layout.views.forEach((name, place) => { if (rows.view.includes(place)) option($("view"), place, name || "not stated"); });
  layout.scores.forEach((name, place) => option($("score"), place, words(name)));
  $("score").parentElement.hidden = !width;

  function matcher() {
    const wanted = $("search").value.trim().toLowerCase(), outcome = $("outcome").value, view = $("view").value;
    const line = /^\d{1,7}$/.test(wanted) ? Number(wanted) - 1 : -1;
    const named = /[a-z]/.test(wanted) ? layout.scores.map((name, place) => place).filter(
      place => layout.pointed[place] && words(layout.scores[place]).toLowerCase().includes(wanted)) : [];
    const matches = row => line >= 0 ? row === line
      : rows.uid[row].includes(wanted) || rows.study[row].includes(wanted) || named.some(place => score(row, place) > 0.5);
    return row => (!wanted || matches(row)) && (view === "" || rows.view[row] === Number(view)) && (!outcome
      || (outcome[0] === "o" ? rows.outcome : rows.reason)[row] === Number(outcome.slice(1)));
  }

  function select() {
    const found = [], matches = matcher();
    for (let row = 0; row < rows.count; row += 1) if (matches(row)) found.push(row);
    const column = columns.find(each => each.key === state.key), sign = state.descending ? -1 : 1;
    if (column.value) {
      const keys = new Float64Array(rows.count);
      for (const row of found) keys[row] = column.value(row);
      found.sort((a, b) => Number.isNaN(keys[a]) - Number.isNaN(keys[b]) || sign * (keys[a] - keys[b]) || a - b);
    } else {
      const keys = new Map(found.map(row => [row, String(column.cell(row))]));
      found.sort((a, b) => { const x = keys.get(a), y = keys.get(b); return sign * (x < y ? -1 : x > y ? 1 : 0) || a - b; });
    }
    state.shown = Uint32Array.from(found);
    state.page = 0;
    draw();
  }

  function draw() {
    const head = element("tr");
    for (const column of columns) {
      const title = column.key === "score" ? words(layout.scores[state.scored]) : column.title;
      const cell = element("th", undefined, column.number ? "number" : ""), button = element("button", title);
      if (column.key === state.key) cell.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
      button.onclick = () => {
        state.descending = column.key === state.key ? !state.descending : Boolean(column.number) && column.key !== "line";
        state.key = column.key;
        select();
      };
      cell.append(button);
      head.append(cell);
    }
    $("rows").tHead.replaceChildren(head);
    const start = state.page * PAGE, body = [];
    for (const row of state.shown.subarray(start, start + PAGE)) {
      const line = element("tr");
      line.title = `Study ${rows.study[row] || "not known"}`;
      for (const column of columns) {
        const cell = element("td", undefined, column.className || (column.number ? "number" : ""));
        cell.append(column.tag ? element("span", column.cell(row), `tag ${column.tag(row)}`) : String(column.cell(row)));
        line.append(cell);
      }
      body.push(line);
    }
    $("rows").tBodies[0].replaceChildren(...body);
    const whole = rows.count.toLocaleString("en"), some = state.shown.length.toLocaleString("en");
    $("state").textContent = `${some} of ${whole} images`;
    const pages = Math.max(1, Math.ceil(state.shown.length / PAGE));
    $("place").textContent = `page ${(state.page + 1).toLocaleString("en")} of ${pages.toLocaleString("en")}`;
    $("previous").disabled = state.page === 0;
    $("next").disabled = state.page >= pages - 1;
  }

  let later;
  $("search").oninput = () => { clearTimeout(later); later = setTimeout(select, 120); };
  $("outcome").onchange = $("view").onchange = select;
  $("score").onchange = () => { state.scored = Number($("score").value); state.key = "score"; state.descending = true; select(); };
  $("previous").onclick = () => { state.page -= 1; draw(); };
  $("next").onclick = () => { state.page += 1; draw(); };
  $("save").onclick = () => {
    const studies = new Set(Array.from(state.shown, row => rows.study[row]).filter(Boolean));
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([[...studies].join("\n") + "\n"], { type: "text/plain" }));
    link.download = "studies.txt";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  for (const button of document.querySelectorAll(".find")) button.onclick = () => {
    $("search").value = button.dataset.find;
    $("outcome").value = $("view").value = "";
    select();
    $("images").scrollIntoView();
  };
  $("explorer").querySelector(".tools").hidden = $("explorer").querySelector(".pager").hidden = $("rows").hidden = false;
  select();
})().catch(error => { document.getElementById("state").textContent = `The table cannot be shown (${error.name}). results.csv has all rows.`; });
