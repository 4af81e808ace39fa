const rows = [...document.querySelectorAll("details")];
const data = document.getElementById("held");
const held = data ? JSON.parse(data.textContent) : null;
const places = new Map(rows.map((row, at) => [row, at]));
const fill = row => {
  const more = row.lastElementChild;
  if (held && more && !more.hasChildNodes()) more.innerHTML = held[places.get(row)];
};
const nearby = held && new IntersectionObserver(
  seen => seen.filter(one => one.isIntersecting).forEach(one => { fill(one.target); nearby.unobserve(one.target); }),
  { rootMargin: "1000px" },
);
const button = document.createElement("button");
button.type = "button";
const openAll = () => {
  const open = button.textContent === "Open all";
  for (const row of rows) row.open = open;
};
let waits = false;
const follow = () => {
  waits = false;
  button.textContent = rows.every(row => row.open) ? "Close all" : "Open all";
};
document.addEventListener("toggle", event => {
  if (held && event.target.open) nearby.observe(event.target);
  if (!waits) requestAnimationFrame(follow);
  waits = true;
}, true);
button.addEventListener("click", openAll);
follow();
document.querySelector(".hint")?.append(button);
