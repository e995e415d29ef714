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

  const FEW = 12;
  for (const table of all("table.sortable")) {
    if (table.tBodies[0].rows.length <= FEW) continue;
    const box = Object.assign(document.createElement("input"), { type: "search" });
    const left = document.createElement("output");
    const label = document.createElement("label");
    label.className = "filter";
    label.append("Show rows with ", box, " ", left);
    table.closest(".scroll").before(label);
    box.addEventListener("input", () => {
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of table.tBodies[0].rows) {
        const text = [...row.cells].map((cell) => cell.textContent.toLowerCase()).join(" ");
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      }
      left.textContent = words.length ? `${shown} of ${table.tBodies[0].rows.length}` : "";
    });
  }

  // Spreadsheets take text that begins like this for a formula.
  const field = (text) => `"${text.replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`;
  const csv = (table) => {
    const rows = [...table.tBodies[0].rows], heads = [...table.tHead.rows[0].cells].map((head) => head.textContent);
    const bound = heads.map((_, at) => rows.some((row) => "lo" in row.cells[at].dataset || "hi" in row.cells[at].dataset));
    const lines = [heads.flatMap((head, at) => (bound[at] ? [head, `${head} low`, `${head} high`] : [head])).map(field).join(",")];
    for (const row of rows) {
      lines.push([...row.cells].flatMap((cell, at) => {
        const { value = "", lo = "", hi = "" } = cell.dataset;
        const own = cell.classList.contains("number") ? value : field(cell.textContent.trim());
        return bound[at] ? [own, lo, hi] : [own];
      }).join(","));
    }
    return lines.join("\r\n") + "\r\n";
  };
  for (const table of all("details.numbers table")) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "csv", textContent: "CSV" });
    button.setAttribute("aria-label", `CSV of ${table.closest(".scroll").getAttribute("aria-label")}`);
    table.closest(".scroll").after(button);
    button.addEventListener("click", () => {
      const address = URL.createObjectURL(new Blob([csv(table)], { type: "text/csv" }));
      Object.assign(document.createElement("a"), { href: address, download: `${table.id.replace(/-table$/, "")}.csv` }).click();
      setTimeout(() => URL.revokeObjectURL(address), 1000);
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
