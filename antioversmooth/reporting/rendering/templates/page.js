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

// Up, down, and back to the order of the paper.
const next = { null: "ascending", ascending: "descending", descending: null };

headers.forEach((header, column) => {
  header.firstElementChild.addEventListener("click", () => {
    const order = next[header.getAttribute("aria-sort")];
    headers.forEach((other) => other.removeAttribute("aria-sort"));
    if (order) header.setAttribute("aria-sort", order);
    const known = (body) => body.rows[0].cells[column].dataset.value !== "";
    const sign = order === "descending" ? -1 : 1;
    const sorted = [...bodies].sort((a, b) =>
      known(b) - known(a) || sign * compare(key(a, column), key(b, column)));
    table.append(...(order ? sorted : bodies));
  });
});

// Every cell unfolds where its row comes from, unless the click only selected text.
bodies.forEach((body) => {
  const more = body.querySelector("details");
  if (!more) return;
  body.rows[0].addEventListener("click", () => {
    if (getSelection().isCollapsed) more.open = !more.open;
  });
});

const unfold = document.getElementById("unfold");
unfold.addEventListener("click", () => {
  const open = unfold.getAttribute("aria-expanded") !== "true";
  unfold.setAttribute("aria-expanded", open);
  unfold.textContent = open ? "Fold all provenance" : "Unfold all provenance";
  document.querySelectorAll(".more > td > details").forEach((it) => { it.open = open; });
});
