"use strict";
// Orders the trials by a column; without this script they stand in their own order.
const table = document.getElementById("table");
const heads = [...table.tHead.rows[0].cells];

for (const [column, head] of heads.entries()) {
  head.firstElementChild.addEventListener("click", () => {
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const each of heads) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const value = (row) => row.cells[column].dataset.value;
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === ""); // what is missing comes last either way
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y, "en", { numeric: true }) : x - y;
      return descending ? -order : order;
    });
    table.tBodies[0].append(...rows);
  });
}
