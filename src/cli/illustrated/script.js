"use strict";
// The page can be read without this: it lights up what belongs together, and it listens to the arrow keys.
(() => {
  const all = (selector, start = document) => [...start.querySelectorAll(selector)];
  const frames = all(".unit > details");
  const heads = frames.map((frame) => frame.firstElementChild);

  // ---- octets and their field: hovered or focused, both light up ----
  let lit = [];
  const light = (target) => {
    lit.forEach((element) => element.classList.remove("lit"));
    const field = target instanceof Element ? target.closest("[data-f]") : null;
    lit = field ? all(`[data-f="${field.dataset.f}"]`, field.closest(".wire")) : [];
    lit.forEach((element) => element.classList.add("lit"));
  };
  document.addEventListener("mouseover", (event) => light(event.target));
  document.addEventListener("mouseout", () => light(document.activeElement));
  document.addEventListener("focusin", (event) => light(event.target));
  document.addEventListener("focusout", () => light(null));

  // ---- each group of octets and each table is one stop of the Tab key; arrows move inside ----
  const groups = all(".octets, .wire table").map((group) => all("a", group));
  const current = (group, link) => group.forEach((one) => { one.tabIndex = one === link ? 0 : -1; });
  groups.forEach((group) => current(group, group[0]));
  const go = (link) => {
    current(groups.find((group) => group.includes(link)), link);
    link.focus();
    link.scrollIntoView({ block: "nearest" });
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest(".wire a");
    if (!link) return;
    event.preventDefault();
    go(document.getElementById(link.hash.slice(1)));
  });

  const step = (list, from, by) => list[Math.min(Math.max(list.indexOf(from) + by, 0), list.length - 1)];
  const inFrames = (head, key) => {
    const frame = head.parentElement;
    switch (key) {
      case "ArrowDown": return step(heads, head, 1).focus();
      case "ArrowUp": return step(heads, head, -1).focus();
      case "Home": return heads[0].focus();
      case "End": return heads.at(-1).focus();
      case "ArrowRight": frame.open = true; return true;
      case "ArrowLeft": frame.open = false; return true;
      default: return false;
    }
  };
  const inFields = (link, key) => {
    const group = groups.find((one) => one.includes(link));
    switch (key) {
      case "ArrowDown": case "ArrowRight": return go(step(group, link, 1));
      case "ArrowUp": case "ArrowLeft": return go(step(group, link, -1));
      case "Home": return go(group[0]);
      case "End": return go(group.at(-1));
      case "Escape": return link.closest(".unit > details").firstElementChild.focus();
      default: return false;
    }
  };
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const link = event.target.closest(".wire a");
    const head = event.target.closest(".unit > details > summary");
    const handled = link ? inFields(link, event.key) : head ? inFrames(head, event.key) : false;
    if (handled !== false) event.preventDefault();
  });

  // ---- a link to a frame, or into one, opens it ----
  const arrive = () => {
    const target = document.getElementById(location.hash.slice(1));
    const frame = target?.closest(".unit > details");
    if (!frame) return;
    frame.open = true;
    target.scrollIntoView();
    (target === frame ? frame.firstElementChild : target).focus();
  };
  addEventListener("hashchange", arrive);
  arrive();

  // ---- all at once: by a button, and on paper ----
  const details = all("details");
  const tools = document.createElement("p");
  tools.className = "tools";
  const button = (text, open) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    made.addEventListener("click", () => frames.forEach((frame) => { frame.open = open; }));
    tools.append(made);
  };
  button("Open all frames", true);
  button("Close all", false);
  document.querySelector("nav").after(tools);
  document.querySelector(".keys").hidden = false;
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = details.filter((one) => !one.open);
    closed.forEach((one) => { one.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((one) => { one.open = false; }));
})();
