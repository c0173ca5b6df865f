// Sorting: each row of the table is a <tbody>, so that it keeps its details when it moves.
const table = document.querySelector("table.results");
const headers = [...table.tHead.rows[0].cells];
const bodies = [...table.tBodies];

function key(body, column) {
  const cell = body.rows[0].cells[column];
  return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
}

function compare(a, b) {
  if (typeof a === "string" || typeof b === "string") return String(a).localeCompare(String(b));
  return a - b;
}

headers.forEach((header, column) => {
  header.firstElementChild.addEventListener("click", () => {
    const falls = header.getAttribute("aria-sort") === "ascending";
    headers.forEach((other) => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", falls ? "descending" : "ascending");
    const known = (body) => body.rows[0].cells[column].dataset.value !== "";
    bodies.sort((a, b) =>
      known(b) - known(a) || (falls ? -1 : 1) * compare(key(a, column), key(b, column)));
    table.append(...bodies);
  });
});

// Paper has no triangles to click on.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((it) => { it.open = true; }));
