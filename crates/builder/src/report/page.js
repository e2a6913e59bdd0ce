"use strict";
const tiles = [...document.querySelectorAll(".tile")];
const chosen = document.getElementById("chosen");

// One tile is in the order of Tab, arrow keys go on from it: hundreds of stops would bar the way to the rest of the page.
function choose(tile, focus) {
  for (const other of tiles) other.tabIndex = other === tile ? 0 : -1;
  chosen.textContent = tile.getAttribute("aria-label");
  if (focus) tile.focus();
}

// The nearest tile in a direction, by where it is drawn.
function neighbour(tile, x, y) {
  const from = tile.getBoundingClientRect();
  const middle = (box) => [box.left + box.width / 2, box.top + box.height / 2];
  const [left, top] = middle(from);
  let best = null, least = Infinity;
  for (const other of tiles) {
    const [a, b] = middle(other.getBoundingClientRect());
    const ahead = x * (a - left) + y * (b - top), aside = Math.abs(y * (a - left)) + Math.abs(x * (b - top));
    const far = ahead + 2 * aside;
    if (other !== tile && ahead > 1 && far < least) [best, least] = [other, far];
  }
  return best;
}

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
for (const tile of tiles) {
  tile.addEventListener("focus", () => choose(tile, false));
  tile.addEventListener("click", () => choose(tile, true));
  tile.addEventListener("pointerenter", () => { chosen.textContent = tile.getAttribute("aria-label"); });
  tile.addEventListener("keydown", (event) => {
    const next = event.key in MOVES ? neighbour(tile, ...MOVES[event.key])
      : event.key === "Home" ? tiles[0] : event.key === "End" ? tiles[tiles.length - 1] : undefined;
    if (next === undefined) return;
    event.preventDefault();
    if (next) choose(next, true);
  });
}
if (tiles.length) choose(tiles[0], false);
