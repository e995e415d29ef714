"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  for (const group of all("fieldset.switch")) {
    const figure = document.getElementById(group.dataset.for);
    group.hidden = false;
    group.addEventListener("change", () => {
      const choice = all("fieldset.switch input:checked", figure).map((input) => input.value).join("|");
      for (const view of all(".view", figure)) view.hidden = view.dataset.choice !== choice;
    });
  }

  for (const box of all("input[data-layer]")) {
    const figure = document.getElementById(box.dataset.for);
    box.closest("label").hidden = false;
    box.addEventListener("change", () => {
      for (const line of all(`.layer-${box.dataset.layer}`, figure)) line.classList.toggle("hide-layer", !box.checked);
    });
  }

  const key = (row, index) => {
    const cell = row.cells[index];
    if (!cell.classList.contains("number")) return cell.textContent.trim().toLowerCase();
    return "value" in cell.dataset ? Number(cell.dataset.value) : NaN;
  };
  const compare = (a, b) => {
    if (typeof a === "string") return a < b ? -1 : a > b ? 1 : 0;
    if (Number.isNaN(a)) return Number.isNaN(b) ? 0 : 1;
    return Number.isNaN(b) ? -1 : a - b;
  };
  for (const table of all("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows].map((row) => [key(row, index), row]);
        rows.sort(([a], [b]) => (Number.isNaN(a) || Number.isNaN(b) || !down ? compare(a, b) : compare(b, a)));
        table.tBodies[0].append(...rows.map(([, row]) => row));
      });
    });
  }

  for (const button of all("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const text = button.parentElement.querySelector("pre");
      try {
        await navigator.clipboard.writeText(text.textContent);
        button.textContent = "Copied";
      } catch {
        const range = document.createRange();
        range.selectNodeContents(text);
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }

  let folded = [];
  addEventListener("beforeprint", () => {
    folded = all("details:not([open])").filter((part) => !part.matches(".first .snippet"));
    for (const part of folded) part.open = true;
  });
  addEventListener("afterprint", () => {
    for (const part of folded) part.open = false;
  });
})();
