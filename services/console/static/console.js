// Keyboard: "/" searches, "g" and a letter goes to a page, "?" shows the keys. Live parts rest while hidden.
let pending = "";

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    const field = document.querySelector("[type=search]");
    if (field) { event.preventDefault(); field.focus(); }
  } else if (event.key === "?") {
    document.getElementById("keys")?.showModal();
  } else if (pending === "g") {
    document.querySelector(`nav a[data-key="${CSS.escape(event.key)}"]`)?.click();
  }
  pending = event.key === "g" ? "g" : "";
});

document.addEventListener("htmx:beforeRequest", (event) => {
  const isPolling = event.detail.elt.matches("[data-poll]");
  if (isPolling && document.hidden) event.preventDefault();
});

// A part that was read again can change the icon of the page; one that could not be read is marked as old.
document.addEventListener("htmx:afterSettle", () => {
  const icon = document.querySelector("[data-icon]")?.dataset.icon;
  const link = document.querySelector("link[rel=icon]");
  if (icon) link.href = link.href.replace(/icon(-red)?\.svg/, icon === "red" ? "icon-red.svg" : "icon.svg");
});
for (const fault of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
  document.addEventListener(fault, (event) => {
    if (event.detail.elt.matches("[data-poll]")) event.detail.elt.classList.add("old");
  });
}
