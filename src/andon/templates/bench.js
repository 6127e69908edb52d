"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const first = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, k) => {
    const cell = row.cells[k];
    return cell.dataset.order !== undefined ? (cell.dataset.order === "" ? NaN : Number(cell.dataset.order)) : cell.textContent.trim();
  };
  heads.forEach((head, k) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      const isNumber = first.some((row) => row.cells[k].dataset.order);
      const steps = isNumber ? [null, "descending", "ascending"] : [null, "ascending", "descending"];
      const next = steps[(steps.indexOf(before) + 1) % 3];
      if (next === null) { body.append(...first); return; }
      head.setAttribute("aria-sort", next);
      const sign = next === "ascending" ? 1 : -1;
      body.append(...[...first].sort((a, b) => {
        const x = value(a, k), y = value(b, k);
        if (typeof x === "string" || typeof y === "string") return sign * String(x).localeCompare(String(y), "en", { numeric: true });
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return sign * (x - y);
      }));
    });
  });
  if (table.classList.contains("filtered")) {
    const input = document.createElement("input");
    input.type = "search";
    input.placeholder = "show only lines with …";
    input.setAttribute("aria-label", "Show only lines with these words");
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of body.rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
    });
    table.parentElement.before(input);
  }
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
