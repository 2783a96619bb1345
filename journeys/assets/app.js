// Keeps a page as it is now: the server says that something changed, the page is fetched again and its content replaced.
// Without this script every page works and shows what was so when it was loaded.
"use strict";

const content = document.getElementById("content");
const state = document.getElementById("live");
// Milliseconds between two fetches of one page.
const PAUSE = 2000;
let source = null;
let timer = null;

function begin() {
  if (source || document.hidden) return;
  source = new EventSource(content.dataset.live);
  source.addEventListener("open", () => say(state.dataset.on));
  source.addEventListener("changed", () => {
    timer ??= setTimeout(refresh, PAUSE);
  });
  // The browser comes again by itself, unless the server said no.
  source.addEventListener("error", () => {
    say("");
    if (source?.readyState === EventSource.CLOSED) source = null;
  });
}

function end() {
  source?.close();
  source = null;
  say("");
}

async function refresh() {
  timer = null;
  // Whoever marks or types something is not disturbed.
  const chosen = document.getSelection();
  const busy = (chosen && !chosen.isCollapsed && content.contains(chosen.anchorNode)) || content.contains(document.activeElement?.closest("input, textarea, select"));
  if (document.hidden || busy) {
    timer = setTimeout(refresh, PAUSE);
    return;
  }
  const answer = await fetch(location.href, { headers: { "spoor-live": "1" }, cache: "no-store" }).catch(() => null);
  // Signed out, or nothing to show: the person sees it when they go on.
  if (!answer || answer.redirected) return end();
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const now = fresh.getElementById("content");
  if (!now || now.innerHTML === content.innerHTML) return;
  const open = [...content.querySelectorAll("details")].map((details) => details.open);
  const focused = document.activeElement?.closest("#content a[href], #content summary, #content button");
  const place = focused && [...content.querySelectorAll(focused.localName)].indexOf(focused);
  content.replaceChildren(...now.childNodes);
  content.querySelectorAll("details").forEach((details, at) => {
    details.open = open[at] ?? details.open;
  });
  if (focused) content.querySelectorAll(focused.localName)[place]?.focus({ preventScroll: true });
  if (document.title !== fresh.title) {
    document.title = fresh.title;
    // For those who do not see it.
    say(`${state.dataset.on}: ${fresh.title}`);
  }
}

function say(text) {
  state.textContent = text ?? "";
}

if (content.dataset.live) {
  begin();
  document.addEventListener("visibilitychange", () => (document.hidden ? end() : (begin(), refresh())));
  addEventListener("pagehide", end);
  addEventListener("pageshow", begin);
}
