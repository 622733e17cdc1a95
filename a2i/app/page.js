// MEGABYTES: of the largest file, from the settings.

addEventListener("load", () => {
  // What Gradio's markup lacks for screen readers: the line about progress is read out when it changes.
  const mend = () => {
    const status = document.getElementById("status");
    if (status && !status.hasAttribute("role")) {
      status.setAttribute("role", "status");
      status.setAttribute("aria-live", "polite");
    }
  };
  new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
  mend();
});

// A file that is too large is not sent at all.
const checkSize = (event, files) => {
  if (!event.target.closest?.("#file")) return;
  document.getElementById("too-large")?.remove();
  const file = [...(files ?? [])].find((each) => each.size > MEGABYTES * 1e6);
  if (!file) return;
  event.stopImmediatePropagation();
  event.preventDefault();
  const line = document.createElement("p");
  line.id = "too-large";
  line.className = "error";
  line.setAttribute("role", "alert");
  line.textContent = `${file.name} has ${(file.size / 1e6).toFixed(1)} MB; expected a sound of at most ${MEGABYTES} MB`;
  document.getElementById("progress").prepend(line);
};
addEventListener("drop", (event) => checkSize(event, event.dataTransfer?.files), true);
addEventListener("change", (event) => checkSize(event, event.target.files), true);
