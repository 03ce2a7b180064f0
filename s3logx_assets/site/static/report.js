// Comfort only: tables that sort, a list that filters, figures under the pointer. Everything is on the page without it.
"use strict";

// A click on a column's head sorts by it; the other way round with the next.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const up = now ? now === "descending" : column === 0;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => {
        const cell = row.cells[column];
        return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
      };
      const order = new Intl.Collator("en", { numeric: true }).compare;
      const rows = [...body.rows].map((row) => [key(row), row]);
      rows.sort(([a], [b]) => (typeof a === "number" ? a - b : order(a, b)) * (up ? 1 : -1));
      body.append(...rows.map(([, row]) => row));
    });
  });
}

// The search over datasets: every word must occur. The words stand in the address, so that a search can be linked to.
for (const input of document.querySelectorAll("[data-filter]")) {
  const rows = [...document.getElementById(input.dataset.filter).tBodies[0].rows];
  const names = rows.map((row) => row.cells[0].textContent.toLowerCase());
  const found = document.getElementById("found");
  const filter = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    rows.forEach((row, index) => {
      row.hidden = !words.every((word) => names[index].includes(word));
      count += !row.hidden;
    });
    found.textContent = words.length ? `${count.toLocaleString("en")} found` : "";
  };
  input.value = new URLSearchParams(location.search).get("q") || "";
  input.form.addEventListener("submit", (event) => event.preventDefault());
  input.addEventListener("input", () => {
    filter();
    const query = input.value ? `?q=${encodeURIComponent(input.value)}` : location.pathname;
    try { history.replaceState(null, "", query); } catch { /* a page opened as a file has no address to change */ }
  });
  filter();
}

// Over a chart: the figures of the period under the pointer, as the table beside the chart has them.
for (const view of document.querySelectorAll(".view")) {
  const plot = view.querySelector(".plot");
  const table = view.closest(".chart").querySelector(`.figures-${view.dataset.unit} table`);
  const slots = Number(table.dataset.slots);
  const rows = new Map([...table.tBodies[0].rows].map((row) => [Number(row.dataset.i), row]));
  const heads = [...table.tHead.rows[0].cells].map((head) => head.textContent);
  const hint = document.createElement("div");
  const cursor = document.createElement("div");
  hint.className = "hint";
  cursor.className = "cursor";
  hint.hidden = cursor.hidden = true;
  plot.append(cursor, hint);
  const leave = () => { hint.hidden = cursor.hidden = true; };
  plot.addEventListener("pointerleave", leave);
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const slot = Math.floor(((event.clientX - box.left) / box.width) * slots);
    const row = rows.get(slot);
    if (!row) return leave();
    hint.replaceChildren(...[...row.cells].map((cell, index) => {
      const line = document.createElement("div");
      line.textContent = index ? `${heads[index]}: ${cell.textContent}` : cell.textContent;
      return line;
    }));
    hint.hidden = cursor.hidden = false;
    cursor.style.left = `${(100 * slot) / slots}%`;
    cursor.style.width = `${100 / slots}%`;
    const right = ((slot + 1) / slots) * box.width;
    hint.style.left = `${Math.min(right + 6, box.width - hint.offsetWidth)}px`;
  });
}

// Over the map: the name of a region, sooner than the browser's own hint and also by touch.
for (const map of document.querySelectorAll(".map")) {
  const hint = document.createElement("div");
  hint.className = "hint";
  hint.hidden = true;
  map.append(hint);
  for (const circle of map.querySelectorAll("circle")) {
    const title = circle.querySelector("title");
    const text = title.textContent;
    title.remove();
    circle.addEventListener("pointerenter", (event) => {
      const box = map.getBoundingClientRect();
      hint.textContent = text;
      hint.hidden = false;
      hint.style.left = `${Math.min(event.clientX - box.left + 10, box.width - hint.offsetWidth)}px`;
      hint.style.top = `${event.clientY - box.top + 10}px`;
    });
    circle.addEventListener("pointerleave", () => { hint.hidden = true; });
  }
}
