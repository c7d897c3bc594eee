"use strict";
(() => {
  const {names, places, words} = JSON.parse(document.getElementById("columns").textContent);
  const body = document.querySelector("#map tbody"), tip = document.getElementById("tip"), find = document.getElementById("find");
  const rows = [...body.rows];
  const column = (event, svg) => {
    const box = svg.getBoundingClientRect();
    return Math.min(names.length - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * names.length)));
  };
  body.addEventListener("pointermove", (event) => {
    const svg = event.target.closest("svg");
    if (!svg) { tip.hidden = true; return; }
    const at = column(event, svg), path = event.target.closest("path");
    const who = svg.closest("tr").querySelector("a").textContent;
    tip.textContent = `${who}: ${names[at]}${path ? ", " + words[path.getAttribute("class")] : ""}`;
    tip.hidden = false;
  });
  body.addEventListener("pointerleave", () => { tip.hidden = true; });
  body.addEventListener("click", (event) => {
    const svg = event.target.closest("svg");
    if (svg) location.href = svg.closest("tr").querySelector("a").getAttribute("href") + "#" + places[column(event, svg)];
  });
  const keys = {
    name: (row) => row.querySelector("a").textContent.toLowerCase(),
    score: (row) => -Number(row.dataset.s),
    time: (row) => -Number(row.dataset.t),
  };
  let last = "name", turned = 1;
  for (const button of document.querySelectorAll("#map [data-sort]")) {
    button.addEventListener("click", () => {
      const by = button.dataset.sort;
      turned = by === last ? -turned : 1;
      last = by;
      const order = rows.map((row) => [keys[by](row), row]);
      order.sort((a, b) => (a[0] < b[0] ? -turned : a[0] > b[0] ? turned : 0));
      body.append(...order.map((pair) => pair[1]));
    });
  }
  find.addEventListener("input", () => {
    const wanted = find.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !row.querySelector("a").textContent.toLowerCase().includes(wanted);
      shown += !row.hidden;
    }
    document.getElementById("count").textContent = wanted ? `${shown} of ${rows.length}` : "";
  });
})();
