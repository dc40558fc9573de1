// What is wider than its column scrolls by itself; the keyboard must reach it.
function reach() {
  const boxes = document.querySelectorAll(".tcseg-scroll, .pst-scrollable-table-container, .bd-article pre, .formula, .cell_output");
  boxes.forEach(box => {
    if (box.scrollWidth > box.clientWidth + 1) box.setAttribute("tabindex", "0");
    else box.removeAttribute("tabindex");
  });
}
addEventListener("load", reach);
addEventListener("resize", reach);
document.addEventListener("toggle", reach, true);
