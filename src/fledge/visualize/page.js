// Without this script everything is on the page already. With it a picture opens large, and the arrow keys flip through
// the pictures of its row in place, which shows differences that side-by-side pictures hide.
const dialog = document.querySelector("dialog");
const shown = dialog.querySelector("img"), words = dialog.querySelector("p");
let row = [], at = 0;
const show = (i) => {
  at = (i + row.length) % row.length;
  const image = row[at].querySelector("img");
  shown.src = image.src;
  shown.alt = image.alt;
  words.textContent = image.alt + (row.length > 1 ? "  (" + (at + 1) + " of " + row.length + ", arrow keys)" : "");
};
for (const button of document.querySelectorAll(".zoom")) {
  button.addEventListener("click", () => {
    const cells = button.closest(".cells");
    row = cells ? [...cells.querySelectorAll(".zoom")] : [button];
    show(row.indexOf(button));
    dialog.showModal();
  });
}
dialog.addEventListener("click", () => dialog.close());
dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowRight") show(at + 1);
  if (event.key === "ArrowLeft") show(at - 1);
});
