// What Gradio's markup lacks for screen readers.
addEventListener("load", () => {
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
